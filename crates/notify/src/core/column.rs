//! Numbers that are close to each other, in as few bytes as the largest difference takes.

/// A list of numbers that does not change.
#[derive(Debug, Clone)]
pub(super) struct Column {
    least: u64,
    /// Bytes of each number: how much more it is than the least one.
    width: usize,
    bytes: Box<[u8]>,
}

impl Column {
    pub(super) fn of(numbers: impl Iterator<Item = u64> + Clone) -> Self {
        let least = numbers.clone().min().unwrap_or_default();
        let most = numbers.clone().max().unwrap_or_default();
        let width = match most - least {
            0 => 0,
            1..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        let bytes = match width {
            0 => Box::default(),
            _ => numbers.flat_map(|number| (number - least).to_le_bytes().into_iter().take(width)).collect(),
        };
        Self { least, width, bytes }
    }

    /// The number at this place, which must be one of the list.
    pub(super) fn get(&self, at: usize) -> u64 {
        let from = at * self.width;
        let more = match self.width {
            0 => 0,
            1 => u64::from(self.bytes[from]),
            2 => u64::from(u16::from_le_bytes(self.array(from))),
            4 => u64::from(u32::from_le_bytes(self.array(from))),
            _ => u64::from_le_bytes(self.array(from)),
        };
        self.least + more
    }

    fn array<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[from..from + N]);
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    #[test]
    fn numbers_are_what_they_were_in_the_least_bytes() {
        let mut prng = Prng::new(7);
        for (most, bytes) in
            [(0, 0), (200, 100), (60_000, 200), (1 << 31, 400), (1 << 60, 800), (u64::MAX, 800)]
        {
            let mut numbers: Vec<u64> = (0..100).map(|_| prng.next_u64() % (most / 2 + 1)).collect();
            (numbers[3], numbers[4]) = (0, most);
            for least in [0, 1 << 33] {
                let numbers: Vec<u64> = numbers.iter().map(|number| number.saturating_add(least)).collect();
                let column = Column::of(numbers.iter().copied());
                assert!((0..100).map(|at| column.get(at)).eq(numbers), "{most} {least}");
                assert!(column.bytes.len() == bytes, "{most} {}", column.bytes.len());
            }
        }
        assert_eq!(Column::of([].into_iter()).bytes.len(), 0);
    }
}
