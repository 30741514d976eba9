//! `tidemark checkpoint DIR`.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::cli::Failure;

/// Prints what a checkpoint holds; an error where it is damaged.
pub(super) fn show(dir: &Path) -> Result<(), Failure> {
    let inspection = Checkpoint::inspect(dir).map_err(|error| Failure::usage(error.to_string()))?;
    println!("{inspection}");
    if inspection.is_sound() {
        Ok(())
    } else {
        Err(Failure::query(format!("the checkpoint {} is damaged, as shown above", dir.display())))
    }
}
