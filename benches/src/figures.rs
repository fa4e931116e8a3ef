//! Figures and what may be done with them: medians of rounds, ratios of equal loads.

use std::fmt;

use serde::Serialize;

use crate::case::Setting;
use crate::measure::median;

/// Figures of one system in one case.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Requests or messages a second.
    pub(crate) per_second: f64,
    /// Microseconds of CPU for each, a proxy (mean of the pair).
    pub(crate) cpu_us: f64,
    /// The same of both together.
    pub(crate) cpu_pair_us: f64,
    /// CPU seconds a gigabyte, a proxy.
    pub(crate) cpu_per_gb: f64,
    /// Gigabits a second.
    pub(crate) gbits: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// TCP connections that were opened on the caller's host for each, the loader's own included.
    pub(crate) opened: f64,
    /// Requests that failed.
    pub(crate) failed: u64,
    /// What some of them were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) first_failures: Vec<String>,
}

/// Figures with what they were measured at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// At what.
    pub(crate) setting: Setting,
    /// Medians of the rounds.
    pub(crate) figures: Figures,
    /// The lowest and the highest CPU of a request, or of a gigabyte, among the rounds.
    pub(crate) spread: [f64; 2],
}

/// A number of the figures.
pub(crate) type Field = fn(&Figures) -> f64;

/// Why two figures have no ratio.
#[derive(Debug, PartialEq)]
pub(crate) enum NoRatio {
    /// They are of different loads.
    DifferentLoads(Box<[Setting; 2]>),
    /// One of them is no measurement.
    Nothing,
}

impl fmt::Display for NoRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DifferentLoads(both) => write!(f, "different loads: {:?} and {:?}", both[0], both[1]),
            Self::Nothing => f.write_str("not measured"),
        }
    }
}

impl Measured {
    /// Medians of rounds, which must all be of one setting.
    pub(crate) fn of(rounds: &[(Setting, Figures)]) -> anyhow::Result<Self> {
        let setting = rounds.first().map(|(s, _)| *s).ok_or_else(|| anyhow::anyhow!("no round was measured"))?;
        anyhow::ensure!(rounds.iter().all(|(s, _)| *s == setting), "rounds of different loads: {rounds:?}");
        let of = |field: Field| median(&rounds.iter().map(|(_, f)| field(f)).collect::<Vec<_>>());
        let costs = || rounds.iter().map(|(_, f)| if f.cpu_us > 0.0 { f.cpu_us } else { f.cpu_per_gb });
        let figures = Figures {
            per_second: of(|f| f.per_second),
            cpu_us: of(|f| f.cpu_us),
            cpu_pair_us: of(|f| f.cpu_pair_us),
            cpu_per_gb: of(|f| f.cpu_per_gb),
            gbits: of(|f| f.gbits),
            p50: of(|f| f.p50),
            p99: of(|f| f.p99),
            opened: of(|f| f.opened),
            failed: rounds.iter().map(|(_, f)| f.failed).sum(),
            first_failures: rounds.iter().flat_map(|(_, f)| f.first_failures.clone()).take(10).collect(),
        };
        Ok(Self { setting, figures, spread: [costs().fold(f64::MAX, f64::min), costs().fold(0.0, f64::max)] })
    }

    /// Ours by theirs: of equal loads only.
    pub(crate) fn ratio(&self, theirs: &Self, field: Field) -> Result<f64, NoRatio> {
        if self.setting != theirs.setting {
            return Err(NoRatio::DifferentLoads(Box::new([self.setting, theirs.setting])));
        }
        match (field(&self.figures), field(&theirs.figures)) {
            (a, b) if a > 0.0 && b > 0.0 => Ok(a / b),
            _ => Err(NoRatio::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{ONE_CORE, TWO_CORES};

    fn measured(setting: Setting, cpu_us: f64) -> Measured {
        Measured::of(&[(setting, Figures { cpu_us, ..Figures::default() })]).unwrap()
    }

    #[test]
    fn equal_loads_have_a_ratio() {
        let setting = ONE_CORE[0].setting(ONE_CORE[0].load(3000, None).unwrap(), 1);
        assert_eq!(measured(setting, 3.0).ratio(&measured(setting, 6.0), |f| f.cpu_us), Ok(0.5));
        assert_eq!(measured(setting, 3.0).ratio(&measured(setting, 0.0), |f| f.cpu_us), Err(NoRatio::Nothing));
    }

    #[test]
    fn different_loads_have_none() {
        let case = ONE_CORE[0];
        let load = case.load(3000, None).unwrap();
        let setting = case.setting(load, 1);
        let mut others = vec![
            case.setting(load, 2),
            Setting { body: 4, ..setting },
            Setting { workers: 2, ..setting },
            Setting { door: crate::mesh::Door::Fresh, ..setting },
        ];
        for change in [
            |l: &mut crate::load::Load| l.connections += 1,
            |l: &mut crate::load::Load| l.rate += 1,
            |l: &mut crate::load::Load| l.millis += 1,
            |l: &mut crate::load::Load| l.streams += 1,
            |l: &mut crate::load::Load| l.kind = crate::load::Kind::Kilobyte,
        ] {
            let mut load = load;
            change(&mut load);
            others.push(case.setting(load, 1));
        }
        others.extend(ONE_CORE[1..].iter().chain(&TWO_CORES).map(|c| c.setting(c.load(3000, Some(9)).unwrap(), 1)));
        for other in others {
            let ratio = measured(setting, 3.0).ratio(&measured(other, 6.0), |f| f.cpu_us);
            assert!(matches!(ratio, Err(NoRatio::DifferentLoads(_))), "{other:?}");
            let rounds = [(setting, Figures::default()), (other, Figures::default())];
            assert!(Measured::of(&rounds).is_err(), "{other:?}");
        }
    }

    #[test]
    fn failures_of_all_rounds_are_kept() {
        let setting = ONE_CORE[0].setting(ONE_CORE[0].load(3000, None).unwrap(), 1);
        let round = |failed, cpu_us| {
            (setting, Figures { failed, cpu_us, first_failures: vec!["x".into()], ..Figures::default() })
        };
        let all = Measured::of(&[round(0, 1.0), round(3, 9.0), round(0, 2.0)]).unwrap();
        assert_eq!((all.figures.failed, all.figures.cpu_us, all.spread), (3, 2.0, [1.0, 9.0]));
        assert!(!all.figures.first_failures.is_empty());
    }
}
