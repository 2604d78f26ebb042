//! What the command line of `docker build`, `podman build`, `buildah bud` and `buildctl` says of context and Dockerfile.

/// What a build was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given<'a> {
    /// The context's directory, relative to the working directory; none where the context is no directory.
    pub(super) directory: Option<&'a [u8]>,
    /// The Dockerfile, relative to the working directory.
    pub(super) dockerfile: Option<&'a [u8]>,
}

/// Options without a value (`docker buildx build --help`, podman-build(1)): every other takes the next word.
const SWITCHES: &[&[u8]] = &[
    b"--all-platforms",
    b"--check",
    b"--compress",
    b"--debug",
    b"--disable-compression",
    b"--disable-content-trust",
    b"--force-rm",
    b"--help",
    b"--http-proxy",
    b"--inherit-labels",
    b"--layers",
    b"--load",
    b"--no-cache",
    b"--no-hostname",
    b"--no-hosts",
    b"--omit-history",
    b"--pull",
    b"--pull-always",
    b"--pull-never",
    b"--push",
    b"--quiet",
    b"--rm",
    b"--skip-unused-stages",
    b"--squash",
    b"--squash-all",
    b"--stdin",
    b"--tls-verify",
];

/// Reads a command line. None where it is no build of one directory (`bake`, `compose`).
pub(super) fn read(arguments: &[Vec<u8>]) -> Option<Given<'_>> {
    let mut words = arguments.iter().map(Vec::as_slice);
    let program = words.next()?.rsplit(|&byte| byte == b'/').next()?;
    if program == b"docker-compose" || arguments.iter().any(|word| word == b"bake" || word == b"compose") {
        return None;
    }
    if program == b"buildctl" {
        return Some(buildctl(arguments));
    }
    words.by_ref().find(|word| matches!(*word, b"build" | b"bud"))?;
    let mut given = Given::default();
    let mut context = None;
    while let Some(word) = words.next() {
        if word == b"-" || !word.starts_with(b"-") {
            context = context.or(Some(word));
            continue;
        }
        let (name, joined) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (word.get(..at)?, word.get(at.checked_add(1)?..)),
            None => (word, None),
        };
        if let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.starts_with(b"-")) {
            // Switches can stand before the one with a value, whose value may follow at once: `-qt x`, `-fFILE`, `-f=FILE`.
            let switches = letters.iter().take_while(|&&letter| b"Dq".contains(&letter)).count();
            if let Some((letter, value)) = letters.get(switches..).and_then(<[u8]>::split_first) {
                let value =
                    if value.is_empty() { words.next() } else { value.strip_prefix(b"=").or(Some(value)) };
                if *letter == b'f' {
                    given.dockerfile = value;
                }
            }
            continue;
        }
        let value = if joined.is_some() || SWITCHES.contains(&name) { joined } else { words.next() };
        if name == b"--file" {
            given.dockerfile = value;
        }
    }
    given.directory = match context {
        // Without one docker refuses and podman takes the working directory.
        None => Some(b"."),
        Some(context) => Some(context).filter(|context| is_directory(context)),
    };
    // From the standard input.
    given.dockerfile = given.dockerfile.filter(|file| *file != b"-");
    Some(given)
}

/// Whether a context is a path, as against the standard input and what is fetched.
fn is_directory(context: &[u8]) -> bool {
    let fetched = [&b"git@"[..], b"github.com/", b"git://", b"http://", b"https://", b"ssh://"];
    context != b"-" && !context.is_empty() && !fetched.iter().any(|prefix| context.starts_with(prefix))
}

/// `buildctl build --local context=DIR --local dockerfile=DIR`.
fn buildctl(arguments: &[Vec<u8>]) -> Given<'_> {
    let value = |name: &[u8]| {
        arguments.iter().find_map(|word| {
            let word = word.strip_prefix(b"--local=").unwrap_or(word);
            word.strip_prefix(name)
        })
    };
    Given { directory: value(b"context="), dockerfile: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(line: &str) -> Option<(Option<String>, Option<String>)> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        read(&words).map(|given| (given.directory.map(text), given.dockerfile.map(text)))
    }

    #[test]
    fn context_and_dockerfile_are_found_among_options() {
        let is = |directory: &str, file: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some((some(directory), some(file)))
        };
        for (line, expected) in [
            ("docker build .", is(".", "")),
            ("docker build -t x:1 --no-cache web", is("web", "")),
            ("docker build web -t x", is("web", "")),
            (
                "docker --host unix:///x build -f web/Dockerfile.prod --build-arg A=1 /srv",
                is("/srv", "web/Dockerfile.prod"),
            ),
            ("docker buildx build --file=D --platform linux/amd64 --push .", is(".", "D")),
            ("docker build -fD -qt x .", is(".", "D")),
            ("docker build -", is("", "")),
            ("docker build -f - .", is(".", "")),
            ("docker build https://github.com/x/y.git#main", is("", "")),
            ("podman build -t x", is(".", "")),
            ("buildah bud --layers .", is(".", "")),
            (
                "buildctl build --frontend dockerfile.v0 --local context=/c --local dockerfile=/d",
                is("/c", ""),
            ),
            ("docker buildx bake", None),
            ("docker compose up --build", None),
        ] {
            assert_eq!(given(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken(arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6)) {
            let mut arguments = arguments;
            let _ = read(&arguments);
            arguments.insert(0, b"build".to_vec());
            arguments.insert(0, b"docker".to_vec());
            let _ = read(&arguments);
        }
    }
}
