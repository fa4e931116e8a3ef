//! Names of endpoints: looked up with the host's own settings, as often as their answers say.
//!
//! In: names that clusters refer to. Out: addresses, whenever they change. Invariants: what is asked at a time, what an answer
//! may hold and how long anything takes is bounded; a look-up that fails leaves the last good answer as it is.

mod ask;
mod message;
mod resolver;
mod schedule;
mod settings;

pub use resolver::Resolver;
pub use schedule::Wish;

/// What bytes of a server say to a question for `name`, for fuzzing: addresses; `None` if nothing that can be used.
#[doc(hidden)]
pub fn answered(name: &str, v6: bool, id: u16, bytes: &[u8]) -> Option<Vec<std::net::IpAddr>> {
    let family = if v6 { message::Family::V6 } else { message::Family::V4 };
    match message::answer(&message::query(name, family, id)?, bytes)? {
        message::Said::Addresses(all, _) => Some(all),
        message::Said::Longer | message::Said::Failed => None,
    }
}
