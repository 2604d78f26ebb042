//! What a `.dockerignore` keeps out of a build context, by Docker's rules.
//!
//! They are not those of `.gitignore`: a pattern without a slash is about the top directory only, the last pattern that
//! matches wins, an exception (`!`) reaches into a directory that is left out, and the syntax is that of Go's
//! `filepath.Match` with `**` added. Docker itself turns each pattern into a regular expression
//! (github.com/moby/patternmatcher); so does this, since crates for globs treat classes (`[^a]`), `**` inside of a name
//! and escapes in another way.

use regex::Regex;

/// A file with more patterns than this is not read further than this; each entry is compared with every pattern.
const PATTERNS: usize = 10_000;

/// The patterns of one file, in order.
#[derive(Clone, Debug, Default)]
pub struct DockerIgnore {
    patterns: Vec<Pattern>,
}

/// What the patterns said of a directory; given to [`DockerIgnore::judge`] for what is in it.
#[derive(Clone, Debug, Default)]
pub struct Judged(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    /// Without `!`, cleaned.
    text: Vec<u8>,
    exception: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// The path is the pattern.
    Exact,
    /// The pattern ends in `**` and has no other sign: the path begins so.
    Prefix,
    /// The pattern begins with `**` and has no other sign: the path ends so.
    Suffix,
    Regex(Regex),
}

impl DockerIgnore {
    /// Reads a file.
    ///
    /// # Errors
    /// The first pattern that Docker would not take, as a sentence: it refuses to build with such a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut patterns = Vec::new();
        for line in bytes.split(|&byte| byte == b'\n').take(PATTERNS) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // Only a # in the first column begins a comment.
            if line.starts_with(b"#") {
                continue;
            }
            let line = line.trim_ascii();
            let (exception, rest) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, line),
            };
            if rest.is_empty() && !exception {
                continue;
            }
            if rest.is_empty() {
                return Err("an exception (!) without a pattern".to_owned());
            }
            let cleaned = clean(rest);
            let text = match cleaned.strip_prefix(b"/") {
                Some(relative) if !relative.is_empty() => relative.to_vec(),
                _ => cleaned,
            };
            let matcher = Matcher::of(&text)
                .map_err(|why| format!("pattern {}: {why}", super::text::sanitise(&text)))?;
            patterns.push(Pattern { text, exception, matcher });
        }
        Ok(Self { patterns })
    }

    /// Whether an entry is left out, and what must be known for what is in it. `path` is relative to the context, `above`
    /// is what was said of the directory it is in; the default at the top.
    pub fn judge(&self, path: &[u8], above: &Judged) -> (bool, Judged) {
        let mut left_out = false;
        let mut judged = vec![false; self.patterns.len()];
        for (index, (pattern, slot)) in self.patterns.iter().zip(&mut judged).enumerate() {
            let inherited = above.0.get(index).copied().unwrap_or(false);
            // A pattern that could not change anything is not compared.
            if !inherited && pattern.exception != left_out {
                continue;
            }
            *slot = inherited || pattern.matches(path);
            if *slot {
                left_out = !pattern.exception;
            }
        }
        (left_out, Judged(judged))
    }

    /// Whether something in a directory that is left out could still be in the context.
    pub fn may_hold_exceptions(&self, dir: &[u8]) -> bool {
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.exception).peekable();
        if exceptions.peek().is_none() {
            return false;
        }
        let signs = |text: &[u8]| text.iter().any(|byte| b"*[]?^\\".contains(byte));
        let mut below = false;
        for pattern in exceptions {
            let text = pattern.text.strip_suffix(b"/**").unwrap_or(&pattern.text);
            let text = text.strip_suffix(b"/*").unwrap_or(text);
            if signs(text) {
                return true;
            }
            below |= text.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        }
        below
    }
}

