//! What the parts cost that every row goes through: `cargo bench --bench micro`, and behind `--` a
//! name to run only some.
//!
//! Decoding JSON and CSV has benchmarks of its own: `cargo bench -p tidemark-connectors --bench decode`.

mod aggregate;
mod codecs;
mod state;
mod windowed;

#[global_allocator]
static ALLOCATOR: tidemark_allocator::MiMalloc = tidemark_allocator::MiMalloc;

fn main() {
    divan::main();
}
