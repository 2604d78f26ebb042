//! What a sweep would take, frozen when its plan is made, and what stays.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::{Ages, Stays};
use crate::domain::bounds::Budget;
use crate::domain::identity::FileId;
use crate::domain::own_command::OwnCommand;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};

/// What kind of old thing it is. Each has an age of its own ([`Ages`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A file or symbolic link.
    OldFile,
    /// A directory with nothing in it.
    EmptyDir,
    /// A directory with all in it.
    OldDir,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::OldFile, Self::EmptyDir, Self::OldDir];

    /// One of it: "old file".
    pub fn one(self) -> &'static str {
        match self {
            Self::OldFile => "old file",
            Self::EmptyDir => "empty directory",
            Self::OldDir => "old directory",
        }
    }

    /// "1 old file", "3 old files".
    pub fn counted(self, count: u64) -> String {
        if count == 1 { format!("1 {}", self.one()) } else { format!("{count} {self}") }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OldFile => "old files",
            Self::EmptyDir => "empty directories",
            Self::OldDir => "old directories",
        })
    }
}

/// Why something that is old as a whole and unused is left out unless a person wants it to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum LeftOut {
    /// It is, or holds, a directory of root where everybody can write.
    OfRoot,
    /// It looks as if nobody could replace it.
    Precious {
        /// The name that says so, its own or that of something in it.
        name: HostText,
    },
    /// A person switched it off.
    SwitchedOff,
}

impl LeftOut {
    /// The reason without its details.
    pub fn stays(&self) -> Stays {
        match self {
            Self::OfRoot => Stays::OfRoot,
            Self::Precious { .. } => Stays::Precious,
            Self::SwitchedOff => Stays::SwitchedOff,
        }
    }
}

/// Something that is old as a whole, unused and kept by no list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Candidate {
    /// Its name in the directory.
    pub name: HostText,
    /// Which one. Its inode number is on record, so that what a killed run had set aside finds its name again.
    #[serde(rename = "inode", serialize_with = "inode")]
    #[schemars(with = "u64")]
    pub id: FileId,
    /// What it is.
    pub class: Class,
    /// Entries in it, itself included.
    pub entries: u64,
    /// Space that comes back once it is gone.
    pub bytes: Bytes,
    /// Space of files in it that have other names too, and stays if one of these is elsewhere.
    #[serde(skip_serializing_if = "is_nothing")]
    pub linked: Bytes,
    /// The newest of all its times, and of all in it, in seconds since the epoch.
    pub newest: i64,
    /// What looks precious about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precious: Option<HostText>,
    /// Whether it is, or holds, a directory of root where everybody can write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_root: bool,
    /// Why it is left out; none if it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

fn inode<S: Serializer>(id: &FileId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(id.key.ino.0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_nothing(bytes: &Bytes) -> bool {
    bytes.is_zero()
}

/// What stays for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Staying {
    /// The reason.
    pub why: Stays,
    /// How many entries of the directory.
    pub count: u64,
    /// One of them.
    pub example: HostText,
}

/// How many of a class go, and what they give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// Entries of the directory.
    pub count: u64,
    /// All entries, with what is in them.
    pub entries: u64,
    /// Space that comes back.
    pub bytes: Bytes,
    /// Space that may come back: files with other names.
    pub linked: Bytes,
}

impl Tally {
    fn add(&mut self, one: &Candidate) {
        self.count += 1;
        self.entries += one.entries;
        self.bytes += one.bytes;
        self.linked += one.linked;
    }
}

/// A sweep of one directory: what goes by which rule, name by name, and what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sweep {
    /// What is old.
    pub ages: Ages,
    /// Whether directories of root go too.
    pub own_root: bool,
    /// Names that were asked to stay, beside those of the settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Names that were asked to go although they look precious.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Entries of the directory when it was looked at.
    pub entries: u64,
    /// What is old as a whole and unused, oldest first; what is left out of it says so.
    pub candidates: Vec<Candidate>,
    /// Everything else, by reason.
    pub stays: Vec<Staying>,
    /// What could not be looked at, as sentences; the first few of many.
    pub problems: Vec<String>,
}

