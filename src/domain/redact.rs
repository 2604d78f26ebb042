//! Takes secrets out of command lines, and of texts that hold one or a URL, before anybody sees them (SAFETY.md T25): where
//! they are read from the machine, so that nothing further up has them.
//!
//! It errs on the side of hiding too much: what looks like a secret's name hides the rest of its argument. Nothing here
//! reads the environment of a process.

use super::text::HostText;

/// What stands in place of a secret.
const MARK: &[u8] = b"[redacted]";

/// A name that holds one of these anywhere names a secret.
const SECRET_INSIDE: &[&[u8]] = &[
    b"accesskey",
    b"access-key",
    b"access_key",
    b"apikey",
    b"authorization",
    b"cookie",
    b"credential",
    b"keypass",
    b"passphrase",
    b"passwd",
    b"password",
    b"privatekey",
    b"proxy-user",
    b"secret",
    b"storepass",
    b"token",
];

/// A name that has one of these as a word of its own (`API_KEY`, `--auth`, `db.pass`) names a secret.
const SECRET_WORDS: &[&[u8]] = &[
    b"auth",
    b"cred",
    b"creds",
    b"jwt",
    b"key",
    b"oauth",
    b"pass",
    b"pat",
    b"psk",
    b"pw",
    b"pwd",
    b"sig",
    b"signature",
    b"sas",
];

/// Secrets that show by how they begin, from the issuers' own documentation: GitHub, GitLab, Slack, AWS, npm,
/// `PyPI`, Docker, `HashiCorp` Vault, Google, `SendGrid`, Stripe and `OpenAI`, Hugging Face, Azure DevOps tooling, JWT.
const TOKEN_PREFIXES: &[&[u8]] = &[
    b"AIza",
    b"AKIA",
    b"ASIA",
    b"SG.",
    b"dckr_oat_",
    b"dckr_pat_",
    b"eyJ",
    b"gho_",
    b"ghp_",
    b"ghr_",
    b"ghs_",
    b"ghu_",
    b"github_pat_",
    b"glpat-",
    b"glrt-",
    b"hf_",
    b"hvb.",
    b"hvs.",
    b"npm_",
    b"pypi-",
    b"rk_live_",
    b"sk-",
    b"sk_live_",
    b"xapp-",
    b"xoxa-",
    b"xoxb-",
    b"xoxp-",
    b"xoxs-",
    b"ya29.",
];

/// A command line for people to read: arguments joined by spaces, secrets replaced.
pub fn command_line<A: AsRef<[u8]>>(arguments: &[A]) -> HostText {
    let mut line = Line::default();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            line.out.push(b' ');
        }
        line.argument(argument.as_ref());
        if line.next == Next::Over {
            break;
        }
    }
    HostText::new(line.out)
}

/// A text that holds a command line or a URL (the step of a Dockerfile, the source of a mount, what a program complains
/// of), secrets replaced. Its words are those of a shell, so that a secret in quotes ends where they do.
pub fn text(text: impl AsRef<[u8]>) -> HostText {
    let mut rest = text.as_ref();
    let mut line = Line::default();
    while !rest.is_empty() && line.next != Next::Over {
        let (gap, after) = rest.split_at(spaces(rest));
        line.out.extend(gap);
        let (word, after) = after.split_at(shell_word(after));
        line.argument(word);
        rest = after;
    }
    HostText::new(line.out)
}

