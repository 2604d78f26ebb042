//! Whether a process serves others through sockets, and whether any of them is connected.

use std::collections::HashSet;

use crate::domain::identity::Pid;
use crate::sys::procfs::Proc;

/// What the sockets of a process say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    /// Whether it owns one that listens.
    pub(super) listens: bool,
    /// Whether somebody is connected to one of these.
    pub(super) serves: bool,
}

/// The state of a row of `net/tcp` (`include/net/tcp_states.h`).
const TCP_ESTABLISHED: &[u8] = b"01";
const TCP_LISTEN: &[u8] = b"0A";
/// `SS_CONNECTED` of linux/net.h, as `net/unix` shows it.
const UNIX_CONNECTED: &[u8] = b"03";
/// `__SO_ACCEPTCON` of linux/net.h.
const UNIX_LISTENS: &[u8] = b"00010000";

/// Looks at them; none if its descriptors or sockets could not be read.
pub(super) fn look(proc: &Proc, pid: Pid) -> Option<Sockets> {
    let mut own: HashSet<Vec<u8>> = HashSet::new();
    for fd in proc.descriptors(pid).ok()? {
        let link = match proc.link(pid, &format!("fd/{fd}")) {
            Ok(link) => link,
            Err(error) if error.is_denied() => return None,
            // It was closed meanwhile.
            Err(_) => continue,
        };
        if let Some(inode) = link.strip_prefix(b"socket:[").and_then(|rest| rest.strip_suffix(b"]")) {
            own.insert(inode.to_vec());
        }
    }
    if own.is_empty() {
        return Some(Sockets::default());
    }
    let tcp: Vec<Vec<u8>> =
        ["net/tcp", "net/tcp6"].into_iter().filter_map(|name| proc.read(pid, name).ok()).collect();
    let unix = proc.read(pid, "net/unix").ok();
    if tcp.is_empty() && unix.is_none() {
        return None;
    }
    let tcp = tcp.iter().flat_map(|bytes| tcp_rows(bytes, &own));
    let unix = unix.iter().flat_map(|bytes| unix_rows(bytes, &own));
    Some(judge(&tcp.chain(unix).collect::<Vec<Row>>()))
}

fn judge(rows: &[Row]) -> Sockets {
    let doors: HashSet<&[u8]> = rows.iter().filter(|row| row.listens).map(|row| row.address).collect();
    Sockets {
        listens: !doors.is_empty(),
        serves: rows.iter().any(|row| row.is_connected && doors.contains(row.address)),
    }
}

/// A socket of the process.
struct Row<'a> {
    listens: bool,
    is_connected: bool,
    /// The port, or the path. One that was accepted has that of the one that listens.
    address: &'a [u8],
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect()
}

/// The local address is field 1 of 0, the state field 3 and the inode field 9 (`proc_pid_net(5)`).
fn tcp_rows<'a>(bytes: &'a [u8], own: &HashSet<Vec<u8>>) -> Vec<Row<'a>> {
    let row = |line: &'a [u8]| {
        let fields = fields(line);
        own.contains(*fields.get(9)?).then_some(())?;
        let state = *fields.get(3)?;
        Some(Row {
            listens: state == TCP_LISTEN,
            is_connected: state == TCP_ESTABLISHED,
            address: fields.get(1)?.rsplit(|&byte| byte == b':').next()?,
        })
    };
    bytes.split(|&byte| byte == b'\n').filter_map(row).collect()
}

/// The flags are field 3 of 0, the state field 5, the inode field 6 and the path field 7 (`proc_pid_net(5)`).
fn unix_rows<'a>(bytes: &'a [u8], own: &HashSet<Vec<u8>>) -> Vec<Row<'a>> {
    let row = |line: &'a [u8]| {
        let fields = fields(line);
        own.contains(*fields.get(6)?).then_some(())?;
        Some(Row {
            listens: *fields.get(3)? == UNIX_LISTENS,
            is_connected: *fields.get(5)? == UNIX_CONNECTED,
            address: fields.get(7).copied().unwrap_or_default(),
        })
    };
    bytes.split(|&byte| byte == b'\n').filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// What these sockets say, of all that this process has.
    fn sockets_of(make: impl FnOnce() -> Vec<std::os::fd::OwnedFd>) -> Sockets {
        let held = make();
        let proc = Proc::new("/proc");
        let own = held.iter().map(|fd| {
            use std::os::fd::AsRawFd as _;
            let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            let link = link.to_str().unwrap();
            link.as_bytes()["socket:[".len()..link.len() - 1].to_vec()
        });
        let own: HashSet<Vec<u8>> = own.collect();
        let me = proc.self_pid().unwrap();
        let tcp = proc.read(me, "net/tcp").unwrap();
        let unix = proc.read(me, "net/unix").unwrap();
        judge(&tcp_rows(&tcp, &own).into_iter().chain(unix_rows(&unix, &own)).collect::<Vec<Row>>())
    }

    #[test]
    fn a_listener_is_told_from_a_process_with_a_plain_socket() {
        let proc = Proc::new("/proc");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(look(&proc, proc.self_pid().unwrap()).unwrap().listens);
        let address = listener.local_addr().unwrap();
        assert_eq!(
            sockets_of(|| vec![TcpStream::connect(address).unwrap().into()]),
            Sockets { listens: false, serves: false }
        );
    }

    #[test]
    fn somebody_who_is_connected_is_seen_on_tcp_and_on_a_path() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let alone = Sockets { listens: true, serves: false };
        let with_client = Sockets { listens: true, serves: true };
        assert_eq!(sockets_of(|| vec![listener.try_clone().unwrap().into()]), alone);
        assert_eq!(sockets_of(|| vec![listener.into(), accepted.into()]), with_client);
        drop(client);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("buildkitd.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(sockets_of(|| vec![listener.try_clone().unwrap().into(), client.into()]), alone);
        assert_eq!(sockets_of(|| vec![listener.into(), accepted.into()]), with_client);
    }
}
