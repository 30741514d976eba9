//! What a query needs to go on after a restart: the offset log, the commit log, the state files,
//! and the decision what to do with them.
//!
//! One checkpoint directory belongs to one query:
//!
//! | name | what |
//! |---|---|
//! | `tidemark.sqlite` | the query's id and [`Fingerprint`], the logs, the state manifest |
//! | `state/` | deltas and snapshots of the state, [one container each](state_files) |
//! | `tables/` | [snapshots of static tables](tidemark_connectors::sources::snapshots), where there are any |
//! | `tidemark.lock` | locked by the process that runs the query; holds its pid |
//!
//! `docs/format.md` describes all of it. The life of an epoch, each step durable before the next:
//!
//! 1. [`Checkpoint::log_offsets`]: what it reads, and its watermark
//! 2. sinks stage its rows
//! 3. each worker writes what changed with a [`StateFileWriter`]
//! 4. sinks commit
//! 5. [`Checkpoint::commit`]: the commit entry and, in the same transaction, the [`Manifest`]
//!
//! All files but the database's and the lock are written through a
//! [`Storage`](tidemark_connectors::storage::Storage), and the database tells it of its transactions.
//!
//! Wherever a process dies, the next one opens the checkpoint and asks [`decide`], a pure
//! function of the [`Logs`] and of what the sink holds.
//!
//! | module | what it does |
//! |---|---|
//! | `log` | the entries of the logs |
//! | `history` | what a query has done so far, for whoever asks |
//! | `decide` | how a query starts: ready, replay, or refuse |
//! | `fingerprint` | is this the checkpoint of this query? |
//! | `state_dir` | where the state files are |
//! | `state_files` | the container file: write, read, verify |
//! | `sections` | sections of such files as streams |
//! | `manifest` | which files make the state of an epoch |
//! | `fold` | many files become one, in the background |
//! | `database`, `tables` | the logs in `SQLite` |
//! | `directory` | the directory as a whole: is it a checkpoint, what is left over in it |
//! | `facade` | [`Checkpoint`], which puts them together |
//! | `inspect` | what a checkpoint holds, read only |
//! | `rollback` | going back to an older epoch |
//! | `state_rows` | the rows of an operator, as they are kept |

mod database;
mod decide;
mod directory;
mod error;
mod facade;
mod fingerprint;
mod fold;
mod history;
mod inspect;
mod lock;
mod log;
mod manifest;
mod rollback;
mod sections;
mod state_dir;
pub mod state_files;
mod state_rows;
mod tables;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod size_tests;

pub use database::FORMAT_VERSION;
pub use decide::{Decision, Refusal, Replay, decide};
pub use directory::{Scales, tables_dir};
pub use error::{CheckpointError, Outcome, Result};
pub use facade::{Checkpoint, Maintenance};
pub use fingerprint::{Difference, Fingerprint, Identity};
pub use fold::{Fold, FoldPolicy, fold_rows};
pub use history::{Deeds, History, Seen};
pub use inspect::{FileReport, Inspection};
pub use lock::Holder;
pub use log::{CommitEntry, Group, Logs, OffsetEntry, OperatorSize, PartitionState, SourceRange};
pub use manifest::{FileKind, Manifest, MissingFile, RestorePlan, StateFile};
pub use rollback::Rollback;
pub use sections::{SectionReader, SectionWriter, StateFiles};
pub use state_dir::StateDir;
pub use state_files::{Section, StateFileReader, StateFileWriter};
pub use state_rows::{StateRow, StateRows};
