//! The `tidemark` command.

#[global_allocator]
static ALLOCATOR: tidemark_allocator::MiMalloc = tidemark_allocator::MiMalloc;

fn main() -> std::process::ExitCode {
    // Chunks of state are freed in bursts and wanted again at once.
    tidemark_allocator::set_purge_delay(1000);
    tidemark::cli::main()
}