impl Pattern {
    fn matches(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix => path.starts_with(self.text.strip_suffix(b"**").unwrap_or(&self.text)),
            Matcher::Suffix => {
                let suffix = self.text.strip_prefix(b"**").unwrap_or(&self.text);
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|name| name == path)
            }
            Matcher::Regex(regex) => regex.is_match(&as_go_reads(path)),
        }
    }
}

impl Matcher {
    fn of(pattern: &[u8]) -> Result<Self, String> {
        let text: Vec<char> = as_go_reads(pattern).chars().collect();
        let mut expression = String::from("^");
        let mut kind = Self::Exact;
        let mut rest = text.as_slice();
        let mut first = true;
        let mut is_regex = false;
        while let Some((&sign, after)) = rest.split_first() {
            rest = after;
            match sign {
                '*' if rest.first() == Some(&'*') => {
                    rest = rest.get(1..).unwrap_or_default();
                    if rest.first() == Some(&'/') {
                        rest = rest.get(1..).unwrap_or_default();
                    }
                    if first {
                        // A sign further on makes it an expression after all.
                        kind = Self::Suffix;
                    } else if rest.is_empty() && !is_regex && matches!(kind, Self::Exact) {
                        kind = Self::Prefix;
                    } else {
                        is_regex = true;
                    }
                    expression.push_str(if rest.is_empty() { ".*" } else { "(.*/)?" });
                }
                '*' => {
                    expression.push_str("[^/]*");
                    is_regex = true;
                }
                '?' => {
                    expression.push_str("[^/]");
                    is_regex = true;
                }
                '\\' => {
                    let Some((escaped, after)) = rest.split_first() else {
                        return Err("it ends in a backslash".to_owned());
                    };
                    rest = after;
                    push_literal(&mut expression, *escaped);
                    is_regex = true;
                }
                '[' => {
                    rest = class(&mut expression, rest)?;
                    is_regex = true;
                }
                ']' => {
                    push_literal(&mut expression, sign);
                    is_regex = true;
                }
                // Docker does not escape it: beside other signs it can match nothing.
                '^' => expression.push('^'),
                _ => push_literal(&mut expression, sign),
            }
            first = false;
        }
        if !is_regex {
            return Ok(kind);
        }
        expression.push('$');
        Regex::new(&expression).map(Self::Regex).map_err(|_| "it is no valid pattern".to_owned())
    }
}

/// Copies a class (`[a-z]`, `[^a]`) by the grammar of `filepath.Match`; gives what is after it.
fn class<'a>(expression: &mut String, mut rest: &'a [char]) -> Result<&'a [char], String> {
    fn one(rest: &[char]) -> Result<(char, &[char]), String> {
        let bad = || "a class ([…]) in it is not closed or empty".to_owned();
        match rest {
            [] | ['-' | ']', ..] | ['\\'] => Err(bad()),
            ['\\', escaped, after @ ..] => Ok((*escaped, after)),
            [sign, after @ ..] => Ok((*sign, after)),
        }
    }
    expression.push('[');
    if let Some((&'^', after)) = rest.split_first() {
        expression.push('^');
        rest = after;
    }
    let mut empty = true;
    loop {
        if let (false, Some((&']', after))) = (empty, rest.split_first()) {
            expression.push(']');
            return Ok(after);
        }
        empty = false;
        let (low, after) = one(rest)?;
        rest = after;
        let mut high = low;
        if let Some((&'-', after)) = rest.split_first() {
            (high, rest) = one(after)?;
        }
        if high < low {
            return Err("a range in it runs backwards".to_owned());
        }
        for (sign, end) in [(low, "-"), (high, "")] {
            expression.extend([r"\x{", &format!("{:x}", u32::from(sign)), "}", end]);
        }
    }
}

fn push_literal(expression: &mut String, sign: char) {
    let mut buffer = [0; 4];
    expression.push_str(&regex::escape(sign.encode_utf8(&mut buffer)));
}

