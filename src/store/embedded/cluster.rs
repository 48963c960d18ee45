//! Makes the cluster. It gets its name when it is whole, so a kill in between leaves only something to sweep.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::Path,
};

use super::{
    Durability,
    error::{Doing, EmbeddedError},
    launch::Launcher,
};

/// Followed by the process id of the headcount that makes the cluster.
const UNFINISHED: &str = "cluster.new-";

impl Launcher {
    /// Does nothing if it is there.
    pub(super) async fn make_cluster(&self, durability: Durability) -> Result<(), EmbeddedError> {
        self.sweep();
        let cluster = self.home.cluster();
        if cluster.is_dir() {
            return Ok(());
        }
        let unfinished = self.home.root.join(format!("{UNFINISHED}{}", std::process::id()));
        self.home.make_private(&unfinished)?;
        self.initdb(&unfinished, durability).await?;
        let doing = || format!("naming {}", cluster.display());
        fs::rename(&unfinished, &cluster).doing(doing)?;
        // initdb has synced what is in it; the name is ours to sync.
        File::open(&self.home.root).and_then(|root| root.sync_all()).doing(doing)
    }

    /// The C locale sorts by bytes on every machine, whatever its libraries.
    async fn initdb(&self, dir: &Path, durability: Durability) -> Result<(), EmbeddedError> {
        let options =
            ["--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "--no-instructions"];
        let sync = match durability {
            Durability::Full => None,
            Durability::Off => Some("--no-sync"),
        };
        let mut args = vec![OsStr::new("--pgdata"), dir.as_os_str()];
        args.extend(options.into_iter().chain(sync).map(OsStr::new));
        self.run(&self.binaries.initdb(), &args).await
    }

    /// What cannot be removed is in nobody's way: the next one has another name. It happens when an initdb
    /// was killed a moment ago and its own child still writes; a later start sweeps that.
    fn sweep(&self) {
        let unfinished =
            |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        for entry in fs::read_dir(&self.home.root).into_iter().flatten().flatten().filter(unfinished) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
