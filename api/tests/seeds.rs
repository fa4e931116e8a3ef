//! The seeds of the fuzz targets of texts, replayed.

#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/texts.rs"]
mod texts;

use replay::{seeds, verdict};

#[test]
fn tokens_names_and_messages() {
    for (name, bytes) in seeds("texts") {
        verdict(&name, texts::short(&bytes));
    }
}

#[test]
fn istio_yaml() {
    for (name, bytes) in seeds("yaml") {
        verdict(&name, texts::yaml(&bytes));
    }
}
