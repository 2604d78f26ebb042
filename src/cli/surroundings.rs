//! Reads the environment, once.

use std::ffi::OsString;
use std::path::PathBuf;

use nix::unistd::{Uid, User};

use super::Failure;
use super::args::Args;
use super::exit::Exit;
use crate::config::environment::ENGINE_VARIABLES;
use crate::config::load::{Layers, load};
use crate::config::{Environment, Settings, TerminalTraits};

/// Settings for everybody.
const SYSTEM_CONFIG: &str = "/etc/unwedge/config.toml";

/// The surroundings of this run, and the settings that hold in it.
pub fn read(args: &Args) -> Result<(Environment, Settings), Failure> {
    let uid = Uid::effective();
    let person = person(uid);
    let home = User::from_uid(person)
        .ok()
        .flatten()
        .map(|user| user.dir)
        .or_else(|| variable("HOME").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/"));
    // Under sudo the variables are root's or the caller's, nobody can tell: only a plain login's count.
    let base = |name: &str, default: &str| {
        let named = (person == uid).then(|| variable(name)).flatten().map(PathBuf::from);
        named.filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(default))
    };
    let config_home = base("XDG_CONFIG_HOME", ".config");
    let layers = Layers {
        optional: vec![PathBuf::from(SYSTEM_CONFIG), config_home.join("unwedge/config.toml")],
        required: args.config.clone(),
        overrides: args.set.clone(),
        owners: vec![uid.as_raw(), person.as_raw()],
    };
    let (mut settings, config_files) = load(&layers).map_err(|error| Failure::new(Exit::Config, error))?;
    if let Some(threads) = args.threads {
        settings.scan.threads = threads;
    }
    // What a person names may be a build context.
    let named = args.path.as_ref().and_then(|path| std::path::absolute(path).ok());
    settings.builds.directories.extend(named.and_then(|path| path.into_os_string().into_string().ok()));
    if let Some(max_memory) = args.max_memory {
        settings.scan.max_memory = max_memory;
    }
    let environment = Environment {
        root: PathBuf::from("/"),
        uid: uid.as_raw(),
        person: person.as_raw(),
        state_home: base("XDG_STATE_HOME", ".local/state"),
        config_home,
        run_dir: if uid.is_root() {
            PathBuf::from("/run")
        } else {
            PathBuf::from(format!("/run/user/{uid}"))
        },
        home,
        self_exe: std::fs::read_link("/proc/self/exe").unwrap_or_default(),
        config_files,
        config: Some(layers),
        // Under sudo they are root's or the caller's, as above.
        engine_variables: ENGINE_VARIABLES
            .into_iter()
            .filter(|_| person == uid)
            .filter_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)))
            .collect(),
        terminal: terminal(),
    };
    Ok((environment, settings))
}

/// Who is at the keyboard: with sudo the caller, where the kernel's own record (the audit login uid, which
/// only root can set and only once) does not say otherwise.
fn person(uid: Uid) -> Uid {
    const UNSET: u32 = u32::MAX;
    let Some(caller) = variable("SUDO_UID").and_then(|text| text.to_str()?.parse::<u32>().ok()) else {
        return uid;
    };
    let login =
        std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match login {
        _ if !uid.is_root() => uid,
        Some(login) if login != UNSET && login != caller => uid,
        _ => Uid::from_raw(caller),
    }
}

/// Whether the terminal can go back in a line and clear it, which a dumb one cannot.
pub fn moves_cursor() -> bool {
    variable("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

fn terminal() -> TerminalTraits {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let kind = set("TERM").unwrap_or_default();
    let monochrome = !moves_cursor() || kind.to_string_lossy().starts_with("vt1");
    // The first that is set decides (setlocale(3)).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    // The Linux console has 512 glyphs at most: box characters work, many others do not.
    let poor = monochrome || kind == "linux";
    TerminalTraits {
        // https://no-color.org: set to anything that is not empty.
        colour: !monochrome && set("NO_COLOR").is_none(),
        unicode: !poor && (locale.contains("utf-8") || locale.contains("utf8")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
