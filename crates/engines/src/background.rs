//! Lower priority for background work, so that requests do not wait for it.

/// The thread's nice value: competing with a thread of the usual priority it gets a tenth of a
/// processor, in slices of some milliseconds that the scheduler lets it finish. Not lower, for now
/// and then it holds a lock that other threads need.
const NICE: i32 = 10;

/// Lets other threads have most of the processor from now on. Call it on the thread itself.
///
/// A snapshot or a stock of signatures takes a processor for tenths of a second. On a machine of
/// two processors all requests in that time waited for it: 40 ms at the worst.
pub fn lower_priority() -> std::io::Result<()> {
    // Of Linux: without a process it is the calling thread's own priority.
    let now = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, NICE.max(now))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowering_a_threads_priority_leaves_other_threads_alone() {
        let of_this = || rustix::process::getpriority_process(None).unwrap();
        let before = of_this();
        let there = std::thread::spawn(move || {
            lower_priority().unwrap();
            of_this()
        });
        assert_eq!(there.join().unwrap(), NICE.max(before));
        assert_eq!(of_this(), before);
    }
}