/// Bytes as Go reads text: each that is not part of UTF-8 is U+FFFD.
fn as_go_reads(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let chunks = bytes.utf8_chunks().map(|chunk| {
        let bad = "\u{fffd}".repeat(chunk.invalid().len());
        format!("{}{bad}", chunk.valid())
    });
    chunks.collect::<String>().into()
}

/// Go's `filepath.Clean`: no empty components, no `.`, `..` taken with what is before it, no slash at the end.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a path is left out, looked at as a walk does: directories first.
    fn left_out(file: &str, path: &str) -> bool {
        let ignore = DockerIgnore::parse(file.as_bytes()).unwrap();
        let mut judged = Judged::default();
        let mut out = false;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            (out, judged) = ignore.judge(&path.as_bytes()[..end], &judged);
        }
        out
    }

    #[test]
    fn patterns_mean_what_docker_says() {
        for (file, path, expected) in [
            ("a", "a", true),
            ("a", "b/a", false),
            ("a", "a/b/c", true),
            ("/a/", "a/b", true),
            ("./a", "a", true),
            ("b/../a", "a", true),
            ("*", "a/b", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", false),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("*/temp*", "x/temporary", true),
            ("*/temp*", "x/y/temporary", false),
            ("*/*/temp*", "x/y/temporary", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("temp?", "temp\u{e4}", true),
            ("**/*.go", "a.go", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/b/yx", false),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("**", "a/b", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[a\\-z]x", "-x", true),
            ("[&&]x", "&x", true),
            ("a.b", "axb", false),
            ("a+b*", "aab", false),
            ("a+b*", "a+bc", true),
            ("\\*x", "*x", true),
            ("\\*x", "ax", false),
            ("\\!x", "!x", true),
            (" # x ", "# x", true),
            ("# x", "# x", false),
            ("a\n! a/keep ", "a/keep", false),
            ("a\n!a/keep", "a/keep/x", false),
            ("a\n!a/keep\na/keep/x", "a/keep/x", true),
            ("\u{feff}a", "a", true),
            ("a\r\nb\r\n", "b", true),
            (".", "a", false),
            ("/", "a", false),
            ("../a", "a", false),
        ] {
            assert_eq!(left_out(file, path), expected, "{file:?} {path:?}");
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        for file in ["[", "a[", "[]a]", "[a-]", "[-a]", "a\\", "!", "a\n! \n", "[z-a]"] {
            assert!(DockerIgnore::parse(file.as_bytes()).is_err(), "{file:?}");
        }
        assert!(DockerIgnore::parse(b"# [\n\n  \n").unwrap().patterns.is_empty());
    }

    #[test]
    fn directories_are_entered_only_where_an_exception_could_be() {
        let may = |file: &str, dir: &str| {
            DockerIgnore::parse(file.as_bytes()).unwrap().may_hold_exceptions(dir.as_bytes())
        };
        assert!(!may("a", "a"));
        assert!(may("a\n!a/b/c", "a") && may("a\n!a/b/c", "a/b") && !may("*\n!a/b/c", "x"));
        assert!(may("*\n!**/keep", "x"));
        assert!(may("*\n!x/*", "x") && may("*\n!x/**", "x") && !may("*\n!x/**", "y"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(file in proptest::collection::vec(any::<u8>(), 0..60), path in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(ignore) = DockerIgnore::parse(&file) {
                let (_, judged) = ignore.judge(&path, &Judged::default());
                ignore.judge(&path, &judged);
                ignore.may_hold_exceptions(&path);
            }
        }

        #[test]
        fn any_signs_are_taken(file in "[\\[\\]!*?\\\\^/.a\\-\n ]{0,20}", path in "[a/.\\-]{1,8}") {
            if let Ok(ignore) = DockerIgnore::parse(file.as_bytes()) {
                ignore.judge(path.as_bytes(), &Judged::default());
            }
        }
    }
}
