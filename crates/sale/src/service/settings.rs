//! The section `[sale]` of the configuration.

use serde::{Deserialize, Serialize};

/// Every default of the section `[sale]`, commented.
pub const DEFAULT_TOML: &str = include_str!("../config.default.toml");

/// The smallest and largest value of each number in the section. `config.default.toml` says how
/// much memory so many attempts take.
pub const RANGES: &[(&str, i64, i64)] =
    &[("queue_max", 1, 1_000_000), ("line_max", 0, 10_000_000), ("snapshot_every", 1, 1_000_000_000)];

/// The section `[sale]`: how the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Commands that may wait in the queue.
    pub queue_max: usize,
    /// Attempts that may wait in line for room in the queue; 0 for no line.
    pub line_max: usize,
    /// Entries after which a new snapshot is made.
    pub snapshot_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        // 65,536 commands wait a tenth of a second at half a million decisions a second; four times
        // as many in line half a second.
        Self { queue_max: 65_536, line_max: 262_144, snapshot_every: 500_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_lists_every_default() {
        #[derive(Deserialize)]
        struct File {
            sale: Settings,
        }
        let file: File = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(file.sale, Settings::default());
    }
}
