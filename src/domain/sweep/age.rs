//! Ages as a person writes them.

use jiff::{Span, SpanRelativeTo, Unit};

use super::YOUNG_SECS;

/// Reads an age such as `12h`, `3d` or `2w`, in seconds; days have 24 hours. Nothing younger than an hour is ever swept.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse_age(text: &str) -> Result<u64, String> {
    let span: Span = text.trim().parse().map_err(|_| format!("{text:?} is no age: try 12h, 3d or 2w"))?;
    // Months and years have no fixed length.
    let secs = span
        .total((Unit::Second, SpanRelativeTo::days_are_24_hours()))
        .map_err(|_| format!("{text:?} has no fixed length: give hours, days or weeks"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is checked to be in range"
    )]
    let secs = if (0.0..1e12).contains(&secs) { secs as u64 } else { 0 };
    if secs < YOUNG_SECS {
        return Err(format!("{text} is too young: nothing younger than an hour is ever swept"));
    }
    Ok(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_days_and_weeks_are_ages_and_months_are_not() {
        assert_eq!(parse_age("12h"), Ok(43_200));
        assert_eq!(parse_age(" 1d "), Ok(86_400));
        assert_eq!(parse_age("2w"), Ok(1_209_600));
        assert_eq!(parse_age("1d12h"), Ok(129_600));
        for wrong in ["", "7", "x", "1mo", "1y", "59m", "-3d", "0h", "99999999w"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