impl Sweep {
    /// What goes.
    pub fn goes(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|one| one.left_out.is_none())
    }

    /// What one run takes of it, the oldest first, and why not all.
    pub fn within(&self, budget: &mut Budget) -> (Vec<&Candidate>, Option<String>) {
        let mut taken = Vec::new();
        for one in self.goes() {
            if let Err(why) = budget.take(one.bytes.0.saturating_add(one.linked.0), one.entries) {
                return (taken, Some(why));
            }
            taken.push(one);
        }
        (taken, None)
    }

    /// What goes of a class.
    pub fn of(&self, class: Class) -> Tally {
        let mut tally = Tally::default();
        self.goes().filter(|one| one.class == class).for_each(|one| tally.add(one));
        tally
    }

    /// All that goes.
    pub fn all(&self) -> Tally {
        let mut tally = Tally::default();
        self.goes().for_each(|one| tally.add(one));
        tally
    }

    /// What would go of a class, left out or not, and whether any of it goes.
    pub fn offered(&self, class: Class) -> (Tally, bool) {
        let mut tally = Tally::default();
        let of_class = || self.candidates.iter().filter(|one| one.class == class);
        of_class().for_each(|one| tally.add(one));
        (tally, of_class().any(|one| one.left_out.is_none()))
    }

    /// What takes most of that which goes.
    pub fn largest(&self) -> Option<&Candidate> {
        self.goes().max_by_key(|one| one.bytes)
    }

    /// What is oldest of that which goes.
    pub fn oldest(&self) -> Option<&Candidate> {
        self.goes().min_by_key(|one| one.newest)
    }

    /// Everything that stays, by reason, the most frequent first: with what is left out of the candidates.
    pub fn staying(&self) -> Vec<Staying> {
        let mut all: BTreeMap<Stays, Staying> = self.stays.iter().map(|one| (one.why, one.clone())).collect();
        for one in &self.candidates {
            let Some(why) = one.left_out.as_ref().map(LeftOut::stays) else { continue };
            all.entry(why).or_insert_with(|| Staying { why, count: 0, example: one.name.clone() }).count += 1;
        }
        let mut all: Vec<Staying> = all.into_values().collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.count));
        all
    }

    /// Whether something goes that looks as if nobody could replace it.
    pub fn takes_precious(&self) -> bool {
        self.goes().any(|one| one.precious.is_some())
    }

    /// How many of which class go, in a few words.
    pub fn words(&self) -> String {
        let tallies = Class::ALL.map(|class| (class, self.of(class)));
        let parts: Vec<String> = tallies
            .iter()
            .filter(|(_, tally)| tally.count > 0)
            .map(|(class, tally)| class.counted(tally.count))
            .collect();
        if parts.is_empty() { "nothing in it goes".to_owned() } else { parts.join(", ") }
    }

    /// The line that sweeps by the same rule.
    pub fn command(&self, dir: &HostPath) -> OwnCommand {
        OwnCommand::Sweep {
            dir: dir.clone(),
            ages: self.ages,
            keep: self.keep.clone(),
            also: self.also.clone(),
            own_root: self.own_root,
        }
    }

    /// Leaves one out, or takes it after all. Something of root can only be taken with the rest of them.
    pub fn switch(&mut self, index: usize) {
        let own_root = self.own_root;
        let Some(one) = self.candidates.get_mut(index) else { return };
        one.left_out = match &one.left_out {
            None => Some(LeftOut::SwitchedOff),
            Some(LeftOut::OfRoot) => Some(LeftOut::OfRoot),
            Some(LeftOut::Precious { .. } | LeftOut::SwitchedOff) => {
                (one.of_root && !own_root).then_some(LeftOut::OfRoot)
            }
        };
    }

    /// Leaves a class out if any of it goes, else takes all of it but what looks precious.
    pub fn switch_class(&mut self, class: Class) {
        let (_, goes) = self.offered(class);
        let own_root = self.own_root;
        for one in self.candidates.iter_mut().filter(|one| one.class == class) {
            match (&one.left_out, goes) {
                (None, true) => one.left_out = Some(LeftOut::SwitchedOff),
                (Some(LeftOut::SwitchedOff), false) => one.left_out = one.by_default(own_root),
                (None | Some(_), _) => {}
            }
        }
    }

    /// Takes the directories of root too, or leaves them out again.
    pub fn switch_root(&mut self) {
        self.own_root = !self.own_root;
        let own_root = self.own_root;
        for one in self.candidates.iter_mut().filter(|one| one.of_root) {
            if matches!(one.left_out, None | Some(LeftOut::OfRoot)) {
                one.left_out = one.by_default(own_root);
            }
        }
    }
}

