//! What was last known of a name. No I/O.

/// How often in a row nothing has to be there before that is believed.
const MISSES: u32 = 3;

/// What was last known.
#[derive(Debug)]
pub(super) struct Memory<T> {
    known: Option<T>,
    misses: u32,
    silent: Option<String>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { known: None, misses: 0, silent: None }
    }
}

impl<T: Default> Memory<T> {
    /// Hears what a name is, that there is none, or that nobody answers. `false`: ask again soon.
    pub(super) fn hear(&mut self, heard: Result<Option<T>, String>) -> bool {
        self.silent = None;
        match heard {
            Ok(Some(found)) => {
                (self.known, self.misses) = (Some(found), 0);
                true
            }
            Ok(None) => {
                self.misses = self.misses.saturating_add(1);
                if self.misses >= MISSES {
                    self.known = Some(T::default());
                }
                false
            }
            Err(why) => {
                self.silent = Some(why);
                false
            }
        }
    }

    /// What it is; nothing, if that was never heard.
    pub(super) fn known(&self) -> Option<&T> {
        self.known.as_ref()
    }

    /// Nobody answered the last question.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.is_some()
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        let stays = if self.known.is_some() { "; what it said stays" } else { "" };
        match (&self.silent, self.misses) {
            (Some(why), _) => Some(format!("{why}{stays}")),
            (None, 0) => None,
            (None, MISSES..) => Some("there is no such name, or no record of that type".to_owned()),
            (None, _) => Some(format!("there is no such name any more{stays}, until that is said {MISSES} times")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_believed_the_third_time_and_silence_never() {
        let mut memory = Memory::default();
        assert!(memory.hear(Ok(Some(vec![1]))));
        for _ in 0..10 {
            assert!(!memory.hear(Err("SERVFAIL".to_owned())));
        }
        assert_eq!((memory.known(), memory.is_silent()), (Some(&vec![1]), true));
        assert!(!memory.hear(Ok(None)) && !memory.hear(Ok(None)));
        assert_eq!(memory.known(), Some(&vec![1]));
        assert!(!memory.hear(Ok(None)));
        assert_eq!(memory.known(), Some(&vec![]));
        assert!(memory.hear(Ok(Some(vec![2]))) && memory.problem().is_none());
    }

    #[test]
    fn a_name_that_comes_back_between_starts_the_count_anew() {
        let mut memory = Memory::default();
        for heard in [Some(vec![1]), None, None, Some(vec![1]), None, None] {
            memory.hear(Ok(heard));
        }
        assert_eq!(memory.known(), Some(&vec![1]));
    }
}
