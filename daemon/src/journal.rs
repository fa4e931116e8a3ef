//! Logs in the journal, through its own protocol.
//!
//! In: events. Out: one datagram for each: the message with its fields for who reads lines, and each field by itself, as
//! `HAWSER_<NAME>`, for who searches. Invariant: nobody ever waits for the journal, and an entry is bounded.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value: what is longer is cut. A datagram of a few of them still goes through.
const LONGEST: usize = 16 << 10;
/// The most fields of an event.
const MOST: usize = 32;

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    identifier: String,
}

impl Journal {
    /// The one of this host.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        socket.set_nonblocking(true)?;
        let program = std::env::current_exe().ok();
        let name = program.and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        Ok(Self { socket, identifier: name.unwrap_or_default() })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Lost if the journal does not keep up.
        let _ = self.socket.send(&entry(event, &self.identifier));
    }
}

fn entry(event: &Event<'_>, identifier: &str) -> Vec<u8> {
    let mut said = Said::default();
    event.record(&mut said);
    let metadata = event.metadata();
    let priority = match *metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut out = Vec::new();
    put(&mut out, "PRIORITY", priority);
    put(&mut out, "SYSLOG_IDENTIFIER", identifier);
    put(&mut out, "HAWSER_TARGET", metadata.target());
    let mut line = said.message;
    for (name, value) in &said.fields {
        let _ = write!(line, "{}{name}={value}", if line.is_empty() { "" } else { " " });
        put(&mut out, &format!("HAWSER_{}", upper(name)), value);
    }
    put(&mut out, "MESSAGE", &line);
    out
}

/// A field in the form that takes any bytes: name, length, value.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(LONGEST)];
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Names of the journal are of capitals, digits and underscores.
fn upper(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn take(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else if self.fields.len() < MOST {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() = entry(event, "hawser-test");
        }
    }

    #[test]
    fn an_entry_has_the_line_and_each_field_and_is_bounded() {
        let kept = Kept::default();
        let long = "é".repeat(LONGEST);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), || {
            tracing::warn!(why = "two\nlines", count = 3, long, "it failed");
        });
        let bytes = kept.0.lock().unwrap().clone();
        let has = |name: &str, value: &str| {
            let mut field = Vec::new();
            put(&mut field, name, value);
            bytes.windows(field.len()).any(|window| window == field)
        };
        assert!(has("PRIORITY", "4") && has("SYSLOG_IDENTIFIER", "hawser-test"));
        assert!(has("HAWSER_WHY", "two\nlines") && has("HAWSER_COUNT", "3"));
        assert!(has("HAWSER_LONG", &"é".repeat(LONGEST / 2)));
        assert!(String::from_utf8_lossy(&bytes).contains("it failed why=two\nlines count=3 long=é"));
        assert!(bytes.len() < 3 * LONGEST, "{}", bytes.len());
    }
}
