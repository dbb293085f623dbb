//! Progress on stderr: a bar with rate and time left, which is not drawn where stderr is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` of `unit`, named after what is being done.
pub fn bar(what: &str, total: usize, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    let template = format!("{{msg:<28}} {{bar:30}} {{pos}}/{{len}} {unit} · {{per_sec}} · {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
