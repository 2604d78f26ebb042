//! Where the fields of structures are in the running kernel, by the description of its types that it carries
//! (BTF, Documentation/bpf/btf.rst).

use std::path::Path;

/// `BTF_MAGIC`, include/uapi/linux/btf.h.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, info, size or type.
const TYPE: usize = 12;
/// `struct btf_member`: name, type, offset in bits.
const MEMBER: usize = 12;
/// Unnamed structures in structures are looked into so deep.
const DEPTH: u32 = 8;

/// A kind of type (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A structure.
    Struct,
    /// A function.
    Function,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Struct => 4,
            Self::Function => 12,
        }
    }
}

/// The types of a kernel.
pub struct Types {
    bytes: Vec<u8>,
    /// Where the strings begin.
    strings: usize,
    /// Where each type is; number 0 is `void`.
    places: Vec<usize>,
}

impl Types {
    /// Those of the running kernel; none where it does not carry them.
    pub fn of_kernel(path: &Path) -> Option<Self> {
        Self::parse(std::fs::read(path).ok()?)
    }

    /// Reads them; none where these are none, or of a kind that is not known.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        if u16_at(&bytes, 0)? != MAGIC {
            return None;
        }
        let header = usize::try_from(u32_at(&bytes, 4)?).ok()?;
        let [types, length, strings] = [8, 12, 16].map(|at| u32_at(&bytes, at).map(|number| number as usize));
        let (mut at, length, strings) = (header.checked_add(types?)?, length?, header.checked_add(strings?)?);
        let end = at.checked_add(length)?;
        let mut places = vec![0];
        while at < end {
            places.push(at);
            let (kind, count) = info(&bytes, at)?;
            // What follows the common part: include/uapi/linux/btf.h.
            let more = match kind {
                // Int, variable, declaration tag.
                1 | 14 | 17 => 4,
                // Array.
                3 => 12,
                // Structure, union, section, enumeration of 64 bits.
                4 | 5 | 15 | 19 => 12 * count,
                // Enumeration, parameters of a function.
                6 | 13 => 8 * count,
                // Pointer, forward, typedef, qualifiers, function, float, type tag.
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            at = at.checked_add(TYPE)?.checked_add(more)?;
        }
        Some(Self { bytes, strings, places })
    }

    /// The numbers of types by kind and name, in one pass; none where one is missing.
    pub fn find<const N: usize>(&self, wanted: [(Kind, &str); N]) -> Option<[u32; N]> {
        let mut found = [0; N];
        for (id, &place) in self.places.iter().enumerate().skip(1) {
            let Some((kind, _)) = info(&self.bytes, place) else { continue };
            if kind != Kind::Struct.number() && kind != Kind::Function.number() {
                continue;
            }
            let name = self.name(place)?;
            for (slot, (of, is)) in found.iter_mut().zip(wanted) {
                if *slot == 0 && of.number() == kind && name == is.as_bytes() {
                    *slot = u32::try_from(id).ok()?;
                }
            }
        }
        found.iter().all(|&id| id != 0).then_some(found)
    }

    /// The size of a structure.
    pub fn size(&self, id: u32) -> Option<u32> {
        u32_at(&self.bytes, self.place(id)?.checked_add(8)?)
    }

    /// Where a member of a structure begins, in bytes; also one of an unnamed structure or union in it.
    pub fn offset(&self, id: u32, member: &str) -> Option<u32> {
        self.offset_in_bits(id, member.as_bytes(), DEPTH).map(|bits| bits / 8)
    }

    fn offset_in_bits(&self, id: u32, member: &[u8], depth: u32) -> Option<u32> {
        let place = self.place(id)?;
        let (kind, count) = info(&self.bytes, place)?;
        if !matches!(kind, 4 | 5) {
            return None;
        }
        // The highest bit says that the upper byte of an offset is the width of a bit field.
        let mask = if u32_at(&self.bytes, place + 4)? >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for number in 0..count {
            let at = place + TYPE + number * MEMBER;
            let offset = u32_at(&self.bytes, at + 8)? & mask;
            let name = self.name(at)?;
            if name == member {
                return Some(offset);
            }
            if name.is_empty()
                && let Some(depth) = depth.checked_sub(1)
                && let Some(below) = self.offset_in_bits(u32_at(&self.bytes, at + 4)?, member, depth)
            {
                return offset.checked_add(below);
            }
        }
        None
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.places.get(usize::try_from(id).ok()?).copied().filter(|&place| place != 0)
    }

    /// The name of a type or a member.
    fn name(&self, place: usize) -> Option<&[u8]> {
        let start = self.strings.checked_add(u32_at(&self.bytes, place)? as usize)?;
        let text = self.bytes.get(start..)?;
        text.get(..text.iter().position(|&byte| byte == 0)?)
    }
}

/// Kind and number of members.
fn info(bytes: &[u8], place: usize) -> Option<(u32, usize)> {
    let info = u32_at(bytes, place.checked_add(4)?)?;
    Some(((info >> 24) & 0x1f, (info & 0xffff) as usize))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct a { int x; union { int y; struct b *z; }; }` and a function `f`.
    fn small() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0z\0f\0";
        let word = |kind: u32, count: u32| kind << 24 | count;
        let types: Vec<u32> = [
            vec![0, word(1, 0), 4, 32],
            vec![0, word(2, 0), 3],
            vec![1, word(4, 2), 16, 3, 1, 0, 0, 4, 64],
            vec![0, word(5, 2), 8, 5, 1, 0, 7, 2, 0],
            vec![9, word(12, 0), 0],
        ]
        .concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()].into_iter().chain(types) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_also_in_unnamed_ones() {
        let types = Types::parse(small()).unwrap();
        let [a, f] = types.find([(Kind::Struct, "a"), (Kind::Function, "f")]).unwrap();
        assert_eq!((a, f, types.size(a)), (3, 5, Some(16)));
        assert_eq!(["x", "y", "z", "q"].map(|name| types.offset(a, name)), [Some(0), Some(8), Some(8), None]);
        assert_eq!(types.find([(Kind::Function, "a")]), None);
        assert_eq!((types.offset(f, "x"), types.offset(99, "x")), (None, None));
    }

    #[test]
    fn the_types_of_this_kernel_are_read() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if path.exists() {
            let types = Types::of_kernel(path).unwrap();
            let [file] = types.find([(Kind::Struct, "file")]).unwrap();
            assert!(types.offset(file, "f_inode").is_some());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_types_or_none(tail: Vec<u8>, at in 0_usize..200, byte: u8) {
            let mut bytes = small();
            let place = at % bytes.len();
            bytes[place] = byte;
            bytes.extend(&tail);
            for bytes in [bytes, tail] {
                if let Some(types) = Types::parse(bytes) {
                    let _ = types.find([(Kind::Struct, "a")]);
                    for id in 0..8 {
                        let _ = types.offset(id, "z");
                    }
                }
            }
        }
    }
}
