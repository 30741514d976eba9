//! What a file sink has committed to a directory, read from the manifest that it keeps there.
//!
//! The runs under `path/_tidemark/` form a chain: the newest names the one before it. The files of
//! the chain are the committed ones; whatever else lies in the directory is not there yet, or no
//! more.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::listing::cannot_read;
use crate::{ConnectorError, Result};

const DIRECTORY: &str = "_tidemark";

/// How often a directory is listed again that changes under the reader.
const ATTEMPTS: u64 = 25;

#[derive(Deserialize)]
struct Run {
    version: u32,
    previous: Option<u64>,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
}

/// The committed files of a directory; `None` where no file sink writes to it.
pub(super) fn committed_files(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let directory = path.join(DIRECTORY);
    for attempt in 0..ATTEMPTS {
        std::thread::sleep(Duration::from_millis(attempt));
        let Some((names, claimed)) = run_names(&directory)? else {
            return Ok(None);
        };
        if names.is_empty() {
            return Ok(claimed.then(Vec::new));
        }
        if let Some(files) = chain(&directory, names)? {
            return Ok(Some(
                files.into_iter().map(|file| path.join(file)).collect(),
            ));
        }
    }
    Err(ConnectorError::Inconsistent(format!(
        "the manifest in {} has a gap. Was a file removed by hand? Put it back, or move {DIRECTORY} away to read every file that lies in the directory",
        directory.display()
    )))
}

/// The runs that a directory holds, as first and last epoch and name, and whether a sink has
/// claimed it; `None` where there is no manifest.
#[expect(clippy::type_complexity, reason = "read once, two lines above")]
fn run_names(directory: &Path) -> Result<Option<(Vec<(u64, u64, String)>, bool)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot_read(directory, error)),
    };
    let (mut runs, mut claimed) = (Vec::new(), false);
    for entry in entries {
        let entry = entry.map_err(|error| cannot_read(directory, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        claimed |= name == "owner.json" || name == "pending.json";
        let epochs = name
            .strip_suffix(".json")
            .and_then(|name| name.split_once('.'));
        if let Some((first, last)) = epochs.and_then(|(epochs, _)| epochs.split_once('-'))
            && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
        {
            runs.push((first, last, name));
        }
    }
    Ok(Some((runs, claimed)))
}

/// The files of the chain of runs; `None` where a link is missing.
fn chain(directory: &Path, mut runs: Vec<(u64, u64, String)>) -> Result<Option<Vec<String>>> {
    // Of the runs that end alike the longest covers the others.
    runs.sort_by_key(|(first, last, _)| (*last, std::cmp::Reverse(*first)));
    let mut files = Vec::new();
    let mut wanted = runs.last().map(|(_, last, _)| *last);
    while let Some(last) = wanted {
        let Some((_, _, name)) = runs.iter().rev().find(|(_, end, _)| *end == last) else {
            return Ok(None);
        };
        let path = directory.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot_read(&path, error)),
        };
        let bad = |reason| ConnectorError::BadFile {
            path: path.clone(),
            format: "manifest",
            reason,
        };
        let run: Run = serde_json::from_slice(&text).map_err(|why| bad(why.to_string()))?;
        if run.version != 1 {
            return Err(bad(format!(
                "its version is {}; read it with a newer release",
                run.version
            )));
        }
        files.extend(run.files.into_iter().map(|file| file.path));
        wanted = run.previous;
    }
    Ok(Some(files))
}
