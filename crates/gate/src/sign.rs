//! Ed25519 (RFC 8032) with the dear half of a signature made beforehand.
//!
//! A signature is (R, s) with R = r·B and s = r + H(R ‖ A ‖ M)·a. RFC 8032 takes r from the message, so all of it waits for the
//! message. Here r is chance, drawn in advance and used once, as in every Schnorr signature before it; R, which costs nearly
//! all, is ready before the sale opens, and what is left is one hash and one multiplication of numbers. A verifier cannot tell
//! the two apart (Even, Goldreich, Micali, "On-line/off-line digital signatures", 1989).
//!
//! What must never happen is that one r signs two messages: it gives the key away. So a [`Nonce`] is no `Clone`, signing consumes
//! it, and none is ever written anywhere. What this cannot see is a copy of the whole process's memory that goes on twice (a
//! virtual machine that is restored from a snapshot of its memory); this key therefore signs tickets and nothing else.

use aws_lc_rs::signature::Ed25519KeyPair;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{SigningKey, hazmat::ExpandedSecretKey};
use sha2::{Digest, Sha512};
use std::{
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use zeroize::Zeroize;

/// Nonces kept ready: a launch of 100,000 units, and what is asked for again meanwhile. 64 bytes each.
const READY_MAX: usize = 2048 * TOGETHER;
/// More tickets than this in a look, and it is no quiet moment: the processor is left to those who are being answered, and who finds
/// no nonce pays for a whole signature, which costs less than a nonce made now and used at once.
const QUIET_MAX: u64 = 100;
/// Made together, for the inverses that compressing needs cost less together: a millisecond's work.
const TOGETHER: usize = 64;
/// Rest between two batches: who is served meanwhile waits for a millisecond at most, and a processor is taken to a third.
const REST: Duration = Duration::from_millis(2);

/// r and R, for one signature.
struct Nonce {
    r: Scalar,
    point: [u8; 32],
}

impl Drop for Nonce {
    fn drop(&mut self) {
        self.r.zeroize();
    }
}

/// Signs with a key of its own.
pub(crate) struct Signer {
    /// For when no nonce is ready: then r comes from the message, and differs from every one that chance has made.
    plain: Ed25519KeyPair,
    secret: Scalar,
    public: [u8; 32],
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready {
    /// The batch that is being used.
    using: Mutex<Vec<Nonce>>,
    /// Batches of [`TOGETHER`]. Whoever makes them stands back for everybody else, so nobody may wait for this lock but they.
    made: Mutex<Vec<Vec<Nonce>>>,
    /// Told when the signer is gone.
    gone: Condvar,
    /// Tickets signed so far.
    signed: AtomicU64,
}

impl Ready {
    fn made(&self) -> MutexGuard<'_, Vec<Vec<Nonce>>> {
        // The list is whole between two statements, whoever panicked.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Nonce> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        let mut using = self.using.lock().unwrap_or_else(PoisonError::into_inner);
        if using.is_empty()
            && let Ok(mut made) = self.made.try_lock()
        {
            *using = made.pop().unwrap_or_default();
        }
        // Nothing of it may stay where it was.
        let empty = Nonce { r: Scalar::ZERO, point: [0; 32] };
        let taken = std::mem::replace(using.last_mut()?, empty);
        using.pop();
        Some(taken)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.ready.gone.notify_all();
    }
}

impl Signer {
    /// The key that follows from a seed, as in RFC 8032, section 5.1.5.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        let expanded = ExpandedSecretKey::from(seed);
        let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        let plain =
            Ed25519KeyPair::from_seed_and_public_key(seed, &public).expect("the public half is the seed's");
        Self { plain, secret: expanded.scalar, public, ready: Arc::default() }
    }

    /// The public half.
    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Signs. A nonce that is ready makes it cheap.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let nonce = self.ready.take();
        nonce.map_or_else(|| self.plain(message), |nonce| self.finish(nonce, message))
    }

    /// As RFC 8032 says, by the library that does it fastest.
    fn plain(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.plain.sign(message).as_ref());
        bytes
    }

    fn finish(&self, nonce: Nonce, message: &[u8]) -> [u8; 64] {
        let hash = Sha512::new().chain_update(nonce.point).chain_update(self.public).chain_update(message);
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = challenge * self.secret + nonce.r;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&nonce.point);
        signature[32..].copy_from_slice(s.as_bytes());
        signature
    }

    /// Nonces in stock.
    pub(crate) fn nonces_ready(&self) -> usize {
        let using = self.ready.using.lock().unwrap_or_else(PoisonError::into_inner).len();
        using + self.ready.made().len() * TOGETHER
    }

    /// Keeps nonces ready on a thread of its own, for as long as this signer lives.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let ready = Arc::downgrade(&self.ready);
        std::thread::Builder::new().name("gate-nonces".into()).spawn(move || keep_ready(&ready))?;
        Ok(())
    }
}

