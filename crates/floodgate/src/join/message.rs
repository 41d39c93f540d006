//! The messages between a gate or a store in a process of its own and the process with the sales:
//! frames of a length (`u32`, little-endian) and that many bytes of postcard. Both sides are the
//! same build: the first frame of each says which.

use crate::store::ports::{Follows, Tells};
use contracts::store::{Backlog, Ended, HoldRef, PaymentId, Pulled, Receipt, SaleDecision, StoreError};
use contracts::{
    Attempt, AttemptId, DeniedShoppers, Found, GateRefusal, ItemView, OperateError, OperationDone,
    PauseCause, SaleId, SaleSpec, SaleState, SaleStats, SaleView, ShopperKey, ShopperRecord, Told,
    Unavailable,
};
use gate::Keyring;
use gate::ports::UseError;
use sale::service::Handle;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use units::{Sequence, TimeMs};

/// The most bytes of a frame: a turn's attempts and a sale's filter of shoppers fit, and an invalid
/// length is detected.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 20;

/// Ranges of entries in one report of refusals.
pub(super) const COUNTS_MAX: usize = 1024;
/// Shoppers in one frame of a deny list: 1 MiB.
pub(super) const DENIED_MAX: usize = 1 << 16;
/// Shoppers in one frame of news.
pub(super) const KEPT_MAX: usize = 1 << 16;

/// The most gates at once, with those that have not proved themselves yet.
pub(crate) const GATES_MAX: usize = 64;

/// The most bytes of a frame of a peer that has not proved itself.
pub(super) const UNPROVEN_BYTES_MAX: usize = 4096;

/// Random bytes, of one side and one connection, that the other side's proof must cover.
pub(super) type Nonce = [u8; 32];

/// Who proves that it has the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Gate,
    Sales,
}

/// What a side's proof covers: both nonces, so it is of this connection alone, and the side, so it
/// cannot be sent back.
fn proven(side: Side, of_sales: &Nonce, of_gate: &Nonce) -> Vec<u8> {
    let side: &[u8] = match side {
        Side::Gate => b"gate",
        Side::Sales => b"sales",
    };
    [of_sales, of_gate, side].concat()
}

/// The proof that one side has the master key.
pub(super) fn proof(keys: &Keyring, side: Side, of_sales: &Nonce, of_gate: &Nonce) -> [u8; 32] {
    keys.peer_proof(&proven(side, of_sales, of_gate))
}

/// Checks the other side's proof.
pub(super) fn check_proof(
    keys: &Keyring,
    side: Side,
    of_sales: &Nonce,
    of_gate: &Nonce,
    proof: &[u8; 32],
) -> io::Result<()> {
    match keys.is_peer_proof(&proven(side, of_sales, of_gate), proof) {
        true => Ok(()),
        false => Err(wrong("it does not prove that it has the master key of this data directory")),
    }
}

/// Both sides send this first: the build, to the file, and the keys that it has.
pub(super) fn greeting(keys: &Keyring) -> io::Result<String> {
    let build = std::fs::metadata("/proc/self/exe")?;
    let (version, bytes) = (env!("CARGO_PKG_VERSION"), build.len());
    let changed = format!("{}.{:09}", build.mtime(), build.mtime_nsec());
    Ok(format!("floodgate {version} of {bytes} bytes and {changed}, keys {}", keys.kid()))
}

/// A sale's number on one connection, in the order in which the sales were sent.
pub(super) type SaleNumber = u16;

/// From a gate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSales {
    /// The gate's proof covers both nonces; the second is its own.
    Hello {
        greeting: String,
        nonce: Nonce,
        proof: [u8; 32],
    },
    /// Each under a token, which comes back with its answer; and how long their shoppers wait for
    /// it, in milliseconds.
    Attempts(SaleNumber, u64, Vec<(u64, Attempt)>),
    GateRefusal(SaleNumber, Vec<GateRefusal>),
    /// Under a token too.
    Ask(u64, Question),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Lookup(SaleNumber, AttemptId, ShopperKey),
    Position(SaleNumber, AttemptId, ShopperKey),
    Shopper(SaleNumber, ShopperKey),
    /// Whether the shopper wants a reservation. This and the next are the only commands that are a
    /// shopper's own.
    Reserve(SaleNumber, ShopperKey, bool),
    /// A shopper gives a hold back, or a place: the gate has seen that it is theirs.
    GiveBack(SaleNumber, AttemptId),
    Stats(SaleNumber),
    UseUp {
        nonce: [u8; 16],
        expires_at: TimeMs,
        now: TimeMs,
    },
    /// Only a store asks this.
    OfStore(OfStore),
}

