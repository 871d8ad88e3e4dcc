//! Steps for people: a spinner while one runs and a tick when it is done; off a terminal a line when it is done, and one now
//! and then while it takes long.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{StepEnd, StepInfo};

use super::Ui;
use super::bar::EVERY;
use super::terminal::Style;

/// The step that is running.
pub(super) struct Running {
    began: Instant,
    title: &'static str,
    detail: Arc<Mutex<String>>,
    spinner: Option<ProgressBar>,
    /// Dropping it ends the thread that tells what takes so long.
    _alive: Option<Sender<()>>,
}

impl Running {
    pub(super) fn begin(ui: &Ui, step: StepInfo) -> Self {
        let mut running = Self {
            began: Instant::now(),
            title: step.title,
            detail: Arc::default(),
            spinner: None,
            _alive: None,
        };
        if ui.draws() {
            running.spinner = Some(spinner(ui, step.title));
        } else {
            running._alive = Some(tell_now_and_then(
                ui,
                step.title,
                Arc::clone(&running.detail),
                running.began,
            ));
        }
        running
    }

    /// What the step is doing now.
    pub(super) fn detail(&self, message: &str) {
        message.clone_into(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{}: {message}", self.title));
        }
    }

    /// Takes the spinner away and gives the line that stays.
    pub(super) fn end(self, step: StepInfo, end: &StepEnd, colour: bool) -> String {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let (mark, style) = match end {
            StepEnd::Done | StepEnd::AlreadyDone => ("✓", Style::Good),
            StepEnd::Failed => ("✗", Style::Bad),
        };
        let time = Style::Dim.paint(&format!("({})", seconds(self.began.elapsed())), colour);
        format!("{} {} {time}\n", style.paint(mark, colour), step.title)
    }
}

fn spinner(ui: &Ui, title: &'static str) -> ProgressBar {
    let spinner = ui.draw(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed:.dim}") {
        spinner.set_style(style);
    }
    spinner.set_message(title);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn tell_now_and_then(ui: &Ui, title: &'static str, detail: Arc<Mutex<String>>, began: Instant) -> Sender<()> {
    let (alive, ended) = mpsc::channel();
    let ui = ui.clone();
    thread::spawn(move || {
        while ended.recv_timeout(until_next(began.elapsed())) == Err(RecvTimeoutError::Timeout) {
            let detail = detail.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let colon = if detail.is_empty() { "" } else { ": " };
            ui.progress_line(&format!("{title}{colon}{detail} ({})", seconds(began.elapsed())));
        }
    });
    alive
}

/// How long nothing is said: the longer a step has run, the longer, up to a minute.
fn until_next(elapsed: Duration) -> Duration {
    (elapsed / 6).clamp(EVERY, 6 * EVERY)
}

/// A time for people: "0.3s", "42s", "1m 05s".
pub(super) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_half_an_hour_speaks_up_each_minute() {
        assert_eq!(until_next(Duration::ZERO), EVERY);
        assert_eq!(until_next(3 * Duration::from_secs(60)), 3 * EVERY);
        assert_eq!(until_next(Duration::from_secs(1800)), Duration::from_secs(60));
    }

    #[test]
    fn times_are_short() {
        let times = [0.04, 9.94, 42.9, 65.0, 7260.0].map(|time| seconds(Duration::from_secs_f64(time)));
        assert_eq!(times, ["0.0s", "9.9s", "42s", "1m 05s", "2h 01m"]);
    }
}
