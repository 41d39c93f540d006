//! Values in reused slots, each under a token that is never given to another value.

/// Names a slot of a [`Slab`] and its current value. An answer that comes too late finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub fn from_u64(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }

    pub fn to_u64(self) -> u64 {
        u64::from(self.index) | u64::from(self.generation) << 32
    }
}

/// Values in reused slots, so that nothing is allocated once the crowd has arrived.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(value);
        Token { index, generation: *generation }
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (generation, place) = self.places.get_mut(token.index as usize)?;
        place.as_mut().filter(|_| *generation == token.generation)
    }

    pub fn peek(&self, token: Token) -> Option<&T> {
        let (generation, place) = self.places.get(token.index as usize)?;
        place.as_ref().filter(|_| *generation == token.generation)
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        let (generation, place) = self.places.get_mut(token.index as usize)?;
        if *generation != token.generation {
            return None;
        }
        let value = place.take()?;
        // The two highest tokens name no slot: the loop uses them for itself.
        *generation = (*generation + 1) % (u32::MAX - 1);
        self.free.push(token.index);
        Some(value)
    }

    /// Tokens of the values for which `wanted` is true.
    pub fn find(&self, found: &mut Vec<Token>, wanted: impl Fn(&T) -> bool) {
        for (index, (generation, place)) in self.places.iter().enumerate() {
            if place.as_ref().is_some_and(&wanted) {
                found.push(Token { index: index as u32, generation: *generation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_values_token_finds_nothing() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c');
        assert_eq!(slab.get_mut(a), None, "its slot is c's now");
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get_mut(b).copied(), slab.peek(c).copied()), (Some('b'), Some('c')));
        assert_eq!(Token::from_u64(c.to_u64()), c);
        let mut found = Vec::new();
        slab.find(&mut found, |value| *value == 'b');
        assert_eq!(found, [b]);
    }
}
