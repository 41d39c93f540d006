//! How long a segment's file is made, and by what it grows.
//!
//! A segment of 64 MiB that is made at once costs a sale of 50 units 64 MiB of disk. So the file
//! grows in steps, each as long as all before it: an append meets one only now and then, and
//! almost every append stays within the file's length, where a sync has little metadata to write.

use super::frame::ALIGN;
use super::options::Options;

/// What a file grows by when there is no room for a whole step.
const SMALLEST_STEP_BYTES: u64 = 4096;

/// The lengths to try, the best one first, for a file of `bytes` that must become `wanted` bytes
/// long; `None` if a segment must not become that long.
pub(super) fn lengths(bytes: u64, wanted: u64, options: &Options) -> Option<[u64; 2]> {
    if wanted > options.segment_bytes {
        return None;
    }
    let up_to = |len: u64| len.min(options.segment_bytes / ALIGN * ALIGN).max(wanted);
    let least = wanted.next_multiple_of(SMALLEST_STEP_BYTES);
    Some([up_to((2 * bytes).max(options.first_bytes).max(least)), up_to(least)])
}

/// The lengths to try, the best one first, for a new segment that must have `wanted` bytes.
pub(super) fn first_lengths(wanted: u64, options: &Options) -> [u64; 2] {
    lengths(0, wanted, options).unwrap_or([wanted; 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogId, Partition};

    const FIRST_BYTES: u64 = 64 << 10;

    fn options(segment_bytes: u64) -> Options {
        Options { segment_bytes, ..Options::new(Partition(0), LogId([0; 16])) }
    }

    #[test]
    fn a_segment_doubles_up_to_its_full_length() {
        let check = |bytes, wanted, want| {
            assert_eq!(lengths(bytes, wanted, &options(64 << 20)), want, "{bytes} {wanted}")
        };
        check(0, 4096, Some([64 << 10, 4096]));
        check(64 << 10, (64 << 10) + 8, Some([128 << 10, 68 << 10]));
        check(64 << 10, 1 << 20, Some([1 << 20, 1 << 20]));
        check(40 << 20, (40 << 20) + 8, Some([64 << 20, (40 << 20) + 4096]));
        check(64 << 20, (64 << 20) + 8, None);
        let (mut bytes, mut steps) = (FIRST_BYTES, 0);
        while bytes < 64 << 20 {
            [bytes, _] = lengths(bytes, bytes + 8, &options(64 << 20)).unwrap();
            steps += 1;
        }
        assert_eq!((bytes, steps), (64 << 20, 10));
    }

    #[test]
    fn a_segment_is_made_no_longer_than_it_may_become_unless_one_batch_needs_it() {
        assert_eq!(first_lengths(4096, &options(64 << 20)), [FIRST_BYTES, 4096]);
        assert_eq!(first_lengths(4104, &options(64 << 20)), [FIRST_BYTES, 8192]);
        assert_eq!(first_lengths(4104, &options(6144)), [6144, 6144]);
        assert_eq!(first_lengths(1 << 20, &options(64 << 20)), [1 << 20; 2]);
        assert_eq!(first_lengths(5 << 20, &options(64 << 10)), [5 << 20; 2]);
    }
}
