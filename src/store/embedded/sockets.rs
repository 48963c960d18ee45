//! The directory of Postgres's socket. A process that can enter it is trusted, so only Postgres's user can.
//!
//! It is `run` in the data directory. If that path is too long or needs quoting, it is a new directory in /tmp, which
//! is removed at the end. A kill leaves that one behind, empty.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::account::{Account, private};

/// The path of a Unix socket can have 107 bytes on Linux and 103 elsewhere.
const SOCKET_PATH_MAX: usize = 100;
/// Postgres names its socket after a port even if it does not listen on one.
const SOCKET_NAME: &str = "/.s.PGSQL.5432";

/// Where the socket is.
#[derive(Debug)]
pub(super) struct SocketDir {
    pub(super) path: PathBuf,
    temporary: bool,
}

impl SocketDir {
    pub(super) fn make(root: &Path, account: Option<&Account>) -> io::Result<Self> {
        let beside = root.join("run");
        if !is_plain_and_short(&beside) {
            return Self::fresh(Path::new("/tmp"), account);
        }
        if beside.is_dir() {
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o700))?;
        } else {
            private(&beside, account)?;
        }
        Ok(Self { path: beside, temporary: false })
    }

    /// Not in TMPDIR, which may itself be long. An existing directory is never used, whoever owns it.
    fn fresh(parent: &Path, account: Option<&Account>) -> io::Result<Self> {
        loop {
            let path = parent.join(format!("headcount-{:08x}", rand::random::<u32>()));
            match private(&path, account) {
                Ok(()) => {
                    return Ok(Self { path, temporary: true });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the sockets, and their lock files, of a Postgres that is known to be dead.
    pub(super) fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if self.temporary {
            // An error cannot be reported from here, and an empty directory in /tmp does no harm.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Plain means that no quoting is needed: Postgres splits its list of socket directories at commas, and the path is
/// part of a URL.
fn is_plain_and_short(dir: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let path = dir.as_os_str().as_encoded_bytes();
    path.len() + SOCKET_NAME.len() <= SOCKET_PATH_MAX && path.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_long_or_needs_quoting_holds_no_socket() {
        assert!(is_plain_and_short(Path::new("/home/ada/.local/share/headcount/run")));
        assert!(!is_plain_and_short(Path::new("/home/ada/one, two/run")));
        assert!(!is_plain_and_short(&Path::new("/home").join("a".repeat(90))));
    }
}
