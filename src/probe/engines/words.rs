//! What the clients of engines say if they refuse, turned into a state. Here alone their words are looked into.

use crate::domain::reading::Reading;

/// A refusal for want of permission is one that root can do something about: `permission denied while trying to connect
/// to the Docker daemon socket` (docker), `open /var/lib/containers/…: permission denied` (podman), `permission denied`
/// of the socket (ctr), all of them Go's words for EACCES.
pub(super) fn understood<T>(reading: Reading<T>) -> Reading<T> {
    match reading {
        Reading::Refused { words } if words.to_lowercase().contains("permission denied") => {
            Reading::Denied { hint: format!("{words}; run unwedge as root") }
        }
        Reading::Refused { .. }
        | Reading::Pending
        | Reading::Ready { .. }
        | Reading::Partial { .. }
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => reading,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_want_of_permission_is_denied() {
        let refused = |words: &str| understood(Reading::<()>::Refused { words: words.to_owned() });
        let socket = "docker says: permission denied while trying to connect to the docker API";
        assert!(matches!(refused(socket), Reading::Denied { .. }));
        assert!(matches!(refused("docker says: Cannot connect"), Reading::Refused { .. }));
    }
}
