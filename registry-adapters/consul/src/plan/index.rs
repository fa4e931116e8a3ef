//! The index of a query that waits.
//!
//! A server says with each answer of which state it is, and the next query waits for a newer one. Rules: nothing or 0 is
//! taken for 1, or the query would never wait; a smaller one than before comes from a server that is behind, or from a
//! Consul that was restored or restarted: the leader decides which, and what it says counts from then on.

/// The last index that was believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(u64);

/// What to make of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Believe {
        /// It is of another state than the one before.
        moved: bool,
    },
    /// It may be older than what is known.
    AskLeader,
}

impl Index {
    /// What to wait for; `None` while nothing is known.
    pub(super) fn question(self) -> Option<u64> {
        Some(self.0).filter(|index| *index > 0)
    }

    /// Takes in what an answer says; `leader`: it is the leader's.
    pub(super) fn take(&mut self, said: Option<u64>, leader: bool) -> Verdict {
        let said = said.unwrap_or_default().max(1);
        if said < self.0 && !leader {
            return Verdict::AskLeader;
        }
        let moved = said != self.0;
        self.0 = said;
        Verdict::Believe { moved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVED: Verdict = Verdict::Believe { moved: true };
    const SAME: Verdict = Verdict::Believe { moved: false };

    #[test]
    fn an_index_that_goes_backwards_is_believed_from_the_leader_only() {
        let mut index = Index(100);
        assert_eq!(index.take(Some(13), false), Verdict::AskLeader);
        assert_eq!(index.question(), Some(100));
        assert_eq!(index.take(Some(13), true), MOVED);
        assert_eq!(index.question(), Some(13));
        assert_eq!(index.take(Some(14), false), MOVED);
    }

    #[test]
    fn a_missing_index_or_zero_is_one_so_that_the_next_query_waits() {
        for said in [None, Some(0)] {
            let mut index = Index::default();
            assert_eq!(index.question(), None);
            assert_eq!(index.take(said, false), MOVED);
            assert_eq!(index.question(), Some(1));
            assert_eq!(index.take(said, false), SAME);
        }
    }

    #[test]
    fn an_answer_after_a_wait_without_a_change_is_the_same_state() {
        let mut index = Index(7);
        assert_eq!(index.take(Some(7), false), SAME);
        assert_eq!(index.take(Some(u64::MAX), false), MOVED);
    }
}
