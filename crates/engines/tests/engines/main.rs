//! The tests of the embedded log over real files, in one binary.

mod bit_flip;
mod conformance;
mod corpus;
mod crash_schedules;
mod failed_fsync;
mod foreign_file;
mod full_disk;
mod golden;
mod growing_segment;
mod missing_segment;
mod real_shortages;
mod torn_tail;
mod two_writers;
mod world;