/// How long the word at the beginning is, quotes and what is escaped included.
fn shell_word(text: &[u8]) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (index, &byte) in text.iter().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match (quote, byte) {
            (None, byte) if byte.is_ascii_whitespace() => return index,
            (None | Some(b'"'), b'\\') => escaped = true,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// How many spaces are at the beginning.
fn spaces(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn is_blank(text: &[u8]) -> bool {
    spaces(text) == text.len()
}

/// What comes next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Plain,
    /// So many words, or arguments, that are secrets.
    Secrets(u8),
    /// The value of a header: `Bearer X`, or one word.
    Header,
    /// The value goes on to the end of the argument: `PASSWORD=a b`.
    Rest,
    /// The same, or it is the next argument: `Authorization:`.
    RestOrHeader,
    /// The value goes on to the end of the line: `ENV API_TOKEN a b` of a Dockerfile.
    All,
    /// Nothing more is told.
    Over,
}

/// What options and words mean to the programs that were named since the last `&&`.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
struct Style {
    /// `-p` takes a password (`mysql -pX`, `docker login -p X`, `sshpass -p X`, `7z -pX`).
    p_is_password: bool,
    /// `-P` takes a password (zip, `mosquitto_pub`).
    large_p_is_password: bool,
    /// `-a` takes a password (`redis-cli`).
    a_is_password: bool,
    /// `-u` and `-U` take `user:password` (curl), `user%password` (smbclient) or `user,password` (lftp).
    u_has_password: bool,
    /// Letters may stand together, `-b` takes cookies, `-E` a certificate with its password, and an address may begin with
    /// `user:password@` (curl).
    is_curl: bool,
    /// A word that names a secret is followed by it: `git config x.token X`.
    sets_names: bool,
    /// The same of a Dockerfile's ENV, up to the end of the line.
    is_env: bool,
}

impl Style {
    /// Takes note of a word, which may be the name of a program.
    fn see(&mut self, word: &[u8]) {
        let name = trim_quotes(word.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
        match name {
            b"login" | b"sshpass" | b"7z" | b"7za" => self.p_is_password = true,
            b"zip" | b"unzip" | b"mosquitto_pub" | b"mosquitto_sub" => self.large_p_is_password = true,
            b"redis-cli" | b"http" => self.a_is_password = true,
            b"smbclient" | b"rpcclient" | b"lftp" => self.u_has_password = true,
            b"curl" => (self.u_has_password, self.is_curl) = (true, true),
            b"config" | b"configure" => self.sets_names = true,
            b"ENV" | b"ARG" => (self.sets_names, self.is_env) = (true, true),
            name if name.starts_with(b"mysql") || name.starts_with(b"mariadb") => self.p_is_password = true,
            _ => {}
        }
    }

    /// Whether the value of a short option is a secret.
    fn is_secret(self, letter: u8) -> bool {
        match letter {
            b'p' => self.p_is_password,
            b'P' => self.large_p_is_password,
            b'a' => self.a_is_password,
            b'u' | b'U' => self.u_has_password,
            b'b' | b'E' => self.is_curl,
            _ => false,
        }
    }
}

/// Options of docker and the like whose value is a name, of a database server for example, and no program.
const TAKE_NAMES: &[&[u8]] = &[
    b"--name",
    b"--hostname",
    b"-h",
    b"--network",
    b"--net",
    b"--network-alias",
    b"--link",
    b"-t",
    b"--tag",
];

/// Short options of curl that take a value: what follows one of these is no other option (`-XPUT`).
const CURL_VALUES: &[u8] = b"AcCdDeFhHKmoPQrtTwxXyYz";

/// A line that is being redacted.
#[derive(Default)]
struct Line {
    out: Vec<u8>,
    next: Next,
    style: Style,
    /// The word before was one of [`TAKE_NAMES`].
    name_follows: bool,
    /// The word before was `--secret`, which of docker takes `id=NAME,src=PLACE`.
    place_follows: bool,
}

impl Line {
    /// Appends one argument.
    fn argument(&mut self, argument: &[u8]) {
        let start = self.out.len();
        self.words(argument);
        // A quote that was opened before the secret ends after it.
        if let [.., quote @ (b'"' | b'\'')] = argument
            && self.out.ends_with(MARK)
            && self.out.iter().skip(start).filter(|byte| *byte == quote).count() % 2 == 1
        {
            self.out.push(*quote);
        }
    }

    fn words(&mut self, argument: &[u8]) {
        let whole = argument.is_empty() || argument.iter().any(u8::is_ascii_whitespace);
        if matches!(self.next, Next::Secrets(_) | Next::Header) && whole {
            // The whole argument, spaces included: a passphrase has some.
            self.hide(argument);
            return;
        }
        let mut rest = argument;
        while !rest.is_empty() {
            let (space, after) = rest.split_at(spaces(rest));
            self.out.extend(space);
            let length = after.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
            let (word, after) = after.split_at(length);
            rest = after;
            if !word.is_empty() {
                self.word(word);
            }
            match self.next {
                Next::Rest | Next::RestOrHeader if !is_blank(rest) => {
                    if !self.out.ends_with(MARK) {
                        self.out.push(b' ');
                        self.out.extend(MARK);
                    }
                    self.next = Next::Plain;
                    return;
                }
                Next::Over => return,
                _ => {}
            }
        }
        self.next = match self.next {
            Next::Rest => Next::Plain,
            Next::RestOrHeader => Next::Header,
            other => other,
        };
    }

    /// Replaces a secret.
    fn hide(&mut self, secret: &[u8]) {
        if !secret.is_empty() {
            self.out.extend(MARK);
        }
        self.next = match self.next {
            Next::Secrets(more @ 2..) => Next::Secrets(more.saturating_sub(1)),
            Next::All => Next::Over,
            _ => Next::Plain,
        };
    }

    fn word(&mut self, word: &[u8]) {
        let place_follows = std::mem::take(&mut self.place_follows);
        if self.next != Next::All && matches!(word, b"&&" | b"||" | b";" | b"|" | b"&") {
            self.out.extend(word);
            (self.next, self.style) = (Next::Plain, Style::default());
            return;
        }
        match self.next {
            Next::Header if is_scheme(word) => {
                self.out.extend(word);
                self.next = Next::Secrets(1);
            }
            Next::Secrets(_) if place_follows && word.starts_with(b"id=") => {
                self.out.extend(word);
                self.next = Next::Plain;
            }
            Next::Secrets(_) | Next::Header | Next::All => self.hide(word),
            Next::Plain | Next::Rest | Next::RestOrHeader | Next::Over => {
                self.next = self.shown(word);
                if !std::mem::take(&mut self.name_follows) {
                    self.style.see(word);
                }
                self.name_follows = TAKE_NAMES.contains(&word);
                if word.ends_with(b";") {
                    self.style = Style::default();
                }
            }
        }
    }

    /// Appends a word that is no secret as a whole, and says what follows it.
    fn shown(&mut self, word: &[u8]) -> Next {
        let bare: &[u8] = trim_quotes(word);
        if bare.eq_ignore_ascii_case(b"bearer") || bare.eq_ignore_ascii_case(b"basic") {
            self.out.extend(word);
            return Next::Secrets(1);
        }
        if let Some(end) = secret_assignment(word) {
            let (shown, value) = word.split_at(end);
            self.out.extend(hide_tokens(&hide_user_info(shown)));
            if !value.is_empty() {
                self.out.extend(MARK);
            }
            let header = value.is_empty() && shown.ends_with(b":");
            return if header { Next::RestOrHeader } else { Next::Rest };
        }
        if word.starts_with(b"-") && !word.contains(&b'=') {
            return self.option(word);
        }
        let hidden = hide_tokens(&hide_user_info(word));
        if self.style.is_curl && hidden == word && is_login_at_host(word) {
            let host = word.iter().rposition(|&byte| byte == b'@').and_then(|at| word.get(at..));
            self.out.extend([MARK, host.unwrap_or_default()].concat());
            return Next::Plain;
        }
        self.out.extend(hidden);
        if !self.style.sets_names || word.contains(&b'=') {
            Next::Plain
        } else if self.style.is_env && names_secret(word) {
            Next::All
        } else if word.starts_with(b"http-basic.") {
            // User and password (composer, poetry).
            Next::Secrets(2)
        } else if names_secret(word) {
            Next::Secrets(1)
        } else {
            Next::Plain
        }
    }

    /// Appends an option without `=`, and says what follows it.
    fn option(&mut self, word: &[u8]) -> Next {
        let letters = word.get(1..).unwrap_or_default();
        // Letters that stand together (`-sSu`), the last one with its value at once (`-pX`).
        let before = letters.iter().take_while(|letter| {
            self.style.is_curl
                && letter.is_ascii_alphabetic()
                && !CURL_VALUES.contains(letter)
                && !self.style.is_secret(**letter)
        });
        let before = before.count();
        if letters.get(before).is_some_and(|letter| self.style.is_secret(*letter)) {
            let (shown, value) = word.split_at(before.saturating_add(2));
            self.out.extend(shown);
            if value.is_empty() {
                return Next::Secrets(1);
            }
            self.out.extend(MARK);
            return Next::Plain;
        }
        self.out.extend(hide_tokens(word));
        self.place_follows = word == b"--secret";
        let has_password = word == b"--user" && self.style.u_has_password;
        let is_told_elsewhere = word.ends_with(b"-stdin") || word.ends_with(b"-file");
        if has_password || (names_secret(word) && !is_told_elsewhere) {
            Next::Secrets(1)
        } else {
            Next::Plain
        }
    }
}

/// Whether a word says how somebody authorises themselves; what they do it with comes next.
fn is_scheme(word: &[u8]) -> bool {
    let schemes: [&[u8]; 4] = [b"bearer", b"basic", b"token", b"digest"];
    schemes.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// `user:password@host`, without a scheme before it.
fn is_login_at_host(word: &[u8]) -> bool {
    let user = word.iter().take_while(|byte| !b":@/".contains(byte)).count();
    user > 0 && word.get(user) == Some(&b':') && word.contains(&b'@')
}

fn trim_quotes(word: &[u8]) -> &[u8] {
    let mut word = word;
    while let [b'"' | b'\'' | b'=' | b':', rest @ ..] | [rest @ .., b'"' | b'\'' | b',' | b':'] = word {
        word = rest;
    }
    word
}

/// Where the value of a secret begins in `--token=X`, `A_SECRET=X`, `-DdbPassword=X`, `{"password":"X"`, `X-Api-Key:`.
fn secret_assignment(word: &[u8]) -> Option<usize> {
    let mut name_start = 0;
    for (index, &byte) in word.iter().enumerate() {
        let after = index.saturating_add(1);
        match byte {
            b'=' | b':' => {
                let name = trim_quotes(word.get(name_start..index).unwrap_or_default());
                // `://` belongs to a URL, whose user info is looked at separately.
                let is_url = byte == b':' && word.get(after..).is_some_and(|rest| rest.starts_with(b"//"));
                if !is_url && names_secret(name) {
                    return Some(after);
                }
                name_start = after;
            }
            b',' | b'&' | b';' | b'?' | b'{' | b'(' | b'@' | b'/' => name_start = after,
            _ => {}
        }
    }
    None
}

/// Whether a name (of an option, a variable, a header) is that of a secret.
fn names_secret(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let holds = |needle: &[u8]| lower.windows(needle.len()).any(|window| window == needle);
    if SECRET_INSIDE.iter().any(|needle| holds(needle)) {
        return true;
    }
    // Words end at punctuation, and before a capital letter (`sshKey`).
    let mut words: Vec<Vec<u8>> = vec![Vec::new()];
    let mut was_lower = false;
    for &byte in name {
        let starts_word = !byte.is_ascii_alphanumeric() || (byte.is_ascii_uppercase() && was_lower);
        if starts_word {
            words.push(Vec::new());
        }
        if byte.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(byte.to_ascii_lowercase());
        }
        was_lower = byte.is_ascii_lowercase();
    }
    words.iter().any(|word| SECRET_WORDS.contains(&word.as_slice()))
}

/// `scheme://user:password@host`, and `//user:password@host/share`, without the user and password. A user without a
/// password stays where it is no token: that of ssh, and `git`.
fn hide_user_info(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    let mut before = None;
    while let Some(at) = rest.windows(2).position(|window| window == b"//") {
        let (scheme, after) = rest.split_at(at.saturating_add(2));
        let lead = at.checked_sub(1).map_or(before, |at| rest.get(at).copied());
        out.extend(scheme);
        rest = after;
        before = Some(b'/');
        // A scheme, or the beginning of a word: not a path with two slashes.
        if lead.is_some_and(|byte| !b":=,\"'(".contains(&byte)) {
            continue;
        }
        let authority_len = after
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\''))
            .unwrap_or(after.len());
        // A password can hold a slash or an @ that was not encoded: hide up to the last @ of the word then.
        let authority = after.get(..authority_len).unwrap_or_default();
        let info_len = if authority.contains(&b'@') {
            authority.iter().rposition(|&byte| byte == b'@')
        } else if authority.contains(&b':') && !has_port(authority) {
            after.iter().rposition(|&byte| byte == b'@')
        } else {
            None
        };
        let Some(len) = info_len else { continue };
        let info = after.get(..len).unwrap_or_default();
        let is_ssh =
            [&b"ssh://"[..], b"sftp://", b"scp://", b"rsync://"].iter().any(|end| scheme.ends_with(end));
        let is_name = info == b"git" || (is_ssh && !info.contains(&b':'));
        if !is_name {
            out.extend(MARK);
            rest = after.get(len..).unwrap_or_default();
        }
    }
    out.extend(rest);
    out
}

