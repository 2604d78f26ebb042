//! A program of the machine with everything it is run with, as the operand of a change.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::engines::{EngineKind, Reach};
use super::text::{HostPath, HostText, shell_quote};

/// A program to run: argv elements, never text for a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ToolCommand {
    /// Its name, without a directory: it is taken from a fixed list of directories (SAFETY.md T24).
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<HostText>,
    /// What is in its otherwise bare environment.
    pub environment: Vec<(String, HostText)>,
    /// Whom it runs as; none for whoever runs unwedge.
    pub user: Option<ToolUser>,
    /// Whether it does its work for root only.
    pub needs_root: bool,
    /// When it is killed if it has not ended by then, in seconds.
    pub deadline_secs: u64,
}

/// What a program works on, where that is something that can be looked at again just before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToolTarget {
    /// What the program itself chooses.
    #[default]
    Chosen,
    /// An image of a container engine that nothing uses.
    Image {
        /// Whose.
        engine: EngineKind,
        /// How that one is asked.
        reach: Reach,
        /// Its id.
        id: HostText,
        /// All its names; none for a dangling one.
        names: Vec<HostText>,
    },
    /// A container that does not run.
    Container {
        /// Whose.
        engine: EngineKind,
        /// How that one is asked.
        reach: Reach,
        /// Its id.
        id: HostText,
    },
    /// A volume of a container engine that no container uses.
    Volume {
        /// Whose.
        engine: EngineKind,
        /// How that one is asked.
        reach: Reach,
        /// Its name.
        name: HostText,
        /// What keeps it.
        driver: Option<HostText>,
        /// When it was made.
        #[schemars(with = "Option<String>")]
        created: Option<Timestamp>,
    },
    /// What of the catalogue it cleans.
    Cache {
        /// The entry's id.
        entry: String,
        /// The place; a program may clean others of its user with it.
        path: HostPath,
        /// The home directory it was found in.
        home: Option<HostPath>,
    },
}

/// Whom a program runs as, from passwd(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ToolUser {
    /// The name; none where the user has none.
    pub name: Option<HostText>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory: its `HOME`.
    pub home: HostPath,
}

impl ToolCommand {
    /// A program without arguments that may take so long, in seconds.
    pub fn new(program: &str, deadline_secs: u64) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            needs_root: false,
            deadline_secs,
        }
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: AsRef<[u8]>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| HostText::new(argument.as_ref())));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.environment.push((name.to_owned(), HostText::new(value.as_ref())));
        self
    }

    /// For one engine and no other.
    #[must_use]
    pub fn reaching(mut self, reach: &Reach) -> Self {
        self.arguments.extend(reach.arguments.iter().cloned());
        self.environment.extend(reach.environment.iter().cloned());
        self
    }

    /// For root only.
    #[must_use]
    pub fn root_only(mut self) -> Self {
        self.needs_root = true;
        self
    }

    /// As this user.
    #[must_use]
    pub fn as_user(mut self, user: ToolUser) -> Self {
        self.user = Some(user);
        self
    }

    /// The line to paste where somebody else than `uid` must run it; none where that user can.
    pub fn for_sudo(&self, uid: u32) -> Option<String> {
        match &self.user {
            _ if uid == 0 => None,
            Some(user) if user.uid == uid => None,
            Some(_) => Some(self.to_string()),
            None if !self.needs_root => None,
            None if self.environment.is_empty() => Some(format!("sudo {self}")),
            None => Some(format!("sudo env {self}")),
        }
    }
}

impl fmt::Display for ToolCommand {
    /// The shell line that does the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            let name = user.name.clone().unwrap_or_else(|| HostText::new(format!("#{}", user.uid)));
            // -H: most programs find what is theirs by HOME (sudo(8)).
            write!(f, "sudo -u {} -H ", quoted(&name))?;
            if !self.environment.is_empty() {
                f.write_str("env ")?;
            }
        }
        for (name, value) in &self.environment {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&shell_quote(self.program.as_bytes()))?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

fn quoted(text: &HostText) -> String {
    shell_quote(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: Option<&str>) -> ToolUser {
        ToolUser { name: name.map(HostText::from), uid: 1000, gid: 1000, home: "/home/al".into() }
    }

    #[test]
    fn it_can_be_pasted_into_a_shell() {
        let plain = ToolCommand::new("journalctl", 60).args(["--rotate", "--vacuum-size=500M"]);
        assert_eq!(plain.to_string(), "journalctl --rotate --vacuum-size=500M");
        let hostile = ToolCommand::new("conan", 60).args(["cache", "clean", "*", "a b'\n", ""]);
        assert_eq!(hostile.to_string(), "conan cache clean '*' $'a b\\'\\n' ''");
    }

    #[test]
    fn another_user_and_the_environment_are_in_the_line() {
        let command = ToolCommand::new("npm", 60).args(["cache", "clean"]).as_user(user(Some("al")));
        assert_eq!(command.to_string(), "sudo -u al -H npm cache clean");
        let command = command.env("XDG_RUNTIME_DIR", "/run/user/1 0");
        assert_eq!(command.to_string(), "sudo -u al -H env XDG_RUNTIME_DIR='/run/user/1 0' npm cache clean");
        let nameless = ToolCommand::new("npm", 60).as_user(user(None));
        assert_eq!(nameless.to_string(), "sudo -u '#1000' -H npm");
        let own = ToolCommand::new("npm", 60).env("HOME", "/home/al");
        assert_eq!(own.to_string(), "HOME=/home/al npm");
    }

    #[test]
    fn who_may_not_run_it_is_given_the_line_for_sudo() {
        let root = ToolCommand::new("apt-get", 60).args(["clean"]).root_only();
        assert_eq!((root.for_sudo(0), root.for_sudo(7)), (None, Some("sudo apt-get clean".to_owned())));
        let als = ToolCommand::new("npm", 60).as_user(user(Some("al")));
        assert_eq!((als.for_sudo(1000), als.for_sudo(7)), (None, Some("sudo -u al -H npm".to_owned())));
        let anybodys = ToolCommand::new("docker", 60);
        assert_eq!(anybodys.for_sudo(7), None);
    }
}
