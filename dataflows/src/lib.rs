//! Ready dataflows.
