//! The machine and who is looking.

use std::fs;

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
        user: user_name(context, uid).unwrap_or_else(|| HostText::from(uid.to_string().as_str())),
        uid,
        kernel: HostText::new(system.release().to_bytes()),
    }
}

/// The name of a user in `/etc/passwd`. Only the file is asked: a directory server may be what is stuck.
fn user_name(context: &Context<'_>, uid: u32) -> Option<HostText> {
    users(context).into_iter().find(|user| user.uid == uid).map(|user| user.name)
}

/// A line of `/etc/passwd` (passwd(5)).
pub(super) struct User {
    pub(super) name: HostText,
    pub(super) uid: u32,
    pub(super) home: Vec<u8>,
}

/// The users in `/etc/passwd`; none where it cannot be read.
pub(super) fn users(context: &Context<'_>) -> Vec<User> {
    let bytes = fs::read(context.environment.rooted("/etc/passwd")).unwrap_or_default();
    bytes.split(|&byte| byte == b'\n').filter_map(parse_user).collect()
}

fn parse_user(line: &[u8]) -> Option<User> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = HostText::new(fields.next()?);
    let uid = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    let home = fields.nth(2)?.to_vec();
    Some(User { name, uid, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines() {
        let user = parse_user(b"al\xffx:x:1000:100:A,,,:/home/al:/bin/sh").unwrap();
        assert_eq!((user.uid, user.home.as_slice()), (1000, &b"/home/al"[..]));
        assert_eq!(user.name.as_bytes(), b"al\xffx");
        assert!(parse_user(b"").is_none() && parse_user(b"+::::::").is_none());
    }
}
