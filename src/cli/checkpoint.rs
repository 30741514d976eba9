//! `tidemark checkpoint DIR`.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cli::{CheckpointArgs, Failure, print};

/// Prints what a checkpoint holds, or goes back to an older epoch of it; an error where it is damaged.
pub(super) fn show(args: &CheckpointArgs) -> Result<(), Failure> {
    let dir = &args.dir;
    if let Some(epoch) = args.rollback {
        let done = Checkpoint::roll_back(dir, epoch).map_err(failure)?;
        return print(&format!("{done}\n"));
    }
    let inspection = Checkpoint::inspect(dir).map_err(failure)?;
    print(&format!("{inspection}\n"))?;
    if inspection.is_sound() {
        if let Some(operator) = args.state {
            let rows = inspection.state(operator, args.limit).map_err(failure)?;
            print(&format!("{rows}\n"))?;
        }
        Ok(())
    } else {
        Err(Failure::query(format!(
            "the checkpoint {} is damaged, as shown above",
            dir.display()
        )))
    }
}

pub(super) fn failure(error: CheckpointError) -> Failure {
    match error {
        CheckpointError::NoCheckpoint { .. }
        | CheckpointError::NoState { .. }
        | CheckpointError::NotKept { .. } => Failure::usage(error.to_string()),
        damaged => Failure::query(damaged.to_string()),
    }
}
