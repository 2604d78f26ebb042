//! Names that look as if nobody could replace what has them: keys, passwords, databases, version control.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::LazyLock;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of such names; letters count whatever their case. From the manual of each program: `ssh-keygen(1)`, `gpg(1)`,
/// `curl(1)` (`.netrc`), `PostgreSQL` (`.pgpass`), `SQLite`, `MySQL` (`InnoDB` files), git, Mercurial, Subversion, Bazaar, Terraform,
/// the AWS and Kubernetes clients, Java keystores, `KeePass`, `OpenVPN`, PKCS 12.
const NAMES: [&str; 52] = [
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdb",
    "*.kdbx",
    "*.gpg",
    "*.asc",
    "*.ovpn",
    "*.age",
    ".ssh",
    ".gnupg",
    ".aws",
    ".kube",
    "kubeconfig*",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    "*password*",
    "*passwd*",
    "*secret*",
    "*credential*",
    "*private?key*",
    "*wallet*",
    ".env",
    ".env.*",
    "*.env",
    "*.sqlite",
    "*.sqlite3",
    "*.db",
    "*.db3",
    "*.mdb",
    "*.accdb",
    "*.ibd",
    "ibdata*",
    "*.sql",
    "*.sql.*",
    "*.dump",
    "*.tfstate*",
    ".git",
    ".hg",
    ".svn",
    ".bzr",
    "*.bundle",
];

static PATTERNS: LazyLock<GlobSet> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    for name in NAMES {
        // A test builds every one of them.
        if let Ok(glob) = GlobBuilder::new(name).case_insensitive(true).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_default()
});

/// Whether a name looks precious.
pub fn precious(name: &[u8]) -> bool {
    PATTERNS.is_match(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_passwords_databases_and_histories_look_precious_and_rubbish_does_not() {
        assert_eq!(PATTERNS.len(), NAMES.len());
        for name in [
            "id_ed25519",
            "id_rsa.old",
            "server.PEM",
            "Passwords-2024.txt",
            ".env",
            ".env.production",
            "prod.env",
            "app.sqlite3",
            "orders.db",
            "backup.sql.gz",
            ".git",
            "terraform.tfstate.backup",
        ] {
            assert!(precious(name.as_bytes()), "{name}");
        }
        for name in [
            "tmp.Xy12",
            "environment",
            "build-7",
            "pip-unpack-1",
            "go-build1234",
            "a.dbg",
            ".gitignore",
            "pemx",
        ] {
            assert!(!precious(name.as_bytes()), "{name}");
        }
    }
}