fn keep_ready(ready: &Weak<Ready>) {
    // Half a second at a time, so that the thread ends soon after its signer.
    const NAP: Duration = Duration::from_millis(500);
    if let Err(error) = engines::background::lower_priority() {
        tracing::warn!(%error, "nonces cannot stand back: they are made at the usual priority");
    }
    let (mut signed, mut looked) = (0, Instant::now());
    let mut is_quiet = true;
    loop {
        let Some(ready) = ready.upgrade() else { return };
        if looked.elapsed() >= NAP {
            let so_far = ready.signed.load(Ordering::Relaxed);
            is_quiet = so_far - std::mem::replace(&mut signed, so_far) <= QUIET_MAX;
            looked = Instant::now();
        }
        {
            let made = ready.made();
            if made.len() * TOGETHER >= READY_MAX || !is_quiet {
                drop(ready.gone.wait_timeout(made, NAP));
                continue;
            }
        }
        match make(TOGETHER) {
            Ok(made) => {
                ready.made().push(made);
                std::thread::sleep(REST);
            }
            Err(error) => {
                tracing::warn!(%error, "no nonces can be made ready: tickets cost more");
                std::thread::sleep(NAP);
            }
        }
    }
}

fn make(count: usize) -> io::Result<Vec<Nonce>> {
    let mut chance = vec![0; 64 * count];
    getrandom::fill(&mut chance).map_err(|e| io::Error::other(format!("random bytes: {e}")))?;
    let (wide, _) = chance.as_chunks::<64>();
    let mut numbers: Vec<Scalar> = wide.iter().map(Scalar::from_bytes_mod_order_wide).collect();
    let points: Vec<EdwardsPoint> = numbers.iter().map(EdwardsPoint::mul_base).collect();
    let nonces = numbers.iter().zip(EdwardsPoint::compress_batch_alloc(&points));
    let nonces = nonces.map(|(r, point)| Nonce { r: *r, point: point.to_bytes() }).collect();
    numbers.zeroize();
    chance.zeroize();
    Ok(nonces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
    };

    #[test]
    fn a_signature_is_one_that_everybody_checks() {
        let seed = [7; 32];
        let signer = Signer::from_seed(&seed);
        let reference = SigningKey::from_bytes(&seed);
        assert_eq!(signer.public(), reference.verifying_key().as_bytes());
        let public = VerifyingKey::from_bytes(signer.public()).unwrap();
        let mut points = HashSet::new();
        for n in 0..600u32 {
            let message = vec![n as u8; n as usize];
            if n % 3 == 0 {
                signer.ready.made().push(make(5).unwrap());
            }
            let signature = signer.sign(&message);
            public.verify_strict(&message, &Signature::from_bytes(&signature)).unwrap();
            assert!(points.insert(signature[..32].to_vec()), "a nonce was used twice");
            let other = [message.as_slice(), b"!"].concat();
            assert!(public.verify_strict(&other, &Signature::from_bytes(&signature)).is_err());
        }
    }

    #[test]
    fn threads_never_share_a_nonce() {
        let signer = Signer::from_seed(&[8; 32]);
        signer.prepare().unwrap();
        let (points, next) = (Mutex::new(HashSet::new()), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let point = signer.sign(&next.fetch_add(1, Relaxed).to_le_bytes())[..32].to_vec();
                        assert!(points.lock().unwrap().insert(point));
                    }
                });
            }
        });
        assert_eq!(points.lock().unwrap().len(), 2000);
    }
}
