//! Progress bars: on stderr, on a terminal only, gone when the work is done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Progress;

/// A bar over bytes of which `total` is known, or a counter if it is not.
pub fn bytes(what: &'static str, total: Option<u64>, quiet: bool) -> ProgressBar {
    match total {
        Some(total) => styled(
            ProgressBar::with_draw_target(Some(total), target(quiet)),
            "{msg} {bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => styled(
            ProgressBar::with_draw_target(None, target(quiet)),
            "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
        ),
    }
    .with_message(what)
}

/// A bar over counted things; `0` is not yet known.
pub fn counted(what: impl Into<String>, total: u64, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(quiet));
    styled(bar, "{msg} {bar:40} {human_pos}/{human_len} {eta}").with_message(what.into())
}

/// Shows how far a movement has come.
pub fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.copies_total.max(progress.copies_done));
    bar.set_position(progress.copies_done);
}

fn target(quiet: bool) -> ProgressDrawTarget {
    // indicatif draws nothing if stderr is not a terminal.
    match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("━╸─")),
        // The templates are ours; if one were wrong, the plain bar does as well.
        Err(_) => bar,
    }
}
