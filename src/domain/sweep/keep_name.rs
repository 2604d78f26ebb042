//! A name that a person keeps out of every sweep from now on.

use crate::domain::reading::Reading;
use crate::domain::text::{HostPath, HostText};

/// A name that is to be kept for good.
#[derive(Clone, Debug, PartialEq)]
pub struct NameToKeep {
    /// The name.
    pub name: HostText,
    /// Where it is written; pending until that was looked at for a plan.
    pub place: Reading<KeepPlace>,
}

/// Where names that are kept are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepPlace {
    /// The configuration file that is read last, whose list holds.
    pub file: HostPath,
    /// Whether it would be a new one.
    pub new: bool,
    /// The list that holds now.
    pub list: Vec<String>,
}

/// The pattern that means this very name.
///
/// # Errors
/// That it cannot be written to a configuration file, as a sentence.
pub fn literal(name: &HostText) -> Result<String, String> {
    let text = std::str::from_utf8(name.as_bytes())
        .map_err(|_| "its name is not UTF-8, so no configuration file can hold it".to_owned())?;
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::sweep::KeepList;

    #[test]
    fn a_name_that_no_file_can_hold_is_refused() {
        assert_eq!(literal(&HostText::from("a*b[1]{x}?\\")).unwrap(), "a\\*b\\[1\\]\\{x\\}\\?\\\\");
        assert!(literal(&HostText::new(&b"\xff"[..])).is_err());
    }

    proptest! {
        #[test]
        fn the_pattern_means_this_name_and_no_other(name in "[a-c*?{}\\[\\]\\\\!,^é-]{1,12}", other in "[a-c*?{}\\[\\]\\\\!,^é-]{1,12}") {
            let pattern = literal(&HostText::from(name.as_str())).unwrap();
            let list = KeepList::new(&"/x".into(), &[pattern], &[]).unwrap();
            prop_assert!(list.keeps(name.as_bytes()));
            prop_assert_eq!(list.keeps(other.as_bytes()), name == other);
        }
    }
}
