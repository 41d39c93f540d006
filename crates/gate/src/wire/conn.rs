//! The connections of one loop. An idle one is this struct and a socket; it owns no buffer.

use super::{Seat, turns::Pace};
use crate::{
    cors::Caller,
    front::{Expected, Front},
    pass::Pass,
    problem::Problem,
};
use contracts::{AttemptId, Basket};
use std::{net::IpAddr, net::TcpStream, sync::Arc, time::Instant};

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Before the header of the PROXY protocol, which says whom the connection is from.
    Announced,
    /// Between two requests, or before the first.
    Idle,
    /// Some bytes of a head have come.
    Head,
    /// The head is whole, the body is not.
    Body,
    /// A request waits for its answer; what comes behind it waits too.
    Waiting,
    /// The answer says that this is the end. What still comes is thrown away until the client has closed as well: closing
    /// with bytes unread would reset the connection, and the answer might be lost with it (RFC 9112, section 9.6).
    Lingering,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) seat: Seat,
    /// Whose page the present request comes from.
    pub(super) caller: Caller,
    /// Whether it is served behind others.
    pub(super) pace: Pace,
    pub(super) state: State,
    /// Seconds since the loop began at which this state has lasted too long.
    pub(super) until: u32,
    /// The socket may have more: an edge has come that was not read to its end.
    pub(super) readable: bool,
    /// The client will send nothing more.
    pub(super) ended: bool,
    /// It has said so: behind what is there to read comes the end, and no further edge.
    pub(super) end_seen: bool,
    /// Close once the answer is written.
    pub(super) close: bool,
    /// The loop is told when the socket takes bytes again.
    pub(super) watches_out: bool,
    /// Bytes of a request that is not whole, or of one that waits behind another.
    pub(super) input: Option<Vec<u8>>,
    /// Bytes of answers that the socket has not taken, and how many of them it has.
    pub(super) output: Option<(Vec<u8>, usize)>,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) conn: Token,
    pub(super) front: Arc<Front>,
    pub(super) pass: Pass,
    pub(super) basket: Basket,
    pub(super) id: AttemptId,
    pub(super) started: Instant,
    pub(super) stage: Stage,
    /// While it waits for its tier's turn.
    pub(super) _expected: Option<Expected>,
}

/// How far an attempt has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// It has not been put to the sale.
    Here,
    /// It will be decided, whoever waits.
    Submitted,
    /// It may not go on to the sale now: what is left to find out is whether something was promised before. Else this is said.
    NoRoom(Problem),
}

/// Names a place in a [`Slab`] and who has it now: an answer that comes too late finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(super) fn from_u64(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }

    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.index) | u64::from(self.generation) << 32
    }
}

/// Values in places that are used again, so that nothing is allocated once the crowd is there.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(value);
        Token { index, generation: *generation }
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (generation, place) = self.places.get_mut(token.index as usize)?;
        place.as_mut().filter(|_| *generation == token.generation)
    }

    pub(super) fn peek(&self, token: Token) -> Option<&T> {
        let (generation, place) = self.places.get(token.index as usize)?;
        place.as_ref().filter(|_| *generation == token.generation)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let (generation, place) = self.places.get_mut(token.index as usize)?;
        if *generation != token.generation {
            return None;
        }
        let value = place.take()?;
        // The two highest tokens name no place: see the loop.
        *generation = (*generation + 1) % (u32::MAX - 1);
        self.free.push(token.index);
        Some(value)
    }

    /// Tokens of those for which `wanted` holds.
    pub(super) fn find(&self, found: &mut Vec<Token>, wanted: impl Fn(&T) -> bool) {
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
    fn a_token_of_one_who_left_finds_nobody() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c');
        assert_eq!(slab.get_mut(a), None, "its place is c's now");
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get_mut(b).copied(), slab.peek(c).copied()), (Some('b'), Some('c')));
        assert_eq!(Token::from_u64(c.to_u64()), c);
        let mut found = Vec::new();
        slab.find(&mut found, |value| *value == 'b');
        assert_eq!(found, [b]);
    }
}
