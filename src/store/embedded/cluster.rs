//! Makes the cluster. It is renamed to its final name once it is complete, so a kill before that leaves only a
//! directory for a later start to remove.

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
    /// A no-op if the cluster exists.
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
        // initdb has synced the contents; the rename must be synced here.
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

    /// Removes unfinished clusters. A failure is ignored: the next cluster has another name. It happens in a race with
    /// the child of an initdb that was just killed and still writes; a later start removes that directory.
    fn sweep(&self) {
        let unfinished =
            |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        for entry in fs::read_dir(&self.home.root).into_iter().flatten().flatten().filter(unfinished) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
