//! What becomes of files whose rows are all committed: `cleanSource`.
//!
//! Nothing here may lose data or stop a query: a file that changed since it was read stays where it
//! is, an archived file never replaces another one, and what fails is left for the user.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FileSplit;
use super::options::Clean;

/// Cleans one file up; says whether that worked.
pub(super) fn clean(file: &FileSplit, how: &Clean) -> bool {
    let path = Path::new(&file.path);
    if matches!(how, Clean::Off) {
        return true;
    }
    let unchanged = match fs::metadata(path) {
        Ok(metadata) => metadata.len() == file.size && mtime(&metadata) == Some(file.mtime),
        // Cleaned already, before a restart.
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    if !unchanged {
        return false;
    }
    match how {
        Clean::Off => true,
        Clean::Delete => fs::remove_file(path).is_ok(),
        Clean::Archive(directory) => archive(path, directory).is_ok(),
    }
}

pub(super) fn mtime(metadata: &fs::Metadata) -> Option<i64> {
    let since = metadata
        .modified()
        .ok()?
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Moves a file below `directory`, under its whole path, as Spark does.
fn archive(path: &Path, directory: &Path) -> io::Result<()> {
    let relative: PathBuf = path
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    let target = directory.join(relative);
    if target.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::rename(path, &target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let half = target.with_extension("_copying");
            fs::copy(path, &half)?;
            fs::File::open(&half)?.sync_all()?;
            fs::rename(&half, &target)?;
            fs::remove_file(path)
        }
        done => done,
    }
}
