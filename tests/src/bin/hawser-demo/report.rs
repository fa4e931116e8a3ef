//! The narration: what is done, what was seen, how long it took.
#![allow(clippy::print_stdout)]

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Steps so far.
pub(crate) struct Report {
    start: Instant,
    steps: Vec<Step>,
    colours: bool,
}

struct Step {
    title: String,
    seen: String,
    took: Duration,
    good: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), steps: Vec::new(), colours: std::io::stdout().is_terminal() }
    }

    /// Does a step and says what was seen.
    pub(crate) fn step<T>(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Self) -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        println!("\n{}", self.bold(&format!("{}. {title}", self.steps.len() + 1)));
        let start = Instant::now();
        let index = self.steps.len();
        self.steps.push(Step { title: title.to_owned(), seen: String::new(), took: Duration::ZERO, good: false });
        let outcome = work(self);
        let step = &mut self.steps[index];
        step.took = start.elapsed();
        match outcome {
            Ok((value, seen)) => {
                (step.seen, step.good) = (seen.clone(), true);
                println!("   {} {seen}", self.green("=>"));
                Ok(value)
            }
            Err(error) => Err(error.context(title.to_owned())),
        }
    }

    /// A command as it is typed, and where.
    pub(crate) fn typed(&self, host: &str, command: &str) {
        let short: String = command.chars().take(110).collect();
        let more = if short.len() < command.len() { "…" } else { "" };
        println!("   {host}$ {short}{more}");
    }

    /// What it printed, the first lines.
    pub(crate) fn printed(&self, text: &str, lines: usize) {
        for line in text.lines().take(lines) {
            println!("   | {line}");
        }
    }

    /// The end before the end.
    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if let Some(step) = self.steps.last_mut() {
            step.seen = text.lines().next().unwrap_or_default().to_owned();
        }
        println!("   {} {text}", self.red("=>"));
    }

    /// Everything at one glance.
    pub(crate) fn table(&self) {
        let width = self.steps.iter().map(|s| s.title.chars().count()).max().unwrap_or_default();
        println!("\n{}", self.bold("What was seen"));
        for (number, step) in self.steps.iter().enumerate() {
            let mark = if step.good { self.green("ok    ") } else { self.red("FAILED") };
            let took = format!("{:.1} s", step.took.as_secs_f64());
            println!("{:>3}  {mark}  {:<width$}  {took:>7}  {}", number + 1, step.title, step.seen);
        }
        println!("     {:.1} s in all", self.start.elapsed().as_secs_f64());
    }

    fn paint(&self, text: &str, sgr: &str) -> String {
        if self.colours { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn green(&self, text: &str) -> String {
        self.paint(text, "32")
    }

    fn red(&self, text: &str) -> String {
        self.paint(text, "1;31")
    }
}
