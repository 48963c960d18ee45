//! Finds the programs `postgres` and `initdb` among those installed. Never downloads any.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::error::EmbeddedError;

/// Names a Postgres that is not on the search path, such as one that came with a language package.
const WANTED: &str = "HEADCOUNT_POSTGRES_BIN";
/// Debian and Ubuntu keep a directory per version here, none of them on the search path.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A directory that holds both programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The directory the variable names; else the first on `PATH`; else the newest of Debian's.
    pub(super) fn find() -> Result<Self, EmbeddedError> {
        let path = env::var_os("PATH").unwrap_or_default();
        match env::var_os(WANTED).filter(|dir| !dir.is_empty()) {
            Some(dir) => {
                Self::holding(Path::new(&dir)).ok_or_else(|| EmbeddedError::BinariesNotThere(dir.into()))
            }
            None => Self::search(&path, Path::new(VERSIONS)).ok_or(EmbeddedError::BinariesMissing),
        }
    }

    fn search(path: &OsStr, versions: &Path) -> Option<Self> {
        let on_path = env::split_paths(path).find_map(|dir| Self::holding(&dir));
        on_path.or_else(|| Self::newest(versions))
    }

    /// Symlinks are followed first: a lone `postgres` in /usr/local/bin may point to where `initdb` is too.
    fn holding(dir: &Path) -> Option<Self> {
        let dir = fs::canonicalize(dir.join("postgres")).ok()?.parent()?.to_owned();
        dir.join("initdb").is_file().then_some(Self { dir })
    }

    fn newest(versions: &Path) -> Option<Self> {
        let mut found: Vec<_> = (fs::read_dir(versions).ok()?.flatten())
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|version| {
                Some((version, Self::holding(&versions.join(version.to_string()).join("bin"))?))
            })
            .collect();
        found.sort_by_key(|(version, _)| *version);
        found.pop().map(|(_, binaries)| binaries)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(dir: &Path) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("postgres"), "").unwrap();
        fs::write(dir.join("initdb"), "").unwrap();
        fs::canonicalize(dir).unwrap()
    }

    #[test]
    fn a_lone_symlink_on_the_path_leads_to_both_programs() {
        let machine = tempfile::tempdir().unwrap();
        let real = install(&machine.path().join("lib/15/bin"));
        let on_path = machine.path().join("bin");
        fs::create_dir(&on_path).unwrap();
        std::os::unix::fs::symlink(real.join("postgres"), on_path.join("postgres")).unwrap();
        let found = Binaries::search(on_path.as_os_str(), Path::new("/nowhere"));
        assert_eq!(found, Some(Binaries { dir: real }));
    }

    #[test]
    fn the_newest_version_is_chosen_by_number() {
        let versions = tempfile::tempdir().unwrap();
        for version in ["9", "15", "not-a-version"] {
            install(&versions.path().join(version).join("bin"));
        }
        fs::create_dir(versions.path().join("18")).unwrap(); // only a leftover of an uninstalled one
        let found = Binaries::search(OsStr::new(""), versions.path()).unwrap();
        assert_eq!(found.dir(), fs::canonicalize(versions.path().join("15/bin")).unwrap());
    }

    #[test]
    fn nothing_installed_is_nothing_found() {
        assert_eq!(Binaries::search(OsStr::new("/nowhere"), Path::new("/nowhere")), None);
    }
}
