//! What a process serves over HTTP: its queries for people and probes, its metrics for Prometheus.
//!
//! | module | what it does |
//! |---|---|
//! | [`server`] | the HTTP server |
//! | [`board`] | the queries of the process, from before they start until after they have ended |
//! | [`pages`] | which path answers what |
//!
//! `docs/http.md` has the paths and what they give.

pub mod board;
pub mod pages;
pub mod server;

pub use board::Board;
pub use server::{ServeError, Server};