fn has_port(authority: &[u8]) -> bool {
    authority
        .rsplit(|&byte| byte == b':')
        .next()
        .is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

/// Replaces what begins as the tokens of a known issuer do, up to the end of the word.
fn hide_tokens(word: &[u8]) -> Vec<u8> {
    for start in 0..word.len() {
        let boundary = start == 0
            || word
                .get(start.saturating_sub(1))
                .is_some_and(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
        let tail = word.get(start..).unwrap_or_default();
        // Shorter ones are names: `sk-learn`, `npm_config`.
        let run =
            tail.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)).count();
        if boundary && run >= 20 && TOKEN_PREFIXES.iter().any(|prefix| tail.starts_with(prefix)) {
            let mut out = word.get(..start).unwrap_or_default().to_vec();
            out.extend(MARK);
            return out;
        }
    }
    if word.windows(11).any(|window| window == b"-----BEGIN-") || word.starts_with(b"-----BEGIN") {
        return MARK.to_vec();
    }
    word.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANARY: &str = "c4n4ryXQZ7";

    fn shown(arguments: &[&str]) -> String {
        command_line(arguments).to_string()
    }

    #[test]
    fn no_canary_survives() {
        let long = format!("ghp_{CANARY}{CANARY}{CANARY}");
        let jwt = format!("eyJhbGciOi.{CANARY}.sig");
        let key = format!("AKIA{CANARY}{CANARY}");
        let one = |text: &str| text.replace('@', CANARY).replace('%', "@");
        let corpus: Vec<Vec<String>> = [
            &["mysqldump", "-p@", "db"][..],
            &["mysql", "-u", "root", "-p", "@"],
            &["mysql", "--password", "@"],
            &["mysql", "--password=@"],
            &["docker", "login", "-u", "me", "-p", "@", "ghcr.io"],
            &["/usr/bin/sshpass", "-p", "@", "ssh", "host"],
            &["docker", "build", "--build-arg", "NPM_TOKEN=@", "."],
            &["docker", "build", "--build-arg=NPM_TOKEN=@", "."],
            &["docker", "run", "-eDB_PASSWORD=@", "img"],
            &["docker", "run", "-e", "AWS_SECRET_ACCESS_KEY=a@/b+c", "img"],
            &["pip", "install", "--extra-index-url", "https://user:@%pypi.example/simple"],
            &["pip", "install", "--index-url=https://@%pypi.example/simple"],
            &["git", "clone", "https://oauth2:@%gitlab.example/x.git"],
            &["git", "clone", "https://user:pa/ss@%host/x.git"],
            &["curl", "-H", "Authorization: Bearer @", "https://x"],
            &["curl", "-H", "Authorization:", "Bearer", "@"],
            &["curl", "-H", "PRIVATE-TOKEN: @", "https://x"],
            &["curl", "-H", "X-Api-Key:@", "https://x"],
            &["curl", "-u", "me:@", "https://x"],
            &["curl", "https://x/?access_token=@&b=c"],
            &["curl", "https://x/?a=b&sig=@"],
            &["helm", "install", "--set", "db.password=@,other=1"],
            &["kubectl", "create", "secret", "generic", "x", "--from-literal=password=@"],
            &["java", "-DdbPassword=@", "-jar", "x.jar"],
            &["tool", "--api-key", "@"],
            &["tool", "--apikey=@"],
            &["tool", "--sshKey=@"],
            &["tool", "--auth", "@"],
            &["tool", "--passphrase", "two @ words"],
            &["sh", "-c", "curl --token @ https://x"],
            &["sh", "-c", "PASSWORD='a @' make"],
            &["sh", "-c", "export API_KEY=@; make"],
            &["npm publish --otp-token @ --quiet"],
            &["tool", "{\"password\":\"@\"}"],
            &["tool", "{\"password\": \"@\"}"],
            &["tool", "bearer", "@"],
            &["node", "x", "--authToken", "@"],
            &["curl", "-sSu", "me:@", "https://x"],
            &["curl", "-ume:@", "https://x"],
            &["curl", "-fsSL", "-U", "me:@", "-x", "proxy:80", "https://x"],
            &["curl", "--proxy-user", "me:@", "https://x"],
            &["curl", "--proxy-user=me:@", "https://x"],
            &["curl", "-x", "me:@%proxy:3128", "https://x"],
            &["curl", "-b", "session=@", "https://x"],
            &["curl", "https://u:@%h/?token=x"],
            &["keytool", "-storepass", "@", "-keypass", "@"],
            &["keytool", "-importkeystore", "-deststorepass", "@"],
            &["openssl", "rsa", "-passin", "pass:@"],
            &["npm", "config", "set", "//registry.npmjs.org/:_authToken=@"],
            &["npm", "config", "set", "//registry.npmjs.org/:_authToken", "@"],
            &["git", "config", "--global", "gitlab.token", "@"],
            &["git", "config", "http.extraheader", "AUTHORIZATION: basic @"],
            &["composer", "config", "github-oauth.github.com", "@"],
            &["composer", "config", "http-basic.repo.example", "me", "@"],
            &["aws", "configure", "set", "aws_secret_access_key", "@"],
            &["redis-cli", "-a", "@", "ping"],
            &["zip", "-P", "@", "x.zip", "f"],
            &["smbclient", "//host/share", "-U", "me%@"],
            &["mysql", "-uroot", "-p@"],
            &["sshpass", "-p@", "ssh", "host"],
            &["mount", "-t", "cifs", "//me:@%host/share", "/mnt"],
            &["mount", "-o", "username=me,password=@", "//host/share", "/mnt"],
            &["rclone", "mount", ":webdav,url=https://h,user=me,pass=@:", "/mnt"],
        ]
        .iter()
        .map(|line| line.iter().map(|text| one(text)).collect())
        .chain([
            vec!["gh".to_owned(), long.clone()],
            vec!["x".to_owned(), format!("--x={long}")],
            vec!["x".to_owned(), jwt],
            vec!["aws".to_owned(), key],
        ])
        .collect();
        for line in corpus {
            let text = command_line(&line).to_string();
            assert!(!text.contains(CANARY), "{line:?} gave {text}");
            assert!(text.contains("[redacted]"), "{line:?} gave {text}");
        }
    }

    #[test]
    fn no_canary_survives_in_a_text() {
        for line in [
            "[2/4] RUN curl -u me:@ https://x && make",
            "mount / from exec /bin/sh -c curl -H \"Authorization: Bearer @\" https://x | tar x",
            "curl -H Authorization: Bearer @ https://x",
            "curl -H PRIVATE-TOKEN: @ https://x",
            "/bin/sh -c #(nop)  ENV NPM_TOKEN=@",
            "|1 NPM_TOKEN=@ /bin/sh -c npm ci",
            "ENV NPM_TOKEN one @ two",
            "ARG NPM_TOKEN='two @'",
            "--build-arg X_TOKEN=@ .",
            "npm config set //r/:_authToken=@ && npm ci",
            "sh -c \"PASSWORD='a @' make\"",
            "mysql -p'@ x' db",
            "sshpass -p \"@ x\" ssh host",
            "pulled from https://me:@%registry.example/x",
            "source https://x/?a=b&sig=@",
            "tool --password @",
            "tool --password=@ --quiet",
            "java -Dx.password=@ -jar y",
            "{\"password\": \"@\"}",
            "//me:@%host/share",
            "https://me:p/@%host/x",
            "fatal: could not read from https://oauth2:@%host/x.git: it's away",
            "keytool -storepass '@' -keypass \\@",
        ] {
            let line = line.replace('@', CANARY).replace('%', "@");
            let told = text(&line).to_string();
            assert!(!told.contains(CANARY), "{line:?} gave {told}");
            assert!(told.contains("[redacted]"), "{line:?} gave {told}");
            assert_eq!(text(&told).to_string(), told, "redacted once more");
        }
    }

    #[test]
    fn ordinary_texts_stay_as_they_are() {
        for line in [
            "[1/3] RUN apt-get update && apt-get install -y --no-install-recommends curl mysql-client",
            "RUN --mount=type=secret,id=npm_token npm ci",
            "mount / from exec /bin/sh -c docker run -p 8080:80 mysql",
            "docker run --name mysql -p 3306:3306 -u 1000:1000 mysql:8",
            "docker build --secret id=npm,src=.npmrc .",
            "docker run -p 8080:80 --user 1000:1000 img",
            "curl -fsSL -XPUT -o /usr/x https://host:8080/x && mkdir -p /var/x",
            "psql -U postgres -h db",
            "sudo -u root mkdir -p /x",
            "//host/share",
            "host:/export",
            "me@host:/home/me",
            "ssh://me@host",
            "unix:///run/user/1000/docker.sock",
            "ENV PATH=/usr/bin:/bin",
            "git config --global user.name me",
            "local source for context",
            "pulled from docker.io/library/alpine:3@sha256:0123456789abcdef",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
            "  two  spaces ",
            "",
        ] {
            assert_eq!(text(line).to_string(), line);
        }
        assert_eq!(
            text("curl -H 'Authorization: Bearer x' https://h | tar x").to_string(),
            "curl -H 'Authorization: [redacted]' https://h | tar x"
        );
        assert_eq!(text("TOKEN='a b' make -j4").to_string(), "TOKEN=[redacted] make -j4");
    }

    #[test]
    fn ordinary_command_lines_stay_as_they_are() {
        for line in [
            &["apt-get", "install", "-y", "monkey", "keyboard-configuration"][..],
            &["make", "-j4", "-p", "CC=gcc"],
            &["cargo", "build", "--release"],
            &["git", "clone", "ssh://git@github.com/a/b.git"],
            &["docker", "build", "-t", "a:b", "--progress=plain", "https://host:8080/x"],
            &["docker", "login", "--password-stdin", "ghcr.io"],
            &["pip", "install", "scikit-learn==1.0", "passlib", "npm_config_x"],
            &["buildkitd", "--addr", "unix:///run/buildkit/buildkitd.sock"],
        ] {
            assert_eq!(shown(line), line.join(" "));
        }
    }

    #[test]
    fn what_is_not_secret_stays_readable() {
        assert_eq!(
            shown(&["pip", "install", "--index-url", "https://u:p@h/simple", "x"]),
            "pip install --index-url https://[redacted]@h/simple x"
        );
        assert_eq!(shown(&["mysql", "-psecret", "db"]), "mysql -p[redacted] db");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(line in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            command_line(&line);
            for one in line {
                text(one);
            }
        }

        #[test]
        fn a_value_never_survives_its_flag(value in "[A-Za-z0-9/+]{12,40}", name in "[a-z]{0,6}") {
            for flag in [format!("--{name}-token"), format!("--{name}-password")] {
                let shown = command_line(&["x", &flag, &value]).to_string();
                prop_assert!(!shown.contains(&value));
                let joined = format!("{flag}={value}");
                let shown = command_line(&["x", &joined]).to_string();
                prop_assert!(!shown.contains(&value));
            }
        }
    }
}
