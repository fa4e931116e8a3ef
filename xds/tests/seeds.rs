//! The seeds of the fuzz target of sessions, replayed.

#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/sessions.rs"]
mod sessions;

#[test]
fn sessions_with_anybody() {
    for (name, bytes) in replay::seeds("xds") {
        replay::verdict(&name, sessions::session(&bytes) > 0);
    }
}