/// What a store asks of the sales and of the message service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OfStore {
    Confirm(HoldRef, PaymentId),
    Release(HoldRef),
    /// So many events at the most, within so many milliseconds.
    Pull(Follows, usize, u64),
    Settle(Follows, Vec<(Receipt, Ended)>),
    Backlog(Follows),
    Post(Tells, Vec<String>),
}

/// The answer to a store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToStore {
    Decided(SaleDecision),
    Pulled(Vec<Pulled>),
    Backlog(Option<Backlog>),
    Done,
}

/// From the process with the sales.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToGate {
    Hello {
        greeting: String,
        nonce: Nonce,
    },
    /// The sales' side has checked the gate's proof; and its time.
    Proven {
        proof: [u8; 32],
        now: TimeMs,
    },
    /// The next sale, in its current state, and the filter of shoppers who have something in it.
    Sale {
        id: SaleId,
        log_id: String,
        spec: String,
        seen: Seen,
        known: Vec<u64>,
    },
    News(SaleNumber, News),
    /// The sale was deleted: no more is heard of this number.
    Gone(SaleNumber),
    /// A part of the deny list that the next [`Seen`] has.
    Denied(DeniedPart),
    Reply(u64, Reply),
    Down(Vec<SaleId>),
    /// All sales that existed at the start have been sent. Others may follow.
    AllTold,
    /// No news.
    StillHere,
}

/// What has happened in a sale, in this order: the shoppers who have something, then the public
/// view, then the answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct News {
    /// Shoppers of whom something is kept, or who were told a place in line.
    pub(super) kept: Vec<ShopperKey>,
    /// The document in JSON, if it has changed.
    pub(super) spec: Option<String>,
    pub(super) seen: Option<Seen>,
    pub(super) answers: Vec<(u64, Result<Told, Unavailable>)>,
}

/// The runs of a deny list that are new, in order, each in as many parts as it takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeniedPart {
    pub(super) shoppers: Vec<ShopperKey>,
    /// The run ends with this part.
    pub(super) ends: bool,
}

/// A deny list without its shoppers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct DeniedSeen {
    pub(super) since: Sequence,
    /// The number of runs shared with the previous list; the runs that came in parts follow them.
    pub(super) shared_runs: usize,
    pub(super) len: usize,
}

/// Runs of a deny list, as they arrive.
#[derive(Debug, Default)]
pub(super) struct DeniedComing {
    runs: Vec<Arc<[ShopperKey]>>,
    run: Vec<ShopperKey>,
}

impl DeniedComing {
    pub(super) fn enqueue(&mut self, part: DeniedPart) {
        self.run.extend(part.shoppers);
        if part.ends {
            self.runs.push(std::mem::take(&mut self.run).into());
        }
    }

    /// The list of the current view. It must be exactly the list that was sent: it decides which
    /// shoppers may not buy.
    pub(super) fn list(
        &mut self,
        before: &Arc<DeniedShoppers>,
        seen: DeniedSeen,
    ) -> io::Result<Arc<DeniedShoppers>> {
        let Self { runs: new, run } = std::mem::take(self);
        let same = seen.since == before.since() && seen.shared_runs == before.runs().len();
        if same && new.is_empty() && run.is_empty() {
            return Ok(Arc::clone(before));
        }
        let shared = before.runs().get(..seen.shared_runs);
        let shared = shared.ok_or_else(|| wrong("a deny list shares more than there is"))?;
        let list = DeniedShoppers::of_runs(seen.since, shared.iter().cloned().chain(new).collect());
        match run.is_empty() && list.len() == seen.len {
            true => Ok(Arc::new(list)),
            false => Err(wrong(format!("{} of {} shoppers of a deny list", list.len(), seen.len))),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Found(Result<Found, Unavailable>),
    Position(Result<Option<Told>, Unavailable>),
    Shopper(Result<ShopperRecord, Unavailable>),
    Operated(Result<Result<OperationDone, OperateError>, Unavailable>),
    Stats(Result<SaleStats, Unavailable>),
    UsedUp(Result<(), UseError>),
    ToStore(Result<ToStore, StoreError>),
}

/// A [`SaleView`] without the document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Seen {
    state: SaleState,
    rounds_opened: u16,
    opens_at: TimeMs,
    closes_at: TimeMs,
    items: Vec<ItemView>,
    limit_per_shopper: u32,
    rate_per_second: u32,
    disk_full: bool,
    pause: Option<PauseCause>,
    is_restored: bool,
    state_since: Sequence,
    pub(super) denied: DeniedSeen,
    as_of: Sequence,
    /// How full the queue is, and the line.
    pub(super) fill: Fill,
}

/// The length and the greatest length of a sale's queue, and of the line before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fill {
    pub(super) queue: (u64, u64),
    pub(super) line: (u64, u64),
}

