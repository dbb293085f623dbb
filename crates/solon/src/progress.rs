//! Progress on stderr: a bar where stderr is a terminal, a line every half minute where it is not.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Progress over a known number of steps or items.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    unit: &'static str,
    total: usize,
    done: usize,
    /// Steps that were there before: they say nothing about the rate.
    before: usize,
    tokens: usize,
    note: Option<String>,
    started: Instant,
    /// When the last line was written; none where a bar is drawn.
    line: Option<Instant>,
}

impl Progress {
    /// Progress over `total` of `unit`, named after what is being done.
    pub fn new(what: &str, total: usize, unit: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let template = format!("{{msg:<28}} {{bar:30}} {{pos}}/{{len}} {unit} · {{per_sec}} · {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let now = Instant::now();
        let line = (!std::io::stderr().is_terminal()).then_some(now);
        let what = what.to_owned();
        Self { bar, what, unit, total, done: 0, before: 0, tokens: 0, note: None, started: now, line }
    }

    /// Starts at `done`, which an earlier attempt has reached.
    pub fn resume_at(&mut self, done: usize) {
        (self.done, self.before) = (done, done);
        self.bar.set_position(done as u64);
        self.bar.reset_eta();
    }

    /// `steps` more are done.
    pub fn add(&mut self, steps: usize) {
        self.done += steps;
        self.bar.inc(steps as u64);
        let now = Instant::now();
        if let Some(last) = &mut self.line
            && now.duration_since(*last) >= LINE_EVERY
        {
            *last = now;
            eprintln!("{}", self.line_after(now.duration_since(self.started)));
        }
    }

    /// A training step is done that took `tokens` through the model; `note` is its loss or reward.
    pub fn step(&mut self, tokens: usize, note: Option<String>) {
        self.tokens += tokens;
        if let Some(note) = &note {
            self.bar.set_message(format!("{} ({note})", self.what));
        }
        self.note = note.or(self.note.take());
        self.add(1);
    }

    /// Says something without disturbing the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// All is done: the bar goes.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }

    /// The line that says how it stands after `elapsed`.
    fn line_after(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let rate = (self.done - self.before) as f64 / seconds;
        let mut parts = vec![format!("{}: {} of {} {}", self.what, self.done, self.total, self.unit)];
        parts.extend(self.note.clone());
        if self.tokens > 0 {
            parts.push(format!("{:.0} tokens/s", self.tokens as f64 / seconds));
        } else if rate > 0.0 {
            parts.push(format!("{rate:.2} {}/s", self.unit));
        }
        if rate > 0.0 {
            let left = (self.total.saturating_sub(self.done)) as f64 / rate;
            parts.push(format!("{} left", duration(left)));
        }
        parts.join(", ")
    }
}

/// A time as people say it: `45 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_step_loss_rate_and_time_left() {
        let mut progress = Progress::new("sft", 100, "steps");
        progress.resume_at(40);
        for _ in 0..10 {
            progress.step(300, Some("loss 1.250".to_owned()));
        }
        // Ten steps in 30 s, and 50 are left: 150 s. The 40 that were there before do not count.
        let line = progress.line_after(Duration::from_secs(30));
        assert_eq!(line, "sft: 50 of 100 steps, loss 1.250, 100 tokens/s, 2 min 30 s left");
        let mut answers = Progress::new("respond", 10, "answers");
        assert_eq!(answers.line_after(Duration::from_secs(30)), "respond: 0 of 10 answers");
        answers.add(5);
        assert_eq!(
            answers.line_after(Duration::from_secs(10)),
            "respond: 5 of 10 answers, 0.50 answers/s, 10 s left"
        );
    }
}
