//! The seeds of the fuzz target of what discovery hears from strangers, replayed.

#[path = "../../fuzz/discovery.rs"]
mod driver;
#[path = "../../fuzz/replay.rs"]
mod replay;

#[test]
fn certificate_requests_joins_and_nodes() {
    for (name, bytes) in replay::seeds("discovery") {
        replay::verdict(&name, driver::stranger(&bytes));
    }
}
