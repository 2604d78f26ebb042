//! The signs drawn on the screen, in Unicode and in ASCII.

/// One set of signs. Each is one column wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// In use, in a gauge or bar.
    pub used: &'static str,
    /// Kept for root, in a gauge.
    pub reserved: &'static str,
    /// Free, in a gauge.
    pub free: &'static str,
    /// A horizontal line.
    pub horizontal: &'static str,
    /// A vertical line.
    pub vertical: &'static str,
    /// Corners: top left, top right, bottom left, bottom right.
    pub corners: [&'static str; 4],
    /// Where text was cut.
    pub ellipsis: &'static str,
    /// A marked row.
    pub mark: &'static str,
    /// The row under the cursor.
    pub cursor: &'static str,
    /// Between two facts on a line.
    pub dot: &'static str,
    /// There is more above.
    pub more_above: &'static str,
    /// There is more below.
    pub more_below: &'static str,
}

/// For UTF-8 locales. All of these are in the DEC and VGA sets that consoles load.
pub const UNICODE: Glyphs = Glyphs {
    used: "█",
    reserved: "▒",
    free: "░",
    horizontal: "─",
    vertical: "│",
    corners: ["┌", "┐", "└", "┘"],
    ellipsis: "…",
    mark: "●",
    cursor: "›",
    dot: "·",
    more_above: "↑",
    more_below: "↓",
};

/// For all other locales.
pub const ASCII: Glyphs = Glyphs {
    used: "#",
    reserved: "%",
    free: ".",
    horizontal: "-",
    vertical: "|",
    corners: ["+", "+", "+", "+"],
    ellipsis: "~",
    mark: "*",
    cursor: ">",
    dot: "-",
    more_above: "^",
    more_below: "v",
};

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn all(set: &Glyphs) -> Vec<&'static str> {
        let [a, b, c, d] = set.corners;
        vec![
            set.used,
            set.reserved,
            set.free,
            set.horizontal,
            set.vertical,
            a,
            b,
            c,
            d,
            set.ellipsis,
            set.mark,
            set.cursor,
            set.dot,
            set.more_above,
            set.more_below,
        ]
    }

    #[test]
    fn every_sign_is_one_column() {
        for sign in all(&UNICODE).into_iter().chain(all(&ASCII)) {
            assert_eq!(sign.width(), 1, "{sign}");
        }
    }

    #[test]
    fn ascii_is_ascii_and_a_gauge_can_be_read_in_it() {
        assert!(all(&ASCII).iter().all(|sign| sign.is_ascii()));
        for set in [&UNICODE, &ASCII] {
            assert_ne!(set.used, set.reserved);
            assert_ne!(set.reserved, set.free);
            assert_ne!(set.used, set.free);
        }
    }
}
