//! Tells rotated files from live logs by their names.

/// Endings of compressed files (logrotate's `compressext`).
const COMPRESSED: [&[u8]; 6] = [b".gz", b".xz", b".zst", b".bz2", b".lz4", b".lzma"];
/// More digits than this are no count of rotations.
const DIGITS: usize = 3;

/// The name of the log that a file was before it was rotated; none for a live log.
///
/// `syslog.1`, `syslog.2.gz`, `messages-20261126`, `messages-20261126.xz`, `app-20261126.log`, `x.log.old`.
pub(super) fn live(name: &[u8]) -> Option<Vec<u8>> {
    let plain = COMPRESSED.iter().find_map(|ending| strip(name, ending));
    let rest = plain.unwrap_or(name);
    let numbered = || {
        let dot = rest.iter().rposition(|&byte| byte == b'.')?;
        let (stem, digits) = (rest.get(..dot)?, rest.get(dot.checked_add(1)?..)?);
        let counts = (1..=DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        (counts && !stem.is_empty()).then(|| stem.to_vec())
    };
    let old = || strip(rest, b".old").map(<[u8]>::to_vec);
    numbered().or_else(old).or_else(|| dated(rest)).or_else(|| plain.map(<[u8]>::to_vec))
}

fn strip<'n>(name: &'n [u8], ending: &[u8]) -> Option<&'n [u8]> {
    name.strip_suffix(ending).filter(|stem| !stem.is_empty())
}

/// Takes the date away that logrotate's `dateext` puts in (`-%Y%m%d`, its default, perhaps with `-%s` or `-%H` after
/// it): at the end, or before the ending of a log with `extension`.
fn dated(name: &[u8]) -> Option<Vec<u8>> {
    let begins = |at: &usize| name.get(*at..).is_some_and(is_date);
    let at = (1..name.len()).filter(|&at| name.get(at) == Some(&b'-')).find(begins)?;
    let after = name.get(at.checked_add(9)?..)?;
    let more = after.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    let ending = after.get(more..)?;
    let stem = name.get(..at)?;
    (ending.is_empty() || (ending.starts_with(b".") && ending.len() > 1)).then(|| [stem, ending].concat())
}

/// Whether this begins with `-` and eight digits that can be a date.
fn is_date(text: &[u8]) -> bool {
    let Some(digits) = text.get(1..9).filter(|digits| digits.iter().all(u8::is_ascii_digit)) else {
        return false;
    };
    let Ok(number) = std::str::from_utf8(digits).unwrap_or_default().parse::<u32>() else { return false };
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    (1990..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rotated_files_lead_to_their_log() {
        let of = |name: &str| live(name.as_bytes()).map(|live| String::from_utf8(live).unwrap());
        for (name, log) in [
            ("syslog.1", "syslog"),
            ("syslog.2.gz", "syslog"),
            ("kern.log.4.xz", "kern.log"),
            ("messages-20261126", "messages"),
            ("messages-20261126.zst", "messages"),
            ("messages-20261126-1764115200.gz", "messages"),
            ("app-20261126.log", "app.log"),
            ("app-20261126.log.gz", "app.log"),
            ("Xorg.0.log.old", "Xorg.0.log"),
            ("installer.tar.gz", "installer.tar"),
            ("a\u{1b}[2J.1", "a\u{1b}[2J"),
        ] {
            assert_eq!(of(name).as_deref(), Some(log), "{name}");
        }
        for name in [
            "syslog",
            "kern.log",
            "Xorg.0.log",
            ".1",
            ".gz",
            "app.2026",
            "-20261126",
            "order-12345678",
            "app-20261326",
            "postgresql-15-main.log",
            "",
            ".old",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken_and_a_log_is_shorter(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(log) = live(&name) {
                prop_assert!(!log.is_empty() && log.len() < name.len());
            }
        }

        #[test]
        fn any_log_that_is_rotated_is_found_again(
            log in "[a-z.]{1,20}[a-z]",
            number in 1_u32..1000,
            ending in prop::sample::select(vec!["", ".gz", ".xz", ".zst"]),
        ) {
            let rotated = format!("{log}.{number}{ending}");
            prop_assert_eq!(live(rotated.as_bytes()), Some(log.into_bytes()));
        }
    }
}
