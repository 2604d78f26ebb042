//! Sizes and shares, as newtypes so that bytes, counts and percentages cannot be mixed up.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes. Printed with binary (IEC) units, serialised as an integer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes at all.
    pub const ZERO: Self = Self(0);

    /// The difference, or zero where `other` is larger.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads a size that a person wants. A bare letter means the binary unit, as df(1) -h prints it.
    ///
    /// # Errors
    /// A sentence that says what would be understood.
    pub fn wanted(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit() || letter == '.') {
            return Err(format!("{text} has no unit: try {text}G, or {text}GB for decimal gigabytes"));
        }
        let binary = text.ends_with(|c: char| matches!(c.to_ascii_uppercase(), 'K' | 'M' | 'G' | 'T'));
        let full = if binary { format!("{text}iB") } else { text.to_owned() };
        match full.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            Ok(_) => Err("nothing is wanted: give a size, for example 8G or 500M".to_owned()),
            Err(_) => Err(format!("{text:?} is no size: try 8G or 500M")),
        }
    }

    /// Whether this is zero bytes.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` so that `{:>10}` aligns columns.
        f.pad(&bytesize::ByteSize::b(self.0).display().iec().to_string())
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// A share of a whole, in percent. Serialised as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Percent(pub f64);

impl Percent {
    /// `part` of `whole` in percent; zero where the whole is zero (a file system without inodes
    /// of its own, such as btrfs, reports none).
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 { Self(0.0) } else { Self(part as f64 * 100.0 / whole as f64) }
    }
}

impl Percent {
    /// With one digit behind the point where it is below ten and not zero.
    pub fn fine(self) -> String {
        if self.0 > 0.0 && self.0 < 9.95 { format!("{:.1}%", self.0) } else { self.to_string() }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0}%", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_with_binary_units() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(format!("{:>10}", Bytes(1 << 30)), "   1.0 GiB");
    }

    #[test]
    fn a_share_of_nothing_is_zero() {
        assert!(Percent::of(5, 0).0.abs() < f64::EPSILON);
        assert_eq!(Percent::of(1, 4).to_string(), "25%");
        assert_eq!(Percent::of(3, 1000).fine(), "0.3%");
        assert_eq!(Percent::of(0, 400).fine(), "0%");
    }
}
