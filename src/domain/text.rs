//! Text that came from the machine: file names, command lines, mount options.
//!
//! None of it can be trusted to be UTF-8 or harmless on a terminal. [`HostText`] and [`HostPath`] keep
//! the bytes as they are, print them with everything that could steer a terminal made visible
//! (SAFETY.md T21), and serialise them without loss.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Makes text from the machine safe to print on a terminal.
///
/// C0 and C1 controls, DEL, bidirectional controls, zero-width characters and tag characters are
/// replaced by a visible escape (`\x1b`, `\u{202e}`); bytes that are not UTF-8 become `\xNN`. A
/// backslash stays as it is: the output is for reading, not for parsing.
pub fn sanitise(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_unsafe)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !is_unsafe(c) {
                out.push(c);
            } else if (c as u32) < 0x80 {
                match c {
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    other => {
                        let _ = write!(out, "\\x{:02x}", other as u32);
                    }
                }
            } else {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// The same for a text of several lines, which stay lines.
pub fn sanitise_lines(text: &str) -> String {
    text.split('\n').map(|line| sanitise(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// Whether a character could steer a terminal or hide or reorder what a person reads.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Quotes bytes as one word for a POSIX shell, so that a command shown can be pasted and means
/// exactly the operand that was meant (bash, ksh, zsh and busybox read `$'…'`; POSIX.1-2024 has it).
pub fn shell_quote(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_unsafe)
        && !text.contains('\'')
    {
        return format!("'{text}'");
    }
    let mut out = String::from("$'");
    for &b in bytes {
        match b {
            b'\\' => out.push_str("\\\\"),
            b'\'' => out.push_str("\\'"),
            b'\n' => out.push_str("\\n"),
            0x20..=0x7e => out.push(char::from(b)),
            // Three octal digits, never hexadecimal: `\x` has no fixed width in some shells.
            other => {
                let _ = write!(out, "\\{other:03o}");
            }
        }
    }
    out.push('\'');
    out
}

/// How bytes from the machine look in JSON: readable text always, the exact bytes where the text
/// alone could not give them back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HostText")]
struct Wire {
    /// The text, with bytes that are not UTF-8 replaced by U+FFFD.
    text: String,
    /// The exact bytes in standard base64, present only where `text` is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn to_wire(bytes: &[u8]) -> Wire {
    match std::str::from_utf8(bytes) {
        Ok(text) => Wire { text: text.to_owned(), base64: None },
        Err(_) => {
            Wire { text: String::from_utf8_lossy(bytes).into_owned(), base64: Some(BASE64.encode(bytes)) }
        }
    }
}

fn from_wire<E: serde::de::Error>(wire: Wire) -> Result<Vec<u8>, E> {
    match wire.base64 {
        Some(encoded) => BASE64.decode(encoded).map_err(E::custom),
        None => Ok(wire.text.into_bytes()),
    }
}

/// Text from the machine that is not a path: a command line, a mount option, a process name.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostText(Vec<u8>);

impl HostText {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The exact bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for HostText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&OsStr> for HostText {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// A path on the machine.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath(PathBuf);

impl HostPath {
    /// Takes the path as it is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A path from raw bytes, as the kernel gives them.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(PathBuf::from(OsString::from_vec(bytes.into())))
    }

    /// The path for use with system calls.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The exact bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// The path as one word of a shell command.
    pub fn quoted(&self) -> String {
        shell_quote(self.as_bytes())
    }
}

impl AsRef<Path> for HostPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<&Path> for HostPath {
    fn from(path: &Path) -> Self {
        Self(path.to_path_buf())
    }
}

impl From<PathBuf> for HostPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&str> for HostPath {
    fn from(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

macro_rules! text_like {
    ($type:ty, $from:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&sanitise(self.as_bytes()))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", sanitise(self.as_bytes()))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                to_wire(self.as_bytes()).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_wire(Wire::deserialize(deserializer)?).map($from)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Wire::schema_name()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                Wire::json_schema(generator)
            }
        }
    };
}

text_like!(HostText, HostText::new);
text_like!(HostPath, HostPath::from_bytes);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(sanitise(b"a\x1b[2Jb\n"), "a\\x1b[2Jb\\n");
        assert_eq!(sanitise("x\u{202e}gpj".as_bytes()), "x\\u{202e}gpj");
        assert_eq!(sanitise(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(sanitise("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(sanitise("plain näme".as_bytes()), "plain näme");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_survives(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let clean = sanitise(&bytes);
            prop_assert!(!clean.chars().any(is_unsafe));
        }

        #[test]
        fn json_gives_the_exact_bytes_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = HostText::new(bytes.clone());
            let json = serde_json::to_string(&text).unwrap();
            let back: HostText = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.as_bytes(), &bytes[..]);
        }

        #[test]
        fn a_shell_reads_the_quoted_word_back(bytes in proptest::collection::vec(1u8..=255, 0..60)) {
            let quoted = shell_quote(&bytes);
            prop_assert!(!quoted.chars().any(is_unsafe));
            // The real shell is the oracle; LC_ALL=C so that it treats bytes as bytes.
            #[allow(clippy::disallowed_methods)]
            let out = std::process::Command::new("bash")
                .env("LC_ALL", "C")
                .args(["-c", &format!("printf %s {quoted}")])
                .output()
                .unwrap();
            prop_assert_eq!(&out.stdout[..], &bytes[..]);
        }
    }
}
