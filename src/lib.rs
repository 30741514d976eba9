//! Tidemark: an incremental stream processor in one binary.
//!
//! The rooms, from the ground up; a room imports only rooms above it in this list:
//!
//! | room | what lives there |
//! |---|---|
//! | [`time`] | the one timestamp of every dataflow |
//! | [`row`] | Arrow batches with multiplicities, and their byte rows |
//! | [`plan`] | SQL and data frames to a plan |
//! | [`state`] | traces of byte rows: what operators remember |
//! | [`operators`] | one file each |
//! | [`compile`] | a plan to a dataflow |
//! | [`checkpoint`] | offset log, state files, commit log, recovery |
//! | [`runtime`] | the sequencer, workers, `StreamingQuery`, progress |
//! | [`session`] | what users hold |
//! | [`cli`] | arguments to session; the only room that prints or exits |

pub mod plan;
pub mod row;
pub mod state;
pub mod time;