impl Candidate {
    /// Why it is left out before a person has said anything.
    pub fn by_default(&self, own_root: bool) -> Option<LeftOut> {
        match &self.precious {
            _ if self.of_root && !own_root => Some(LeftOut::OfRoot),
            Some(name) => Some(LeftOut::Precious { name: name.clone() }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, class: Class, precious: bool, of_root: bool) -> Candidate {
        let mut one = Candidate {
            name: HostText::from(name),
            id: FileId::default(),
            class,
            entries: 2,
            bytes: Bytes(10),
            linked: Bytes(1),
            newest: 5,
            precious: precious.then(|| HostText::from(".env")),
            of_root,
            left_out: None,
        };
        one.left_out = one.by_default(false);
        one
    }

    fn sweep() -> Sweep {
        Sweep {
            ages: Ages { file_secs: 1, empty_dir_secs: 1, dir_secs: 1 },
            own_root: false,
            keep: Vec::new(),
            also: Vec::new(),
            entries: 7,
            candidates: vec![
                candidate("a", Class::OldFile, false, false),
                candidate("b", Class::OldFile, true, false),
                candidate("c", Class::OldDir, false, true),
                candidate("d", Class::OldDir, true, true),
                candidate("e", Class::EmptyDir, false, false),
            ],
            stays: vec![Staying { why: Stays::Young, count: 2, example: HostText::from("y") }],
            problems: Vec::new(),
        }
    }

    fn going(sweep: &Sweep) -> String {
        sweep.goes().map(|one| one.name.to_string()).collect()
    }

    #[test]
    fn what_is_precious_or_of_root_is_left_out_until_it_is_chosen() {
        let mut sweep = sweep();
        assert_eq!(going(&sweep), "ae");
        assert_eq!(sweep.words(), "1 old file, 1 empty directory");
        let counts: Vec<(Stays, u64)> = sweep.staying().iter().map(|one| (one.why, one.count)).collect();
        assert_eq!(counts, [(Stays::Young, 2), (Stays::OfRoot, 2), (Stays::Precious, 1)]);
        sweep.switch(1);
        sweep.switch(2);
        assert_eq!(going(&sweep), "abe", "one of root goes with the others of root only");
        assert!(sweep.takes_precious());
        sweep.switch_root();
        assert_eq!(going(&sweep), "abce", "a precious one of root is still precious");
        sweep.switch(3);
        assert_eq!(going(&sweep), "abcde");
        sweep.switch_root();
        assert_eq!(going(&sweep), "abe");
        assert_eq!(sweep.all(), Tally { count: 3, entries: 6, bytes: Bytes(30), linked: Bytes(3) });
    }

    #[test]
    fn a_class_is_switched_off_and_on_again_as_it_was() {
        let mut sweep = sweep();
        let before = sweep.clone();
        for class in Class::ALL {
            sweep.switch_class(class);
        }
        assert_eq!(going(&sweep), "");
        assert_eq!(sweep.words(), "nothing in it goes");
        for class in [Class::OldFile, Class::EmptyDir] {
            sweep.switch_class(class);
        }
        assert_eq!(sweep, before);
        sweep.switch(0);
        sweep.switch(0);
        assert_eq!(sweep, before);
    }
}