impl Fill {
    pub(super) fn of(sale: &Handle) -> Self {
        let ((queue, line), (queue_max, line_max)) = (sale.queue_len(), sale.queue_max());
        Self { queue: (queue as u64, queue_max as u64), line: (line as u64, line_max as u64) }
    }
}

impl Seen {
    /// `shared_runs`: as in [`DeniedSeen`]; the others have been sent.
    pub(super) fn of(view: &SaleView, shared_runs: usize, fill: Fill) -> Self {
        Self {
            state: view.state,
            rounds_opened: view.rounds_opened,
            opens_at: view.opens_at,
            closes_at: view.closes_at,
            items: view.items.clone(),
            limit_per_shopper: view.limit_per_shopper,
            rate_per_second: view.rate_per_second,
            disk_full: view.disk_full,
            pause: view.pause,
            is_restored: view.is_restored,
            state_since: view.state_since,
            denied: DeniedSeen { since: view.denied.since(), shared_runs, len: view.denied.len() },
            as_of: view.as_of,
            fill,
        }
    }

    pub(super) fn view(self, sale: SaleId, spec: Arc<SaleSpec>, denied: Arc<DeniedShoppers>) -> SaleView {
        SaleView {
            sale,
            spec,
            state: self.state,
            rounds_opened: self.rounds_opened,
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            items: self.items,
            limit_per_shopper: self.limit_per_shopper,
            rate_per_second: self.rate_per_second,
            disk_full: self.disk_full,
            pause: self.pause,
            is_restored: self.is_restored,
            state_since: self.state_since,
            denied,
            as_of: self.as_of,
        }
    }
}

fn wrong(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Appends a frame.
pub(super) fn write(message: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = postcard::to_io(message, &mut *out).map(drop).map_err(wrong);
    let len = out.len() - start - 4;
    match written {
        Ok(()) if len <= FRAME_BYTES_MAX => {
            out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
            Ok(())
        }
        failed => {
            out.truncate(start);
            failed.and(Err(wrong("a message is too long for a frame")))
        }
    }
}

/// The length in a frame's first four bytes.
pub(super) fn frame_len(head: [u8; 4], max: usize) -> io::Result<usize> {
    let len = u32::from_le_bytes(head) as usize;
    if len <= max { Ok(len) } else { Err(wrong(format!("a frame of {len} bytes"))) }
}

/// The message in a frame. Every byte must be accounted for.
pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(frame).map_err(wrong)? {
        (message, []) => Ok(message),
        _ => Err(wrong("bytes after a message")),
    }
}

