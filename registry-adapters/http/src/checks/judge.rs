//! What a row of answers means.

use hawser_mesh::Health;

/// Of one target.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    unhealthy_after: u32,
    healthy_after: u32,
    down: bool,
    /// Answers in a row that speak against the verdict.
    against: u32,
}

impl Judge {
    /// Of a target of which nothing is known: it is not down.
    pub(super) fn new(unhealthy_after: u32, healthy_after: u32) -> Self {
        Self { unhealthy_after, healthy_after, down: false, against: 0 }
    }

    /// Hears an answer; `true` if the verdict changed.
    pub(super) fn hear(&mut self, good: bool) -> bool {
        if good != self.down {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.down { self.healthy_after } else { self.unhealthy_after };
        if self.against < enough {
            return false;
        }
        (self.down, self.against) = (!self.down, 0);
        true
    }

    pub(super) fn health(&self) -> Health {
        if self.down { Health::Unhealthy } else { Health::Healthy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_answers_decides_and_one_of_the_other_kind_breaks_it() {
        for (answers, down) in [
            ("", false),
            ("--", false),
            ("---", true),
            ("--+--", false),
            ("--+---", true),
            ("---+", true),
            ("---+-+", true),
            ("---++", false),
            ("---++--", false),
        ] {
            let mut judge = Judge::new(3, 2);
            let changes = answers.chars().filter(|answer| judge.hear(*answer == '+')).count();
            let is = if down { Health::Unhealthy } else { Health::Healthy };
            assert_eq!(judge.health(), is, "{answers}");
            assert_eq!(changes % 2 == 1, down, "{answers}");
        }
    }
}
