//! Bars for long work: drawn on a terminal, a line now and then elsewhere, progress events in JSON.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::progress::{Bar, Unit};

use super::Ui;
use super::event::Type;

/// Off a terminal, long work says so at most this often.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Scripts that draw their own bars want to know a little more often.
const EVERY_EVENT: Duration = Duration::from_secs(1);

/// A bar on the terminal.
pub(super) struct Drawn(ProgressBar);

impl Drawn {
    /// Styles a bar that its owner has put where it is drawn.
    pub(super) fn new(bar: ProgressBar, title: &str, unit: Unit) -> Self {
        let template = match (unit, bar.length()) {
            (Unit::Bytes, Some(_)) => {
                "  {prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec:.dim} {eta:.dim} {wide_msg:.dim}"
            }
            (Unit::Bytes, None) => "  {prefix} {bytes} {bytes_per_sec:.dim} {wide_msg:.dim}",
            (Unit::Items, Some(_)) => "  {prefix} [{bar:24}] {pos}/{len} {elapsed:.dim} {wide_msg:.dim}",
            (Unit::Items, None) => "  {prefix} {pos} {elapsed:.dim} {wide_msg:.dim}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl Bar for Drawn {
    fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    fn message(&self, message: &str) {
        self.0.set_message(message.to_owned());
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar where nothing can be drawn: it tells how far it is, in words or as an event.
pub(super) struct Told {
    ui: Ui,
    title: String,
    total: Option<u64>,
    unit: Unit,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    done: u64,
    message: String,
    last: Instant,
}

impl Told {
    pub(super) fn new(ui: Ui, title: &str, total: Option<u64>, unit: Unit) -> Self {
        let now = Instant::now();
        if unit == Unit::Bytes {
            ui.event(Type::Download, &[("artifact", title.to_owned())]);
        }
        Self {
            ui,
            title: title.to_owned(),
            total,
            unit,
            began: now,
            state: Mutex::new(State {
                done: 0,
                message: String::new(),
                last: now,
            }),
        }
    }

    fn tell(&self, state: &State) {
        if self.ui.is_json() {
            if let (Unit::Bytes, Some(total @ 1..)) = (self.unit, self.total) {
                #[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
                let progress = state.done as f64 / total as f64;
                let data = [
                    ("artifact", self.title.clone()),
                    ("progress", progress.min(1.0).to_string()),
                ];
                self.ui.event(Type::DownloadProgress, &data);
            }
        } else {
            self.ui
                .progress_line(&describe(self, state, self.began.elapsed()));
        }
    }
}

/// How far it is, in a line.
fn describe(bar: &Told, state: &State, elapsed: Duration) -> String {
    let amount = |count: u64| match bar.unit {
        Unit::Bytes => HumanBytes(count).to_string(),
        Unit::Items => count.to_string(),
    };
    let mut line = format!("{}: {}", bar.title, amount(state.done));
    if let Some(total) = bar.total {
        line.push_str(&format!(" of {}", amount(total)));
    }
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = state.done.saturating_mul(1000) / millis;
    if bar.unit == Unit::Bytes {
        line.push_str(&format!(", {}/s", HumanBytes(rate)));
        if let (Some(total), 1..) = (bar.total, rate) {
            let left = Duration::from_secs(total.saturating_sub(state.done) / rate);
            line.push_str(&format!(", {} left", super::text::seconds(left)));
        }
    }
    if !state.message.is_empty() {
        line.push_str(&format!(" ({})", state.message));
    }
    line
}

impl Bar for Told {
    fn advance(&self, by: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += by;
        let every = if self.ui.is_json() { EVERY_EVENT } else { EVERY };
        let complete = self.ui.is_json() && self.total == Some(state.done);
        if complete || state.last.elapsed() >= every {
            state.last = Instant::now();
            self.tell(&state);
        }
    }

    fn message(&self, message: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        message.clone_into(&mut state.message);
        if !self.ui.is_json() && state.last.elapsed() >= EVERY {
            state.last = Instant::now();
            self.tell(&state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_amount_rate_and_time_left() {
        let (ui, _) = Ui::for_tests(false);
        let bar = Told::new(ui, "disk.raw", Some(4 << 20), Unit::Bytes);
        let state = State {
            done: 1 << 20,
            message: "sha256".to_owned(),
            last: Instant::now(),
        };
        assert_eq!(
            describe(&bar, &state, Duration::from_secs(1)),
            "disk.raw: 1.00 MiB of 4.00 MiB, 1.00 MiB/s, 3.0s left (sha256)"
        );
    }

    #[test]
    fn json_tells_the_end_of_a_download() {
        let (ui, out) = Ui::for_tests(true);
        let bar = Told::new(ui, "x", Some(4), Unit::Bytes);
        bar.advance(2);
        bar.advance(2);
        let text = out.out();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .contains(r#""data":{"artifact":"x","progress":"1"}"#),
            "{text}"
        );
    }
}
