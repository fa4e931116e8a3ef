//! Whether an answer is the same as the last one, without keeping it.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::OnceLock;

/// A keyed hash of an answer: equal answers have equal ones, within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of anything that can be hashed: the bytes of an answer, or what was read of them and counts.
    pub fn of<T: Hash + ?Sized>(content: &T) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_have_equal_fingerprints() {
        assert_eq!(Fingerprint::of(b"abc".as_slice()), Fingerprint::of(&b"abc"[..]));
        assert_ne!(Fingerprint::of("abc"), Fingerprint::of("abd"));
    }
}
