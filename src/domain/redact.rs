//! Takes secrets out of command lines before anybody sees them (SAFETY.md T25).
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
    b"passphrase",
    b"passwd",
    b"password",
    b"privatekey",
    b"secret",
    b"token",
];

/// A name that has one of these as a word of its own (`API_KEY`, `--auth`, `db.pass`) names a secret.
const SECRET_WORDS: &[&[u8]] = &[
    b"auth",
    b"cred",
    b"creds",
    b"jwt",
    b"key",
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
    let mut out = Vec::new();
    let mut next_is_secret = false;
    let style = Style::of(arguments);
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        next_is_secret = redact_argument(argument.as_ref(), next_is_secret, style, &mut out);
    }
    HostText::new(out)
}

/// What short options mean to the program.
#[derive(Clone, Copy)]
struct Style {
    /// `-p` takes a password (`mysql -pX`, `docker login -p X`, `sshpass -p X`).
    p_is_password: bool,
    /// `-u` takes `user:password` (curl).
    u_has_password: bool,
}

impl Style {
    fn of<A: AsRef<[u8]>>(arguments: &[A]) -> Self {
        // A title that was rewritten, or a shell's `-c`, has all words in one argument.
        let words = || arguments.iter().flat_map(|argument| argument.as_ref().split(|byte| is_space(*byte)));
        let name = |word: &[u8]| word.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        let any = |test: &dyn Fn(&[u8]) -> bool| words().any(|word| test(&name(word)));
        Self {
            p_is_password: any(&|word| {
                word == b"login"
                    || word == b"sshpass"
                    || word.starts_with(b"mysql")
                    || word.starts_with(b"mariadb")
            }),
            u_has_password: any(&|word| word == b"curl"),
        }
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

/// Appends one argument. Takes and returns whether the word that follows is a secret.
fn redact_argument(argument: &[u8], mut next_is_secret: bool, style: Style, out: &mut Vec<u8>) -> bool {
    if next_is_secret {
        // The whole argument, spaces included: a passphrase has some.
        if !argument.is_empty() {
            out.extend(MARK);
        }
        return false;
    }
    let mut rest = argument;
    while !rest.is_empty() {
        let gap = rest.iter().take_while(|byte| is_space(**byte)).count();
        let (space, after) = rest.split_at(gap);
        out.extend(space);
        let len = after.iter().take_while(|byte| !is_space(**byte)).count();
        let (word, after) = after.split_at(len);
        rest = after;
        if word.is_empty() {
            continue;
        }
        if next_is_secret {
            out.extend(MARK);
            next_is_secret = false;
            continue;
        }
        match redact_word(word, style, out) {
            Next::Plain => {}
            Next::Secret => next_is_secret = true,
            // The value went on to the end of the argument: `Authorization: Bearer X`, `PASSWORD=a b`.
            Next::RestIsSecret => {
                if !rest.is_empty() {
                    out.push(b' ');
                    out.extend(MARK);
                }
                return false;
            }
        }
    }
    next_is_secret
}

/// What a word says about what follows it.
enum Next {
    Plain,
    Secret,
    RestIsSecret,
}

fn redact_word(word: &[u8], style: Style, out: &mut Vec<u8>) -> Next {
    let bare: &[u8] = trim_quotes(word);
    if bare.eq_ignore_ascii_case(b"bearer") || bare.eq_ignore_ascii_case(b"basic") {
        out.extend(word);
        return Next::Secret;
    }
    if let Some(end) = secret_assignment(word) {
        let (shown, value) = word.split_at(end);
        out.extend(shown);
        if !value.is_empty() {
            out.extend(MARK);
        }
        return Next::RestIsSecret;
    }
    if word.starts_with(b"-") && !word.contains(&b'=') {
        if style.p_is_password && word.starts_with(b"-p") {
            out.extend(b"-p");
            if word.len() > 2 {
                out.extend(MARK);
                return Next::Plain;
            }
            return Next::Secret;
        }
        if style.u_has_password && (word == b"-u" || word == b"--user") {
            out.extend(word);
            return Next::Secret;
        }
        out.extend(word);
        let takes_value = names_secret(word) && !word.ends_with(b"-stdin") && !word.ends_with(b"-file");
        return if takes_value { Next::Secret } else { Next::Plain };
    }
    out.extend(hide_tokens(&hide_user_info(word)));
    Next::Plain
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

/// `scheme://user:password@host` without the user and password. A user `git` without password stays.
fn hide_user_info(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.windows(3).position(|window| window == b"://") {
        let (scheme, after) = rest.split_at(at.saturating_add(3));
        out.extend(scheme);
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
        match info_len {
            Some(len) if after.get(..len) != Some(b"git") => {
                out.extend(MARK);
                rest = after.get(len..).unwrap_or_default();
            }
            _ => rest = after,
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
