//! What the clients of engines say if they refuse, turned into a state. Here alone their words are looked into: the clients
//! have no numbers for it.

use crate::domain::engines::Trouble;
use crate::domain::reading::Reading;

/// What a refusal means, and the reading for it. Words of docker 20.10 to 28, podman 4.3 to 5.8, containerd 1.6.
pub(super) fn understood<T>(reading: Reading<T>) -> (Reading<T>, Option<Trouble>) {
    match reading {
        Reading::Refused { words } => {
            let trouble = meaning(&words);
            if trouble == Trouble::Forbidden {
                (Reading::Denied { hint: format!("{words}; run unwedge as root") }, Some(trouble))
            } else {
                (Reading::Refused { words }, Some(trouble))
            }
        }
        Reading::TimedOut { .. } => (reading, Some(Trouble::Silent)),
        Reading::Pending
        | Reading::Ready { .. }
        | Reading::Partial { .. }
        | Reading::Denied { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => (reading, None),
    }
}

fn meaning(words: &str) -> Trouble {
    let words = words.to_lowercase();
    let says = |phrase: &str| words.contains(phrase);
    // daemon/disk_usage.go of moby until 22; it computes for one at a time.
    if says("a disk usage operation is already running") {
        Trouble::Busy
    // api/server/middleware/version.go of moby.
    } else if says("client version") && (says("is too old") || says("is too new")) {
        Trouble::Versions
    // Go's words for EACCES, and those of moby's plugins for authorisation.
    } else if says("permission denied") || says("authorization denied") {
        Trouble::Forbidden
    } else {
        Trouble::Refuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_meaning_of_its_own() {
        for (words, expected) in [
            (
                "docker says: Error response from daemon: a disk usage operation is already running",
                Trouble::Busy,
            ),
            (
                "docker says: Error response from daemon: client version 1.24 is too old. Minimum supported API version \
                 is 1.44, please upgrade your client to a newer version",
                Trouble::Versions,
            ),
            (
                "docker says: Error response from daemon: client version 1.52 is too new. Maximum supported API version \
                 is 1.41",
                Trouble::Versions,
            ),
            (
                "docker says: permission denied while trying to connect to the docker API at unix:///run/docker.sock",
                Trouble::Forbidden,
            ),
            ("docker says: Cannot connect to the Docker daemon", Trouble::Refuses),
        ] {
            let (reading, trouble) = understood(Reading::<()>::Refused { words: words.to_owned() });
            assert_eq!(trouble, Some(expected.clone()), "{words}");
            assert_eq!(matches!(reading, Reading::Denied { .. }), expected == Trouble::Forbidden);
        }
        assert_eq!(understood(Reading::ready(())), (Reading::ready(()), None));
    }
}
