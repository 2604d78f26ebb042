//! An age as a person types it.

use jiff::{Span, SpanRelativeTo, Unit};

use super::{YOUNG_SECS, age_words};

/// The seconds of an age like `12h`, `3d`, `2 weeks` or `1d 12h`. A day has 24 hours.
///
/// # Errors
/// Why it is no age that can be swept by, as a sentence.
pub fn parse_age(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let span: Span =
        text.parse().map_err(|_| format!("{text:?} is no age; give hours, days or weeks: 12h, 3d, 2w"))?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(
            "months and years have no fixed length; give hours, days or weeks: 12h, 3d, 2w".to_owned()
        );
    }
    let secs = span
        .total((Unit::Second, SpanRelativeTo::days_are_24_hours()))
        .map_err(|error| format!("{text:?} is no age: {error}"))?;
    if secs < 0.0 {
        return Err("an age is not negative".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a span of jiff has far fewer seconds"
    )]
    let secs = secs as u64;
    if secs < YOUNG_SECS {
        return Err(format!("nothing younger than {} is ever swept", age_words(YOUNG_SECS)));
    }
    Ok(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_days_and_weeks_are_ages_and_months_are_not() {
        for (text, secs) in [
            ("12h", 43_200),
            (" 3d ", 259_200),
            ("2w", 1_209_600),
            ("2 weeks", 1_209_600),
            ("1d 12h", 129_600),
            ("90m", 5400),
            ("1h", 3600),
        ] {
            assert_eq!(parse_age(text), Ok(secs), "{text}");
        }
        for (text, why) in [
            ("1mo", "no fixed length"),
            ("1y", "no fixed length"),
            ("59m", "younger than 1 hour"),
            ("0d", "younger than 1 hour"),
            ("-3d", "negative"),
            ("3d ago", "negative"),
            ("7", "is no age"),
            ("", "is no age"),
            ("soon", "is no age"),
        ] {
            let said = parse_age(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
