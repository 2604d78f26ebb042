//! A program named buildkitd that listens: the test binary itself, under that name.
#![allow(dead_code, reason = "each test file uses a part")]

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Carries the place of the socket, and makes the test of this name do something.
const SOCKET: &str = "UNWEDGE_TEST_LISTENER";
const TEST: &str = "listener::listens";

/// The program: accepts and keeps connections until they close. It does nothing unless it was started from here.
#[test]
fn listens() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let listener = UnixListener::bind(path).unwrap();
    for client in listener.incoming() {
        std::thread::spawn(move || {
            use std::io::Read as _;
            let _ = client.unwrap().read(&mut [0]);
        });
    }
}

/// Starts it below `wrapper`, a program that runs its arguments. A copy: a child of the same program is taken for one of
/// our own that was forked to ask something.
pub fn start(wrapper: &[&str], socket: &Path) -> Child {
    let exe = socket.with_extension("program");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let mut command = Command::new("bash");
    if let Some((first, rest)) = wrapper.split_first() {
        command = Command::new(first);
        command.args(rest).arg("bash");
    }
    let child = command
        .args(["-c", "exec -a buildkitd \"$@\"", "bash"])
        .arg(exe)
        .args([TEST, "--exact", "--nocapture"])
        .env(SOCKET, socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(socket);
    child
}

/// Starts it the way a dead build leaves one: its shell led a session and has ended. Returns its pid.
pub fn abandon(socket: &Path) -> i32 {
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "(exec -a buildkitd {} {TEST} --exact --nocapture) >/dev/null 2>&1 </dev/null & echo $!",
        exe.display()
    );
    let output = Command::new("setsid")
        .args(["--wait", "bash", "-c", &script])
        .env(SOCKET, socket)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    wait_for(socket);
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn wait_for(socket: &Path) {
    for _ in 0..2000 {
        if socket.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it does not listen at {}", socket.display());
}
