//! Colours and progress: on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Whether stderr may be coloured.
fn coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    std::io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

fn paint(text: &str, sgr: &str) -> String {
    if coloured() { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
}

/// For errors.
pub(crate) fn red(text: &str) -> String {
    paint(text, "1;31")
}

/// For hints.
pub(crate) fn cyan(text: &str) -> String {
    paint(text, "1;36")
}

/// For warnings.
pub(crate) fn yellow(text: &str) -> String {
    paint(text, "1;33")
}

/// A warning on stderr.
pub(crate) fn warn(text: &str) {
    eprintln!("{}: {}", yellow("warning"), crate::failure::printable(text));
}

/// Something worth knowing, on stderr.
pub(crate) fn note(text: &str) {
    eprintln!("{}: {}", cyan("note"), crate::failure::printable(text));
}

/// Steps of something that takes a while: a spinner on a terminal, a line each elsewhere.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
}

impl Steps {
    /// With the sentence that stands there until the first step.
    pub(crate) fn new(message: &str) -> Self {
        let bar = coloured().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(message.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    /// A step and what was seen.
    pub(crate) fn step(&self, step: &str, message: &str) {
        let line = format!("{step:<13} {}", crate::failure::printable(message));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
