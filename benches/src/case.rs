//! The cases: each load that is measured, and the door it goes through.

use serde::Serialize;

use crate::load::{Kind, Load};
use crate::mesh::Door;

/// A load with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) door: Door,
    pub(crate) kind: Kind,
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) rate: Rate,
}

/// How fast requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rate {
    /// As they are answered.
    Saturated,
    /// So many a second.
    Fixed(u32),
    /// Half of what Envoy takes, by its first round of [`TINY`].
    HalfOfEnvoy,
}

/// What was measured: figures of two of these can be compared only if they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// The case's name.
    pub(crate) case: &'static str,
    /// The door.
    pub(crate) door: Door,
    /// The load as it was sent, rate and time included.
    #[serde(flatten)]
    pub(crate) load: Load,
    /// Bytes of an answer's body or message.
    pub(crate) body: usize,
    /// Cores that the whole chain had.
    pub(crate) cores: usize,
    /// Worker threads of each proxy.
    pub(crate) workers: usize,
}

pub(crate) const TINY: &str = "http c16";
pub(crate) const KILOBYTE: &str = "http c16 1k";
pub(crate) const GRPC: &str = "grpc unary";
pub(crate) const ONE: &str = "http c1";
pub(crate) const THOUSAND: &str = "http 1000/s";
pub(crate) const HALF: &str = "http half";
pub(crate) const MESSAGES: &str = "tcp c16";
pub(crate) const BULK: &str = "tcp bulk";
pub(crate) const NEW: &str = "http new";
pub(crate) const FRESH: &str = "http fresh";
pub(crate) const TCP_NEW: &str = "tcp new";
pub(crate) const TWO: &str = "http c64 w2";
pub(crate) const TWO_KILOBYTE: &str = "http c64 1k w2";

const fn case(name: &'static str, door: Door, kind: Kind, connections: u32) -> Case {
    Case { name, door, kind, connections, streams: 1, rate: Rate::Saturated }
}

/// With the whole chain on one core. The first gives the rate of another.
pub(crate) const ONE_CORE: [Case; 11] = [
    case(TINY, Door::Http, Kind::Tiny, 16),
    case(KILOBYTE, Door::Http, Kind::Kilobyte, 16),
    Case { streams: 4, ..case(GRPC, Door::Grpc, Kind::Grpc, 4) },
    case(ONE, Door::Http, Kind::Tiny, 1),
    Case { rate: Rate::Fixed(1000), ..case(THOUSAND, Door::Http, Kind::Tiny, 16) },
    Case { rate: Rate::HalfOfEnvoy, ..case(HALF, Door::Http, Kind::Tiny, 16) },
    case(MESSAGES, Door::Tcp, Kind::Message, 16),
    case(BULK, Door::Tcp, Kind::Bulk, 1),
    case(NEW, Door::Http, Kind::TinyNew, 16),
    case(FRESH, Door::Fresh, Kind::TinyNew, 16),
    case(TCP_NEW, Door::Tcp, Kind::MessageNew, 16),
];

/// With two workers on two cores.
pub(crate) const TWO_CORES: [Case; 2] =
    [case(TWO, Door::Http, Kind::Tiny, 64), case(TWO_KILOBYTE, Door::Http, Kind::Kilobyte, 64)];

impl Case {
    /// The load; nothing, if it needs a rate that nobody knows.
    pub(crate) fn load(&self, millis: u32, half: Option<u32>) -> Option<Load> {
        let rate = match self.rate {
            Rate::Saturated => 0,
            Rate::Fixed(rate) => rate,
            Rate::HalfOfEnvoy => half?,
        };
        Some(Load { kind: self.kind, connections: self.connections, streams: self.streams, rate, millis })
    }

    /// What is measured with it.
    pub(crate) fn setting(&self, load: Load, cores: usize) -> Setting {
        let body = self.kind.answered();
        Setting { case: self.name, door: self.door, load, body, cores, workers: cores }
    }
}
