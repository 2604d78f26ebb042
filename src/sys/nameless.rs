//! Processes that hold a file without a name, told by the kernel itself.
//!
//! To ask for each descriptor of each process is a system call each. The kernel can go over all of them by itself
//! (`Documentation/bpf/bpf_iterators.rst`): a program of some 40 instructions looks at each open file, another at each
//! mapping, and names the process where a file may have no name. They read, and write nothing but these numbers; they
//! are gone when this function returns. What they name is only where to look: the proof is stat(2), as ever.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::io::{Errno, read};

use super::btf::{Kind, Types};
use super::raw::{self, Instruction};
use crate::domain::identity::Pid;

/// The kernel's description of its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// `OVERLAYFS_SUPER_MAGIC`, include/uapi/linux/magic.h. A file of an overlay can have lost its name below, which only
/// stat(2) tells.
const OVERLAY: i32 = 0x794c_7630;
/// `S_IFMT` and `S_IFREG`.
const TYPE_MASK: i32 = 0xf000;
const REGULAR: i32 = 0x8000;
/// Numbers of processes that are read at once.
const ROOM: usize = 64 << 10;

/// The processes that may hold a regular file without a name, open or mapped, by their numbers in our own pid namespace.
/// None where this kernel does not tell, this login may not ask, or there was not time.
pub fn holders(until: Instant) -> Option<BTreeSet<Pid>> {
    let layout = Layout::of(&Types::of_kernel(Path::new(TYPES))?)?;
    thread::scope(|scope| {
        let mapped =
            thread::Builder::new().spawn_scoped(scope, || ask(&layout, Over::Mappings, until)).ok()?;
        let open = ask(&layout, Over::Files, until);
        let mut holders = mapped.join().ok()??;
        holders.append(&mut open?);
        Some(holders)
    })
}

fn ask(layout: &Layout, over: Over, until: Instant) -> Option<BTreeSet<Pid>> {
    let function = match over {
        Over::Files => layout.files,
        Over::Mappings => layout.mappings,
    };
    let program = raw::load_iterator(&program(layout, over)?, function).ok()?;
    numbers(&raw::iterate(program.as_fd()).ok()?, until)
}

fn numbers(iterator: &OwnedFd, until: Instant) -> Option<BTreeSet<Pid>> {
    let mut found = BTreeSet::new();
    let mut bytes = vec![0; ROOM];
    loop {
        let length = match read(iterator, &mut bytes[..]) {
            Ok(0) => return Some(found),
            Ok(length) => length,
            // It rests after a million files (`bpf_seq_read` in `kernel/bpf/bpf_iter.c`).
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => continue,
            Err(_) => return None,
        };
        for number in bytes.get(..length)?.chunks_exact(4) {
            let pid = i32::from_ne_bytes(number.try_into().ok()?);
            // Zero: the kernel would not let its memory be read.
            if pid <= 0 {
                return None;
            }
            found.insert(Pid(pid));
        }
    }
}

/// What a program goes over.
#[derive(Clone, Copy)]
enum Over {
    Files,
    Mappings,
}

/// Where what the programs look at is in this kernel.
#[derive(Clone, Copy, Debug)]
struct Layout {
    files: u32,
    mappings: u32,
    file_inode: i16,
    inode_links: i16,
    inode_mode: i16,
    inode_super: i16,
    super_magic: i16,
    task_pid: i16,
    task_tgid: i16,
    task_pid_struct: i16,
    pid_level: i16,
    pid_numbers: i16,
    number_size: i16,
    mapping_file: i16,
}

