//! What a run takes, and the runs so far.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::programs::Program;

/// What one run took.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of all processors, in the program and in the kernel.
    pub cpu: f64,
    /// The most memory it had at a time.
    pub peak_mib: f64,
}

/// One run with all that is needed to put it into a table.
#[derive(Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The world's name.
    pub world: String,
    /// What the world is.
    pub about: String,
    /// The program's name and version.
    pub program: String,
    /// Which call of the bench, and which round of it: ratios are taken within a round.
    pub session: u64,
    /// From 1.
    pub round: usize,
    /// What it took.
    pub run: Run,
    /// How the program ended in the trial.
    pub exit: i32,
    /// The part of du's total that the program counted; none where du did not take part.
    pub share: Option<f64>,
}

/// What a program said when it ran for the first time.
pub struct Trial {
    /// The bytes it counted.
    pub counted: u64,
    /// Its exit code.
    pub exit: i32,
}

/// All runs, in a file with a line of JSON for each.
pub struct Store {
    path: PathBuf,
    samples: Vec<Sample>,
}

impl Store {
    /// Goes on with the file, or begins it again.
    pub fn open(path: &Path, more: bool) -> Self {
        let text = if more { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        let samples = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        fs::write(path, text).expect("writing the figures");
        Self { path: path.to_path_buf(), samples }
    }

    pub fn add(&mut self, sample: Sample) {
        let line = serde_json::to_string(&sample).expect("figures are plain");
        let mut file = fs::OpenOptions::new().append(true).open(&self.path).expect("opening the figures");
        writeln!(file, "{line}").expect("writing the figures");
        self.samples.push(sample);
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// Runs a program once and reads its total.
pub fn trial(program: &Program, tree: &Path) -> Result<Trial, String> {
    let (name, arguments) = program.command.split_first().ok_or("it has no command")?;
    let output = Command::new(name)
        .args(arguments)
        .arg(tree)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let exit = output.status.code().unwrap_or(-1);
    let counted = program.counted(&String::from_utf8_lossy(&output.stdout));
    counted.map(|counted| Trial { counted, exit }).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("no total, exit code {exit}: {}", said.lines().next().unwrap_or_default())
    })
}

/// One run, by GNU time, which knows the processor time and peak memory of its child.
pub fn run(program: &Program, tree: &Path) -> Run {
    // Not from standard error, where some programs leave half a line.
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/time");
    let began = Instant::now();
    let ran = Command::new("/usr/bin/time")
        .args(["-f", "%U %S %M", "-o"])
        .arg(&figures)
        .args(&program.command)
        .arg(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let wall = began.elapsed().as_secs_f64();
    ran.expect("GNU time is needed: apt-get install time");
    let said = fs::read_to_string(&figures).expect("reading what GNU time wrote");
    let mut fields = said.lines().last().unwrap_or_default().split(' ').map(str::parse::<f64>);
    let mut field = || fields.next().and_then(Result::ok).expect("GNU time writes three numbers");
    let (user, system, kib) = (field(), field(), field());
    Run { wall, cpu: user + system, peak_mib: kib / 1024.0 }
}

/// The middle one of some values; the lower of two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}
