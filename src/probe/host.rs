//! The machine and who is looking.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::system::uname;

use super::Context;
use crate::domain::snapshot::Host;
use crate::domain::text::HostText;

/// Reads host name, kernel and user.
pub fn look(context: &Context<'_>) -> Host {
    let system = uname();
    let uid = context.environment.uid;
    Host {
        name: HostText::new(system.nodename().to_bytes()),
        user: user_or_number(context, uid),
        uid,
        kernel: HostText::new(system.release().to_bytes()),
    }
}

/// The name of a user in `/etc/passwd`, or the number where it has none. Only the file is asked: a directory server
/// may be what is stuck.
pub(super) fn user_or_number(context: &Context<'_>, uid: u32) -> HostText {
    let name = users(context).into_iter().find(|user| user.uid == uid).map(|user| user.name);
    name.unwrap_or_else(|| HostText::from(uid.to_string().as_str()))
}

/// A line of `/etc/passwd` (passwd(5)).
pub(super) struct User {
    pub(super) name: HostText,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: Vec<u8>,
}

/// The users in `/etc/passwd`; none where it cannot be read.
pub(super) fn users(context: &Context<'_>) -> Vec<User> {
    let bytes = fs::read(context.environment.rooted("/etc/passwd")).unwrap_or_default();
    bytes.split(|&byte| byte == b'\n').filter_map(parse_user).collect()
}

/// The first user id of people (`UID_MIN` of login.defs(5) on every common distribution).
const FIRST_PERSON: u32 = 1000;

/// The home directories of root and of people other than this one.
pub fn homes_of_others(context: &Context<'_>, person: u32) -> Vec<PathBuf> {
    let users = users(context).into_iter().filter(|user| user.uid == 0 || user.uid >= FIRST_PERSON);
    let homes = users.filter(|user| user.uid != person);
    let homes = homes.map(|user| PathBuf::from(OsStr::from_bytes(&user.home)));
    // A home of `/` is nobody's.
    homes.filter(|home| home.is_absolute() && home.parent().is_some()).collect()
}

fn parse_user(line: &[u8]) -> Option<User> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = HostText::new(fields.next()?);
    let uid = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    let gid = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let home = fields.nth(1)?.to_vec();
    Some(User { name, uid, gid, home })
}

/// Numbers and names of the groups in `/etc/group` (group(5)); none where it cannot be read.
pub(super) fn groups(context: &Context<'_>) -> Vec<(u32, HostText)> {
    let bytes = fs::read(context.environment.rooted("/etc/group")).unwrap_or_default();
    bytes.split(|&byte| byte == b'\n').filter_map(parse_group).collect()
}

fn parse_group(line: &[u8]) -> Option<(u32, HostText)> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = HostText::new(fields.next()?);
    Some((std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines() {
        let user = parse_user(b"al\xffx:x:1000:100:A,,,:/home/al:/bin/sh").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_slice()), (1000, 100, &b"/home/al"[..]));
        assert_eq!(user.name.as_bytes(), b"al\xffx");
        assert_eq!(parse_group(b"adm:x:4:al,bo").unwrap(), (4, HostText::from("adm")));
        assert!(parse_group(b"adm:x").is_none());
        assert!(parse_user(b"").is_none() && parse_user(b"+::::::").is_none());
    }
}
