//! Which files there are under a path.
//!
//! A path is a file, a directory or a glob. Of a directory its files are taken and those of its
//! `key=value` directories, or of all directories with `recursiveFileLookup`. Names that begin with
//! `_` or `.` are never data, nor are files that are still empty. Where a file sink has written,
//! only the files that its manifest names are taken.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use globset::{GlobBuilder, GlobMatcher};

use super::options::FileOptions;
use crate::sinks::file::manifest::committed_files;
use crate::{ConnectorError, Result};

/// A file as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Absolute.
    pub(super) path: String,
    pub(super) size: u64,
    /// Milliseconds since 1970.
    pub(super) mtime: i64,
}

/// All files under the path of `options`, in no particular order.
pub(super) fn list(options: &FileOptions) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in expand(&options.path)? {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => directory(&path, options, &mut found)?,
            // A file that was named is taken whatever its name.
            Ok(metadata) => found.extend(file(&path, &metadata)?),
            Err(error) if error.kind() == ErrorKind::NotFound && is_glob(&options.path) => {}
            Err(error) => return Err(cannot_read(&path, error)),
        }
    }
    Ok(found)
}

fn directory(path: &Path, options: &FileOptions, found: &mut Vec<Found>) -> Result<()> {
    if let Some(files) = committed_files(path)? {
        for path in files {
            match fs::metadata(&path) {
                Ok(metadata) if wanted(&path, options) => found.extend(file(&path, &metadata)?),
                Ok(_) => {}
                // Replaced by a later epoch since the manifest was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_read(&path, error)),
            }
        }
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| cannot_read(path, error))? {
        let entry = entry.map_err(|error| cannot_read(path, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(['_', '.']) {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                if options.recursive || name.contains('=') {
                    directory(&path, options, found)?;
                }
            }
            Ok(metadata) if wanted(&path, options) => found.extend(file(&path, &metadata)?),
            Ok(_) => {}
            // Gone since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_read(&path, error)),
        }
    }
    Ok(())
}

fn wanted(path: &Path, options: &FileOptions) -> bool {
    match (&options.name_filter, path.file_name()) {
        (Some(filter), Some(name)) => filter.is_match(name),
        _ => true,
    }
}

fn file(path: &Path, metadata: &fs::Metadata) -> Result<Option<Found>> {
    if metadata.len() == 0 {
        return Ok(None);
    }
    let text = path.to_str().ok_or_else(|| {
        ConnectorError::Inconsistent(format!(
            "the name of {} is no UTF-8: rename the file, or leave it out with 'pathGlobFilter'",
            path.display()
        ))
    })?;
    let modified = metadata
        .modified()
        .map_err(|error| cannot_read(path, error))?;
    let mtime = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    Ok(Some(Found {
        path: text.into(),
        size: metadata.len(),
        mtime,
    }))
}

pub(super) fn cannot_read(path: &Path, source: std::io::Error) -> ConnectorError {
    ConnectorError::Io {
        action: "cannot read",
        path: path.into(),
        source,
    }
}

/// The file as it is now; `None` where it is gone or empty.
pub(super) fn look_again(found: &Found) -> Result<Option<Found>> {
    let path = Path::new(&found.path);
    match fs::metadata(path) {
        Ok(metadata) => file(path, &metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_read(path, error)),
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Whether the path is a glob: it has wildcards and no file of this very name exists.
pub(super) fn is_glob(path: &Path) -> bool {
    has_wildcard(&path.to_string_lossy()) && !path.exists()
}

/// The directory below which a path has wildcards; the path itself where it has none.
pub(super) fn fixed_root(path: &Path) -> PathBuf {
    if !is_glob(path) {
        return path.into();
    }
    path.components()
        .take_while(|part| !has_wildcard(&part.as_os_str().to_string_lossy()))
        .collect()
}

/// Refuses a path that has wildcards and is no glob.
pub(super) fn check(path: &Path) -> Result<()> {
    if is_glob(path) {
        path.components()
            .try_for_each(|part| matcher(path, part).map(drop))?;
    }
    Ok(())
}

fn matcher(path: &Path, part: Component<'_>) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(&part.as_os_str().to_string_lossy())
        .literal_separator(true)
        .build()
        .map_err(|why| ConnectorError::OptionValue {
            key: "path".into(),
            value: path.display().to_string(),
            expected: format!("a path or a glob ({why})"),
        })?;
    Ok(glob.compile_matcher())
}

/// The paths that a glob names, component by component.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if !is_glob(path) {
        return Ok(vec![path.into()]);
    }
    let root = fixed_root(path);
    let patterns = path.strip_prefix(&root).unwrap_or(path);
    let mut reached = vec![root];
    for part in patterns.components() {
        let glob = matcher(path, part)?;
        let mut next = Vec::new();
        for directory in reached {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) =>
                {
                    continue;
                }
                Err(error) => return Err(cannot_read(&directory, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| cannot_read(&directory, error))?;
                let name = entry.file_name();
                let hidden = name.to_string_lossy().starts_with(['_', '.']);
                if !hidden && glob.is_match(&name) {
                    next.push(entry.path());
                }
            }
        }
        reached = next;
    }
    Ok(reached)
}
