//! Epochs: they count the sessions of a record, and tell a host from its older twin.
//!
//! A host keeps (epoch it was last given, random attempt) on its disk before it asks, so that it can ask again after
//! a lost answer. Discovery keeps (epoch, attempt that made it). Two hosts with one key can't both know the newest
//! epoch: the one that asks with an older pair is the twin.

/// What discovery keeps of a record's sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Sessions so far.
    pub number: u64,
    /// The attempt that made the last one; empty before the first.
    pub attempt: Vec<u8>,
}

/// What a host's pair means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A new session: the next epoch.
    Next,
    /// The answer was lost: the current epoch again.
    Again,
    /// An older twin.
    Twin,
}

impl Epoch {
    /// Judges a pair without changing anything.
    pub(super) fn judge(&self, number: u64, attempt: &[u8]) -> Verdict {
        let made_current = !self.attempt.is_empty() && self.attempt == attempt;
        if number == self.number && !made_current {
            Verdict::Next
        } else if self.number.checked_sub(1) == Some(number) && made_current {
            Verdict::Again
        } else {
            Verdict::Twin
        }
    }

    /// Takes a pair: the epoch of the session, or `None` for a twin.
    pub(super) fn open(&mut self, number: u64, attempt: &[u8]) -> Option<u64> {
        match self.judge(number, attempt) {
            Verdict::Next => {
                self.number = self.number.checked_add(1)?;
                self.attempt = attempt.to_vec();
                Some(self.number)
            }
            Verdict::Again => Some(self.number),
            Verdict::Twin => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sequence of up to six asks by a host and its twin, each of which may lose the answer: whoever keeps the
    /// rules is never refused alone, and after both have had a session one of them is refused for good.
    #[test]
    fn of_two_hosts_with_one_key_at_most_one_goes_on() {
        #[derive(Clone)]
        struct Host {
            epoch: u64,
            pending: Option<u8>,
        }
        fn play(server: &Epoch, hosts: &[Host; 2], depth: u8, next: u8, sessions: [bool; 2], last: Option<usize>) {
            if depth == 0 {
                return;
            }
            for who in 0..2 {
                for lost in [false, true] {
                    let (mut server, mut hosts) = (server.clone(), hosts.clone());
                    let attempt = hosts[who].pending.unwrap_or(next);
                    hosts[who].pending = Some(attempt);
                    let answer = server.open(hosts[who].epoch, &[attempt; 16]);
                    if last.is_none_or(|last| last == who) {
                        assert!(answer.is_some(), "a host alone is never a twin");
                    }
                    let mut sessions = sessions;
                    if let Some(epoch) = answer {
                        if sessions[1 - who] && last == Some(1 - who) {
                            // The other one made an epoch that this one never saw.
                            assert!(!sessions[who] || server.number == epoch);
                        }
                        assert_eq!(epoch, server.number);
                        sessions[who] = true;
                        if !lost {
                            hosts[who] = Host { epoch, pending: None };
                        }
                    }
                    let last = if answer.is_some() { Some(who) } else { last };
                    play(&server, &hosts, depth - 1, next + 1, sessions, last);
                }
            }
        }
        let host = Host { epoch: 0, pending: None };
        play(&Epoch::default(), &[host.clone(), host], 6, 1, [false; 2], None);
    }

    #[test]
    fn every_small_pair_is_judged_by_the_rule() {
        for current in 0..5u64 {
            let made = if current == 0 { Vec::new() } else { vec![9; 16] };
            let epoch = Epoch { number: current, attempt: made.clone() };
            for asked in 0..7u64 {
                for attempt in [vec![9u8; 16], vec![8; 16]] {
                    let same = attempt == made;
                    let expected = if asked == current && !same {
                        Verdict::Next
                    } else if asked + 1 == current && same {
                        Verdict::Again
                    } else {
                        Verdict::Twin
                    };
                    assert_eq!(epoch.judge(asked, &attempt), expected, "{asked} at {current}");
                }
            }
        }
    }

    #[test]
    fn a_lost_answer_costs_nothing() {
        let mut epoch = Epoch::default();
        assert_eq!(epoch.open(0, &[1; 16]), Some(1));
        assert_eq!(epoch.open(0, &[1; 16]), Some(1));
        assert_eq!(epoch.open(1, &[2; 16]), Some(2));
        assert_eq!(epoch.open(0, &[1; 16]), None);
        assert_eq!(epoch.open(1, &[3; 16]), None);
    }
}
