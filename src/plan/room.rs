//! Room on the stack for planning.
//!
//! Planners walk expressions by recursion, with frames of many kilobytes where nothing is optimised.
//! A thread has two megabytes, which sixty casts of one value can fill. What plans therefore runs
//! on a thread of its own with much more; pages that nothing touches cost nothing.

use std::panic::resume_unwind;
use std::thread;

/// Bytes of stack.
const ROOM: usize = 512 << 20;

/// Runs `work` where there is room. A panic in it goes on here.
///
/// Where no such thread can be had, it runs on the caller's.
pub(crate) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let mut work = Some(work);
    let done = thread::scope(|scope| {
        let run = || work.take().map(|work| work());
        let spawned = thread::Builder::new()
            .name("tidemark-plan".into())
            .stack_size(ROOM)
            .spawn_scoped(scope, run);
        spawned.ok().and_then(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        })
    });
    match (done, work) {
        (Some(done), _) => done,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("work that was taken is done or has panicked"),
    }
}
