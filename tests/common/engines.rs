//! Real container engines on stores in temporary directories. No image can be pulled: busybox makes one from scratch.
#![allow(dead_code, reason = "each test file uses a part")]

#[path = "probe.rs"]
mod probe;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

#[allow(unused_imports, reason = "not every test file needs all")]
pub use probe::*;

/// Whether these programs are installed; says so loudly where one is not.
pub fn need(programs: &[&str]) -> bool {
    let there = |program: &&str| {
        Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output().unwrap().status.success()
    };
    let missing: Vec<&&str> = programs.iter().filter(|program| !there(program)).collect();
    if !missing.is_empty() {
        skip(&format!("this test needs {missing:?}"));
    }
    missing.is_empty()
}

/// Runs a command to its end and insists that it works.
#[track_caller]
pub fn done(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A directory with a Dockerfile that makes an image of busybox and `mib` MiB from nothing.
fn context(dir: &Path, mib: u32) -> PathBuf {
    let context = dir.join(format!("context-{mib}"));
    std::fs::create_dir_all(&context).unwrap();
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    std::fs::copy(busybox, context.join("busybox")).unwrap();
    let dockerfile = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\n\
         RUN [\"/bin/busybox\",\"dd\",\"if=/dev/zero\",\"of=/big\",\"bs=1M\",\"count={mib}\"]\n"
    );
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    context
}

/// A docker daemon of its own.
pub struct Dockerd {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Dockerd {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(Command::new("dockerd"), tempfile::tempdir().unwrap(), &[])
    }

    /// Starts it in a certain way, in a directory, with more arguments.
    pub fn start_with(mut dockerd: Command, dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let at = |name: &str| dir.path().join(name);
        let log = std::fs::File::create(at("log")).unwrap();
        let daemon = dockerd
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("-H")
            .arg(format!("unix://{}", at("sock").display()))
            .args(["--bridge=none", "--iptables=false"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { dir, daemon: Some(daemon) };
        wait_until("dockerd answers", || {
            this.docker().arg("version").output().is_ok_and(|output| output.status.success())
        });
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// Its client. Debian's, not another one that may be installed beside it.
    fn docker(&self) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.arg("--host").arg(format!("unix://{}", self.path("sock").display()));
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(done(self.docker().args(arguments)).stdout).unwrap()
    }

    /// Builds an image with BuildKit, which fills its cache.
    #[track_caller]
    pub fn build(&self, name: &str, mib: u32) {
        let context = context(self.dir.path(), mib);
        let mut command = self.docker();
        command.env("DOCKER_BUILDKIT", "1").args(["build", "--network", "none", "-t", name]).arg(context);
        done(&mut command);
    }

    /// Builds an image from a directory.
    #[track_caller]
    pub fn build_from(&self, name: &str, directory: &Path, buildkit: bool) {
        let mut command = self.docker();
        command.env("DOCKER_BUILDKIT", if buildkit { "1" } else { "0" });
        done(command.args(["build", "--network", "none", "-t", name]).arg(directory));
    }

    /// What a probe is given to look at this daemon.
    pub fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::real();
        let engines = &mut surroundings.settings.engines;
        engines.docker_host = format!("unix://{}", self.path("sock").display());
        engines.docker_root = self.path("data").display().to_string();
        engines.deadline_ms = 60_000;
        surroundings
    }

    /// Kills it in the middle of what it does.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Ends it; its store stays until it is dropped.
    pub fn stop(&self) -> PathBuf {
        if let Some(daemon) = &self.daemon {
            let pid = rustix::process::Pid::from_child(daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            wait_until("dockerd ends", || !self.path("pid").exists());
        }
        self.path("data")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = daemon.wait();
        }
        unmount_below(self.dir.path());
    }
}

/// Podman and buildah on a store of their own.
pub struct Podman {
    dir: tempfile::TempDir,
}

impl Podman {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.path("store")).arg("--runroot").arg(self.path("run")).args(arguments);
        String::from_utf8(done(&mut command).stdout).unwrap()
    }

    #[track_caller]
    pub fn build(&self, name: &str) {
        let context = context(self.dir.path(), 2);
        self.run("podman", &["build", "--isolation", "chroot", "-t", name, context.to_str().unwrap()]);
    }

    /// What a probe is given to look at this store.
    pub fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::real();
        let engines = &mut surroundings.settings.engines;
        engines.podman_root = self.path("store").display().to_string();
        engines.podman_runroot = self.path("run").display().to_string();
        engines.deadline_ms = 60_000;
        surroundings
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        unmount_below(self.dir.path());
    }
}
