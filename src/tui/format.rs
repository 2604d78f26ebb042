//! Text of a given display width: cutting, wrapping, numbers.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns a text takes on the screen.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A long head of `text` that fits `columns`.
fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let fits = |(_, c): &(usize, char)| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    let mut head = text.get(..end).unwrap_or_default();
    // Some letters are wider together (U+FE0F makes a picture of the one before it).
    while width(head) > columns {
        let mut letters = head.chars();
        letters.next_back();
        head = letters.as_str();
    }
    head
}

/// A long tail of `text` that fits `columns`.
fn tail(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let fits = |(_, c): &(usize, char)| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    let start = text.char_indices().rev().take_while(fits).last().map_or(text.len(), |(at, _)| at);
    let mut tail = text.get(start..).unwrap_or_default();
    while width(tail) > columns {
        let mut letters = tail.chars();
        letters.next();
        tail = letters.as_str();
    }
    tail
}

/// Cuts at the end where it does not fit.
pub fn cut(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    format!("{}{ellipsis}", head(text, columns - 1))
}

/// Cuts in the middle where it does not fit, keeping more of the end: the name at the end of a path
/// says more than its start.
pub fn cut_middle(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns < 8 {
        return cut(text, columns, ellipsis);
    }
    let left = (columns - 1) / 3;
    // A mark that follows the ellipsis can make it wider (U+FE0F): then there is room for less.
    (0..columns - left)
        .rev()
        .map(|right| format!("{}{ellipsis}{}", head(text, left), tail(text, right)))
        .find(|cut| width(cut) <= columns)
        .unwrap_or_else(|| cut(text, columns, ellipsis))
}

/// Cuts at the end or fills with spaces, to exactly `columns`.
pub fn fill(text: &str, columns: usize, ellipsis: &str) -> String {
    let mut out = cut(text, columns, ellipsis);
    let missing = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// Fills with spaces on the left, to at least `columns`.
pub fn right(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    let mut out = " ".repeat(missing);
    out.push_str(text);
    out
}

/// Breaks into lines of at most `columns`, at spaces where there are some. Nothing is left out: a word that is
/// too long is broken, because commands and paths must be read in full.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) <= columns {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while width(word) > columns {
            let part = head(word, columns);
            if part.is_empty() {
                break;
            }
            lines.push(part.to_owned());
            word = word.get(part.len()..).unwrap_or_default();
        }
        word.clone_into(&mut line);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count in at most six columns: `12,345`, `123 k`, `1.2 M`.
pub fn count_short(number: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    if number < 100_000 {
        return count(number);
    }
    for (unit, name) in STEPS {
        if number >= unit {
            let whole = number / unit;
            return if whole < 10 {
                format!("{whole}.{} {name}", number % unit * 10 / unit)
            } else {
                format!("{whole} {name}")
            };
        }
    }
    count(number)
}

/// A duration in the unit a person would use: `12 s`, `5 min`, `3 h`, `12 d`, `4 y`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400..63_072_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} y", seconds / 31_536_000),
    }
}

/// `one` where there is one, else `many`.
pub fn plural<'a>(number: usize, one: &'a str, many: &'a str) -> &'a str {
    if number == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_keep_their_end() {
        assert_eq!(cut_middle("/var/lib/docker/overlay2/abc", 16, "…"), "/var/…erlay2/abc");
        assert_eq!(cut("abcdef", 4, "…"), "abc…");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(count_short(1_250_000), "1.2 M");
        assert_eq!(count_short(312_004), "312 k");
        assert_eq!(age(90_000), "1 d");
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 5), [""]);
    }

    proptest! {
        #[test]
        fn cutting_never_takes_more_columns(text in "\\PC{0,80}", columns in 0usize..60) {
            prop_assert!(width(&cut(&text, columns, "…")) <= columns);
            prop_assert!(width(&cut_middle(&text, columns, "…")) <= columns);
            prop_assert_eq!(width(&fill(&text, columns, "…")), columns);
        }

        #[test]
        fn nor_where_letters_are_wider_together(text in "[a0#\u{fe0f}\u{200d}\u{1f468}あ]{0,80}", columns in 0usize..60) {
            prop_assert!(width(&cut(&text, columns, "…")) <= columns);
            prop_assert!(width(&cut_middle(&text, columns, "…")) <= columns);
            prop_assert_eq!(width(&fill(&text, columns, "…")), columns);
        }

        #[test]
        fn wrapping_loses_nothing_but_spaces(text in "[a-z/äあ ]{0,200}", columns in 2usize..60) {
            let lines = wrap(&text, columns);
            prop_assert!(lines.iter().all(|line| width(line) <= columns));
            let squeeze = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(squeeze(&lines.concat()), squeeze(&text));
        }

        #[test]
        fn short_counts_stay_short(number in 0u64..999_000_000_000) {
            prop_assert!(count_short(number).len() <= 6);
        }
    }
}