impl Layout {
    fn of(types: &Types) -> Option<Self> {
        let [file, inode, super_block, task, pid, number, mapping, files, mappings] = types.find([
            (Kind::Struct, "file"),
            (Kind::Struct, "inode"),
            (Kind::Struct, "super_block"),
            (Kind::Struct, "task_struct"),
            (Kind::Struct, "pid"),
            (Kind::Struct, "upid"),
            (Kind::Struct, "vm_area_struct"),
            (Kind::Function, "bpf_iter_task_file"),
            (Kind::Function, "bpf_iter_task_vma"),
        ])?;
        let at = |id, member| types.offset(id, member).and_then(|offset| i16::try_from(offset).ok());
        Some(Self {
            files,
            mappings,
            file_inode: at(file, "f_inode")?,
            inode_links: at(inode, "i_nlink")?,
            inode_mode: at(inode, "i_mode")?,
            inode_super: at(inode, "i_sb")?,
            super_magic: at(super_block, "s_magic")?,
            task_pid: at(task, "pid")?,
            task_tgid: at(task, "tgid")?,
            task_pid_struct: at(task, "thread_pid")?,
            pid_level: at(pid, "level")?,
            pid_numbers: at(pid, "numbers")?,
            number_size: i16::try_from(types.size(number)?).ok()?,
            mapping_file: at(mapping, "vm_file")?,
        })
    }
}

/// Registers: the first argument and the result of helpers; those that survive them; the frame.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const CONTEXT: u8 = 6;
const TASK: u8 = 7;
const LEVEL: u8 = 8;
const FRAME: u8 = 10;
/// Where a number is put on the stack.
const SLOT: i16 = -8;

/// Codes of instructions (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_U64: u8 = 0x79;
const LOAD_U32: u8 = 0x61;
const LOAD_U16: u8 = 0x69;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD: u8 = 0x0f;
const ADD_NUMBER: u8 = 0x07;
const MULTIPLY_NUMBER: u8 = 0x27;
const AND_NUMBER: u8 = 0x57;
const JUMP_IF_NUMBER: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x5d;
const JUMP_UNLESS_NUMBER: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// Helpers (include/uapi/linux/bpf.h).
const PROBE_READ_KERNEL: i32 = 113;
const SEQ_WRITE: i32 = 127;
const CURRENT_TASK: i32 = 158;

/// A program that is put together.
#[derive(Default)]
struct Code {
    instructions: Vec<Instruction>,
    /// Jumps to the end.
    leaves: Vec<usize>,
}

impl Code {
    fn add(&mut self, code: u8, to: u8, from: u8, offset: i16, number: i32) -> &mut Self {
        self.instructions.push(Instruction::new(code, to, from, offset, number));
        self
    }

    fn load(&mut self, code: u8, to: u8, from: u8, offset: i16) -> &mut Self {
        self.add(code, to, from, offset, 0)
    }

    fn leave(&mut self, code: u8, left: u8, right: u8, number: i32) -> &mut Self {
        self.leaves.push(self.instructions.len());
        self.add(code, left, right, 0, number)
    }

    fn leave_if_null(&mut self, register: u8) -> &mut Self {
        self.leave(JUMP_IF_NUMBER, register, 0, 0)
    }

    /// `to` = the address of the slot on the stack.
    fn slot(&mut self, to: u8) -> &mut Self {
        self.add(MOVE, to, FRAME, 0, 0).add(ADD_NUMBER, to, 0, 0, i32::from(SLOT))
    }

    /// Reads memory of the kernel at the address in the third register into the slot.
    fn read_into_slot(&mut self, size: i32) -> &mut Self {
        self.slot(R1).add(MOVE_NUMBER, R2, 0, 0, size).add(CALL, 0, 0, 0, PROBE_READ_KERNEL)
    }

    /// Lets a jump lead to the next instruction.
    fn land(&mut self, jump: usize) -> Option<()> {
        let distance = self.instructions.len().checked_sub(jump)?.checked_sub(1)?;
        self.instructions.get_mut(jump)?.offset = i16::try_from(distance).ok()?;
        Some(())
    }
}

