//! The user as which Postgres runs when headcount runs as root, because Postgres refuses to run as root.
//! Reads the password file; creates no user.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use super::error::EmbeddedError;

/// An unprivileged user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `None` for an ordinary user: Postgres runs as the same user. For root it is the owner of the cluster, so that a
    /// cluster made by an ordinary user stays theirs; for a new cluster `postgres`, else `nobody`.
    pub(super) fn choose(cluster: &Path) -> Result<Option<Self>, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = fs::metadata(cluster).ok().filter(|cluster| cluster.uid() != 0);
        let chosen = match owner {
            Some(owner) => Some(Self::of_owner(&accounts, &owner)),
            None => Self::unprivileged(&accounts),
        };
        chosen.map(Some).ok_or(EmbeddedError::NoAccount)
    }

    fn of_owner(accounts: &str, owner: &Metadata) -> Self {
        let (uid, gid) = (owner.uid(), owner.gid());
        let known = Self::all(accounts).find(|account| account.uid == uid);
        known.unwrap_or_else(|| Self { name: uid.to_string(), uid, gid })
    }

    fn unprivileged(accounts: &str) -> Option<Self> {
        let named = |name| Self::all(accounts).find(|account| account.name == name && account.uid != 0);
        named("postgres").or_else(|| named("nobody"))
    }

    /// A line is `name:password:uid:gid:...`; malformed lines are skipped.
    fn all(accounts: &str) -> impl Iterator<Item = Self> {
        accounts.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self { name, uid, gid })
        })
    }

    /// Judges by the mode bits of owner, group and others only. The process is given no supplementary groups, and
    /// access control lists are ignored.
    pub(super) fn can_enter(&self, dir: &Metadata) -> bool {
        let search = match () {
            () if dir.uid() == self.uid => 0o100,
            () if dir.gid() == self.gid => 0o010,
            () => 0o001,
        };
        dir.mode() & search != 0
    }

    /// The outermost directory on the way into `path` (itself included) that this user may not enter.
    pub(super) fn closed_on_the_way(&self, path: &Path) -> Option<PathBuf> {
        let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|dir| !self.can_enter(&dir));
        path.ancestors().filter(closed).last().map(Path::to_owned)
    }
}

/// A new directory for Postgres's user alone.
pub(super) fn private(dir: &Path, account: Option<&Account>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    account.map_or(Ok(()), |account| chown(dir, Some(account.uid), Some(account.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "root:x:0:0:root:/root:/bin/bash";
    const NOBODY: &str = "nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin";
    const POSTGRES: &str = "postgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash";

    #[test]
    fn root_becomes_postgres_else_nobody_else_gives_up() {
        let chosen = |lines: &[&str]| Account::unprivileged(&lines.join("\n")).map(|chosen| chosen.uid);
        assert_eq!(chosen(&[ROOT, NOBODY, POSTGRES]), Some(101));
        assert_eq!(chosen(&[ROOT, "+::::::", NOBODY]), Some(65534));
        assert_eq!(chosen(&[ROOT, "postgres:x:0:0::/:/bin/sh"]), None);
    }

    #[test]
    fn the_outermost_closed_directory_is_named() {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let top = tempfile::tempdir().unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let closed = top.path().join("closed");
        fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();
        let inside = closed.join("inside");
        fs::DirBuilder::new().mode(0o700).create(&inside).unwrap();
        let stranger = Account { name: "stranger".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        assert_eq!(stranger.closed_on_the_way(&inside), Some(closed));
        assert_eq!(stranger.closed_on_the_way(top.path()), None);
    }
}
