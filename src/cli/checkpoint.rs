//! `tidemark checkpoint DIR`.

use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cli::{Failure, print};

/// Prints what a checkpoint holds; an error where it is damaged.
pub(super) fn show(dir: &Path) -> Result<(), Failure> {
    let inspection = Checkpoint::inspect(dir).map_err(|error| match error {
        CheckpointError::NoCheckpoint { .. } => Failure::usage(error.to_string()),
        damaged => Failure::query(damaged.to_string()),
    })?;
    print(&format!("{inspection}\n"))?;
    if inspection.is_sound() {
        Ok(())
    } else {
        Err(Failure::query(format!(
            "the checkpoint {} is damaged, as shown above",
            dir.display()
        )))
    }
}
