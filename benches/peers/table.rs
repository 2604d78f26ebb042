//! The figures as Markdown: a table for each world, and one of ratios for the README.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::figures::{Run, Sample, median};
use crate::is_set;
use crate::programs::FIRST;
use crate::trees::NAMES;

const BEGIN: &str = "<!-- peers -->\n";
const END: &str = "<!-- end of peers -->";

/// Prints and writes the tables.
pub fn write(path: &Path, samples: &[Sample]) {
    let figures = Figures { samples };
    let summary = figures.summary();
    let all = format!("{summary}\n{}", figures.details());
    println!("{all}");
    fs::write(path, all).expect("writing the tables");
    eprintln!("written to {}", path.display());
    if is_set("UNWEDGE_BENCH_WRITE_README") {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = fs::read_to_string(&readme).expect("reading README.md");
        let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
        let (head, tail) = parts.expect("README.md has the markers");
        fs::write(readme, format!("{head}{BEGIN}{summary}{END}{tail}")).expect("writing README.md");
    }
}

struct Figures<'a> {
    samples: &'a [Sample],
}

impl<'a> Figures<'a> {
    /// Worlds in the order of the tables; names that are not among them last.
    fn worlds(&self) -> Vec<(&'a str, &'a str)> {
        let mut worlds: Vec<_> =
            self.samples.iter().map(|sample| (sample.world.as_str(), sample.about.as_str())).collect();
        worlds.sort_by_key(|(name, _)| (NAMES.iter().position(|known| known == name).unwrap_or(99), *name));
        worlds.dedup();
        worlds
    }

    /// Programs in the order in which they ran.
    fn programs(&self) -> Vec<&'a str> {
        let mut programs: Vec<&str> = Vec::new();
        for sample in self.samples {
            if !programs.contains(&sample.program.as_str()) {
                programs.push(&sample.program);
            }
        }
        programs
    }

    fn of(&self, world: &str, program: &str) -> Vec<&'a Sample> {
        self.samples.iter().filter(|sample| sample.world == world && sample.program == program).collect()
    }

    /// Round by round, so that a noisy moment hits both sides of a ratio.
    fn ratio(&self, world: &str, program: &str) -> Option<f64> {
        let first: BTreeMap<_, f64> = self
            .of(world, FIRST)
            .into_iter()
            .map(|sample| ((sample.session, sample.round), sample.run.wall))
            .collect();
        let samples = self.of(world, program);
        median(samples.into_iter().filter_map(|sample| {
            first.get(&(sample.session, sample.round)).map(|first| sample.run.wall / first)
        }))
    }

    /// Whether it counted about what du counts: some leave out directories, or count links twice.
    fn whole(&self, world: &str, program: &str) -> bool {
        let share = self.of(world, program).first().and_then(|sample| sample.share);
        share.is_none_or(|share| (share - 1.0).abs() < 0.05)
    }

    /// Ratios of all worlds beside each other: first those with warm caches, then those with cold ones.
    fn summary(&self) -> String {
        let worlds = self.worlds();
        let (cold, warm): (Vec<_>, Vec<_>) =
            worlds.iter().copied().partition(|(name, _)| name.ends_with("-cold"));
        let mut text = format!("Wall time, {FIRST} = 1.00; medians of rounds in turn.\n\n");
        let mut part = false;
        if !warm.is_empty() {
            part |= self.ratios(&mut text, &warm);
        }
        if !cold.is_empty() {
            text.push_str("With cold caches: they are dropped before each run.\n\n");
            part |= self.ratios(&mut text, &cold);
        }
        for (name, about) in &worlds {
            let rounds = self.of(name, FIRST).len();
            let wall = median(self.of(name, FIRST).iter().map(|sample| sample.run.wall)).unwrap_or(f64::NAN);
            let _ = writeln!(text, "- *{name}*: {about}; 1.00 is {wall:.3} s; {rounds} rounds");
        }
        if part {
            text.push_str(
                "\nIn brackets: the total is more than 5 % off that of du, as not all of the tree was read.\n",
            );
        }
        if self.programs().iter().any(|name| name.starts_with("ncdu 1.")) {
            text.push_str(
                "\nncdu 2, which has several threads, is not packaged here and was not measured.\n",
            );
        }
        text
    }

    /// A table of ratios. Says whether some counted only a part.
    fn ratios(&self, text: &mut String, worlds: &[(&str, &str)]) -> bool {
        text.push_str("| program |");
        for (name, _) in worlds {
            let _ = write!(text, " {name} |");
        }
        let _ = writeln!(text, "\n|---|{}", "--:|".repeat(worlds.len()));
        let mut part = false;
        for program in self.programs() {
            let ratios: Vec<_> =
                worlds.iter().map(|(world, _)| (*world, self.ratio(world, program))).collect();
            if ratios.iter().all(|(_, ratio)| ratio.is_none()) {
                continue;
            }
            let _ = write!(text, "| {program} |");
            for (world, ratio) in ratios {
                match ratio {
                    None => text.push_str("  |"),
                    Some(ratio) if self.whole(world, program) => {
                        let _ = write!(text, " {ratio:.2} |");
                    }
                    Some(ratio) => {
                        part = true;
                        let _ = write!(text, " ({ratio:.2}) |");
                    }
                }
            }
            text.push('\n');
        }
        text.push('\n');
        part
    }

    fn details(&self) -> String {
        let mut text = String::new();
        for (world, about) in self.worlds() {
            let _ = writeln!(text, "## {world}: {about}\n");
            text.push_str("| program | wall s | ratio | CPU s | peak MiB | counted | exit |\n");
            text.push_str("|---|--:|--:|--:|--:|--:|--:|\n");
            for program in self.programs() {
                let samples = self.of(world, program);
                let Some(sample) = samples.first() else { continue };
                let of = |field: fn(&Run) -> f64| {
                    median(samples.iter().map(|sample| field(&sample.run))).unwrap_or(f64::NAN)
                };
                let share = sample.share.map_or("?".to_owned(), |share| format!("{:.2} %", share * 100.0));
                let _ = writeln!(
                    text,
                    "| {program} | {:.3} | {:.2} | {:.2} | {:.1} | {share} | {} |",
                    of(|run| run.wall),
                    self.ratio(world, program).unwrap_or(f64::NAN),
                    of(|run| run.cpu),
                    of(|run| run.peak_mib),
                    sample.exit,
                );
            }
            text.push('\n');
        }
        text
    }
}