/// The program: where the file is a regular one without a name, or one of an overlay, the number of its process is
/// written out.
fn program(layout: &Layout, over: Over) -> Option<Vec<Instruction>> {
    let mut code = Code::default();
    // The context: meta, task, then number and file or the mapping (`struct bpf_iter__task_file`, `…__task_vma`).
    code.add(MOVE, CONTEXT, R1, 0, 0).load(LOAD_U64, TASK, CONTEXT, 8).leave_if_null(TASK);
    match over {
        Over::Files => code.load(LOAD_U64, R2, CONTEXT, 24).leave_if_null(R2),
        Over::Mappings => code
            .load(LOAD_U64, R2, CONTEXT, 16)
            .leave_if_null(R2)
            .load(LOAD_U64, R2, R2, layout.mapping_file)
            .leave_if_null(R2),
    };
    // Only first threads: what the others share with them was seen there.
    code.load(LOAD_U32, R3, TASK, layout.task_pid)
        .load(LOAD_U32, R4, TASK, layout.task_tgid)
        .leave(JUMP_UNLESS, R3, R4, 0)
        .load(LOAD_U64, R3, R2, layout.file_inode)
        .leave_if_null(R3)
        .load(LOAD_U16, R4, R3, layout.inode_mode)
        .add(AND_NUMBER, R4, 0, 0, TYPE_MASK)
        .leave(JUMP_UNLESS_NUMBER, R4, 0, REGULAR)
        .load(LOAD_U32, R4, R3, layout.inode_links);
    let nameless = code.instructions.len();
    code.add(JUMP_IF_NUMBER, R4, 0, 0, 0)
        .load(LOAD_U64, R3, R3, layout.inode_super)
        .leave_if_null(R3)
        .load(LOAD_U64, R4, R3, layout.super_magic)
        .leave(JUMP_UNLESS_NUMBER, R4, 0, OVERLAY);
    code.land(nameless)?;
    // A process has one number in each pid namespace from the first down to its own; ours is so deep.
    code.add(CALL, 0, 0, 0, CURRENT_TASK)
        .load(LOAD_U64, R1, R0, layout.task_pid_struct)
        .load(LOAD_U32, LEVEL, R1, layout.pid_level)
        .add(MULTIPLY_NUMBER, LEVEL, 0, 0, i32::from(layout.number_size))
        .add(MOVE, R3, TASK, 0, 0)
        .add(ADD_NUMBER, R3, 0, 0, i32::from(layout.task_pid_struct))
        .read_into_slot(8)
        .load(LOAD_U64, R3, FRAME, SLOT)
        .add(ADD, R3, LEVEL, 0, 0)
        .add(ADD_NUMBER, R3, 0, 0, i32::from(layout.pid_numbers))
        .read_into_slot(4)
        .load(LOAD_U64, R1, CONTEXT, 0)
        .load(LOAD_U64, R1, R1, 0)
        .slot(R2)
        .add(MOVE_NUMBER, R3, 0, 0, 4)
        .add(CALL, 0, 0, 0, SEQ_WRITE);
    for jump in std::mem::take(&mut code.leaves) {
        code.land(jump)?;
    }
    code.add(MOVE_NUMBER, R0, 0, 0, 0).add(EXIT, 0, 0, 0, 0);
    Some(code.instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_leads_to_the_end() {
        let layout = Layout {
            files: 1,
            mappings: 2,
            file_inode: 32,
            inode_links: 72,
            inode_mode: 0,
            inode_super: 40,
            super_magic: 96,
            task_pid: 1300,
            task_tgid: 1304,
            task_pid_struct: 1368,
            pid_level: 4,
            pid_numbers: 144,
            number_size: 16,
            mapping_file: 88,
        };
        for over in [Over::Files, Over::Mappings] {
            let program = program(&layout, over).unwrap();
            let end = program.len() - 2;
            let jumps = program.iter().enumerate().filter(|(_, one)| one.offset > 0 && one.code & 7 == 5);
            let (to_end, elsewhere): (Vec<_>, Vec<_>) =
                jumps.partition(|(at, one)| at + 1 + usize::try_from(one.offset).unwrap() == end);
            assert!(to_end.len() >= 6 && elsewhere.len() == 1, "{to_end:?} {elsewhere:?}");
        }
    }
}
