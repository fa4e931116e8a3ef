//! The seeds of the fuzz target of names, replayed.

#[path = "../../fuzz/agent.rs"]
mod driver;
#[path = "../../fuzz/replay.rs"]
mod replay;

#[test]
fn queries_for_names() {
    for (name, bytes) in replay::seeds("dns") {
        replay::verdict(&name, driver::dns(&bytes));
    }
}
