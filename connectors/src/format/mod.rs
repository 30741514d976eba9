//! The formats of records: bytes to Arrow and back.
