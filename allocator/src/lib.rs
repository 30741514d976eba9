//! The process's allocator (mimalloc) and the one setting that stream state needs.
//!
//! A spine frees chunks in bursts and asks for as many right after. mimalloc's default gives such
//! pages back to the kernel within milliseconds, and they are faulted in and cleared again: 15 to
//! 30 % of the CPU time of a state-heavy query. [`set_purge_delay`] keeps them for a while.

/// Install with `#[global_allocator]` in a binary.
pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h` (both of its generations); the bindings do not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// How long freed pages are kept before they go back to the kernel, in milliseconds.
pub fn set_purge_delay(milliseconds: u32) {
    // SAFETY: `mi_option_set` stores an integer in mimalloc's own table of options; it has no
    // precondition, and any value is legal for this option.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, libc_long(milliseconds));
    }
}

fn libc_long(value: u32) -> std::ffi::c_long {
    std::ffi::c_long::from(i32::try_from(value).unwrap_or(i32::MAX))
}