/// Reads a frame of at most `max` bytes, waiting for it.
pub(super) fn read<T: DeserializeOwned>(
    from: &mut impl Read,
    frame: &mut Vec<u8>,
    max: usize,
) -> io::Result<T> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    frame.resize(frame_len(head, max)?, 0);
    from.read_exact(frame)?;
    decode(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{
        Answer, Basket, HoldState, HoldView, IneligibleBy, Line, LinePlace, NotEligibleRange, Place, Refusal,
        SealedShopper, SoldOutRange,
    };

    fn same<T: Serialize + DeserializeOwned + std::fmt::Debug>(message: &T) {
        let mut bytes = Vec::new();
        write(message, &mut bytes).unwrap();
        let again: T = read(&mut bytes.as_slice(), &mut Vec::new(), FRAME_BYTES_MAX)
            .unwrap_or_else(|e| panic!("{message:?}: {e}"));
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
        for cut in 4..bytes.len() {
            assert!(decode::<T>(&bytes[4..cut]).is_err(), "{message:?} cut at {cut}");
        }
        let longer = [&bytes[4..], &[0]].concat();
        assert!(decode::<T>(&longer).is_err(), "{message:?} and a byte");
    }

    #[test]
    fn every_message_between_gate_and_sales_survives_encoding() {
        let (id, shopper) = (AttemptId([7; 16]), ShopperKey([9; 16]));
        let basket = Basket::new(&[Line { item: 3, quantity: 2 }, Line { item: 1, quantity: 1 }]).unwrap();
        let sealed = SealedShopper::new(&[5; 64]).unwrap();
        let attempt = Attempt { id, shopper, sealed, tier: 3, basket };
        let (first_as_of, last_as_of) = (Sequence(3), Sequence(9));
        let sold_out = GateRefusal::SoldOut(SoldOutRange { item: 1, first_as_of, last_as_of, count: 4 });
        let by = IneligibleBy::DenyList;
        let denied = GateRefusal::NotEligible(NotEligibleRange { by, first_as_of, last_as_of, count: 4 });
        let greeting = greeting(&Keyring::from_master(&[7; 32])).unwrap();
        same(&ToSales::Hello { greeting: greeting.clone(), nonce: [1; 32], proof: [2; 32] });
        same(&ToGate::Hello { greeting, nonce: [3; 32] });
        same(&ToGate::Proven { proof: [4; 32], now: TimeMs(7) });
        same(&ToSales::Attempts(2, 2000, vec![(1, attempt), (u64::MAX, attempt)]));
        same(&ToSales::GateRefusal(1, vec![sold_out, denied]));
        for question in [
            Question::Lookup(0, id, shopper),
            Question::Position(0, id, shopper),
            Question::Shopper(0, shopper),
            Question::Reserve(0, shopper, true),
            Question::GiveBack(0, id),
            Question::Stats(1),
            Question::UseUp { nonce: [1; 16], expires_at: TimeMs(9), now: TimeMs(8) },
        ] {
            same(&ToSales::Ask(5, question));
        }
        let hold = HoldView { state: HoldState::Held, pay_by: TimeMs(77), granted_as_of: Sequence(5) };
        let place = LinePlace { position: 1000, wait_ms: Some(70_000) };
        let refused = Refusal::LimitReached { held_by: Some(id) };
        let answers = [
            Ok(Told::Answer(Answer::Granted(hold))),
            Ok(Told::Answer(Answer::Waitlisted { position: 3, place: Place::Promoted(hold) })),
            Ok(Told::Answer(Answer::Refused { refusal: refused, as_of: Sequence(1) })),
            Ok(Told::Answer(Answer::KeyReused)),
            Ok(Told::InLine(place)),
            Ok(Told::InLine(LinePlace { wait_ms: None, ..place })),
            Err(Unavailable::QueueFull),
            Err(Unavailable::LineFull { wait_ms: Some(9) }),
            Err(Unavailable::TooManyInLine { wait_ms: None }),
            Err(Unavailable::Stopped("no".into())),
        ];
        let answers: Vec<_> = answers.into_iter().enumerate().map(|(at, a)| (at as u64, a)).collect();
        same(&ToGate::News(3, News { kept: vec![shopper], spec: None, seen: None, answers }));
        let record = ShopperRecord { attempts: Vec::new(), reserved: true, as_of: Sequence(4) };
        same(&ToGate::Reply(1, Reply::Shopper(Ok(record))));
        same(&ToGate::Reply(1, Reply::Found(Ok(Found { answer: Answer::KeyReused, basket: Some(basket) }))));
        same(&ToGate::Reply(1, Reply::Operated(Ok(Err(OperateError::NotFound("it".into()))))));
        same(&ToGate::Reply(1, Reply::Position(Ok(Some(Told::InLine(place))))));
        same(&ToGate::Reply(1, Reply::UsedUp(Err(UseError::Used))));
        same(&ToGate::Denied(DeniedPart { shoppers: vec![shopper, shopper], ends: true }));
        same(&ToGate::Gone(3));
        same(&ToGate::Down(vec!["demo".parse().unwrap()]));
    }

    /// The messages by which the server sends a list to a gate that has another.
    fn told(list: &DeniedShoppers, earlier: &DeniedShoppers) -> (Vec<DeniedPart>, DeniedSeen) {
        let shared_runs = list.shared_runs(earlier);
        let parts = list.runs()[shared_runs..].iter().flat_map(|run| {
            let last = run.len().div_ceil(3) - 1;
            let part = move |(at, part): (usize, &[ShopperKey])| DeniedPart {
                shoppers: part.to_vec(),
                ends: at == last,
            };
            run.chunks(3).enumerate().map(part)
        });
        (parts.collect(), DeniedSeen { since: list.since(), shared_runs, len: list.len() })
    }

    #[test]
    fn a_deny_list_arrives_complete_whichever_list_it_replaces() {
        let mut prng = units::Prng::new(4);
        let key = |n: u64| ShopperKey(u128::from(n).to_be_bytes());
        let mut coming = DeniedComing::default();
        let (mut list, mut there) = (DeniedShoppers::default(), Arc::<DeniedShoppers>::default());
        let (mut next, mut longest) = (0, 0);
        for entry in 1..500 {
            // Some changes between two that are sent.
            let earlier = list.clone();
            for _ in 0..prng.below(4) {
                let before = if prng.percent(3) { DeniedShoppers::default() } else { list.clone() };
                let more = prng.below(20);
                list = before.and((next..next + more).map(key).collect(), Sequence(entry));
                next += more;
            }
            let (parts, seen) = told(&list, &earlier);
            parts.into_iter().for_each(|part| coming.enqueue(part));
            there = coming.list(&there, seen).unwrap();
            assert_eq!((there.since(), there.runs()), (list.since(), list.runs()));
            let (parts, seen) = told(&list, &list);
            assert!(parts.is_empty());
            assert!(Arc::ptr_eq(&coming.list(&there, seen).unwrap(), &there), "nothing is new");
            longest = longest.max(there.len());
        }
        assert!(longest > 500, "{longest}");
    }

    #[test]
    fn an_incomplete_deny_list_is_refused() {
        let key = |n: u8| ShopperKey([n; 16]);
        let none = Arc::<DeniedShoppers>::default();
        let seen = |shared_runs, len| DeniedSeen { since: Sequence(7), shared_runs, len };
        for (shoppers, ends, seen) in
            [(vec![key(1)], true, seen(0, 2)), (vec![key(1)], false, seen(0, 1)), (vec![], true, seen(1, 0))]
        {
            let mut coming = DeniedComing::default();
            coming.enqueue(DeniedPart { shoppers, ends });
            assert!(coming.list(&none, seen).is_err(), "{seen:?}");
        }
    }

    #[test]
    fn a_proof_is_of_one_side_of_one_connection_under_one_key() {
        let (keys, other) = (Keyring::from_master(&[7; 32]), Keyring::from_master(&[8; 32]));
        let of_gate = proof(&keys, Side::Gate, &[1; 32], &[2; 32]);
        check_proof(&keys, Side::Gate, &[1; 32], &[2; 32], &of_gate).unwrap();
        for (keys, side, of_sales, of_gates) in [
            (&keys, Side::Sales, [1; 32], [2; 32]),
            (&keys, Side::Gate, [2; 32], [1; 32]),
            (&keys, Side::Gate, [1; 32], [3; 32]),
            (&keys, Side::Gate, [3; 32], [2; 32]),
            (&other, Side::Gate, [1; 32], [2; 32]),
        ] {
            let error = check_proof(keys, side, &of_sales, &of_gates, &of_gate).unwrap_err();
            assert!(error.to_string().contains("master key"), "{error}");
        }
    }

    #[test]
    fn an_invalid_message_is_refused_and_costs_no_memory() {
        assert!(frame_len(u32::MAX.to_le_bytes(), FRAME_BYTES_MAX).is_err());
        assert!(frame_len(5000_u32.to_le_bytes(), UNPROVEN_BYTES_MAX).is_err());
        let mut prng = units::Prng::new(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..prng.below(64)).map(|_| prng.next_u64() as u8).collect();
            let _ = decode::<ToSales>(&bytes);
            let _ = decode::<ToGate>(&bytes);
        }
    }
}
