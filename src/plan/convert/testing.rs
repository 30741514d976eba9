//! Plans for tests.
