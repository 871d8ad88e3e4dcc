//! The only code that prints.
//!
//! [`Ui`] decides what goes to standard output and standard error, in which form and colour, and whether anything moves. What a verb
//! was asked for goes to standard output ([`Ui::line`], [`Ui::bytes`], [`Ui::json`]), as do the steps of a verb that changes
//! something; warnings, errors, spinners, bars and logs go to standard error. With `-o json` a verb that changes something writes
//! CloudEvents to standard output and nothing else.

mod bar;
mod event;
mod failure;
mod known;
mod sink;
mod table;
mod terminal;
mod text;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde::Serialize;

use crate::error::{Error, Kind};
use crate::progress::{Bar, Reporter, StepEnd, StepInfo, Unit};

pub use table::Table;
pub use terminal::{Style, Terminal};

use event::{Events, Type};
use sink::Sink;
use text::Running;

/// How a verb was told to talk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Events in JSON instead of lines.
    pub json: bool,
    /// No steps, no progress: only what was asked for, warnings and errors.
    pub quiet: bool,
    /// Logs: 0 none, 1 what is done, 2 every command, 3 everything.
    pub verbose: u8,
}

/// Output, cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    options: Options,
    terminal: Terminal,
    out: Sink,
    err: Sink,
    drawing: MultiProgress,
    running: Mutex<Option<Running>>,
    events: Events,
}

impl Ui {
    /// Output to the process's standard streams.
    pub fn new(terminal: Terminal, options: Options) -> Self {
        Self::to(terminal, options, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn to(
        mut terminal: Terminal,
        options: Options,
        out: Box<dyn io::Write + Send>,
        err: Box<dyn io::Write + Send>,
    ) -> Self {
        // Log lines and things that move do not go together.
        terminal.progress &= !options.json && !options.quiet && options.verbose == 0;
        let target = if terminal.progress {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self(Arc::new(Inner {
            options,
            terminal,
            out: Sink::new(out),
            err: Sink::new(err),
            drawing: MultiProgress::with_draw_target(target),
            running: Mutex::new(None),
            events: Events::new(),
        }))
    }

    /// Sends logs of this program to standard error, as much as `-v` asked for. Once per process.
    pub fn start_logs(&self) {
        let level = match self.0.options.verbose {
            0 => return,
            1 => "sampan=info",
            2 => "sampan=debug",
            _ => "sampan=trace,info",
        };
        let filter = tracing_subscriber::EnvFilter::new(level);
        // A second subscriber is refused; the first one is as good.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(self.0.terminal.colour_err)
            .try_init();
    }

    /// What was asked for: one line on standard output.
    pub fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// What was asked for, as it is.
    pub fn bytes(&self, bytes: &[u8]) {
        self.0.drawing.suspend(|| self.0.out.write(bytes));
    }

    /// What was asked for, as JSON on one line.
    pub fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.warn(&format!("cannot write JSON: {error}")),
        }
    }

    /// Bytes for standard error as they are: the output of somebody else.
    pub fn error_bytes(&self, bytes: &[u8]) {
        self.0.drawing.suspend(|| self.0.err.write(bytes));
    }

    /// An error that ends the program.
    pub fn error(&self, error: &Error) {
        if self.is_json() {
            self.event(Type::Error, &failure::data(error));
        } else {
            self.error_bytes(failure::text(error, self.0.terminal.colour_err).as_bytes());
        }
    }

    /// Text in a style, if standard output takes colours.
    pub fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.0.terminal.colour_out)
    }

    /// Whether anybody still reads what goes to standard output. Loops that only print end when nobody does.
    pub fn is_read(&self) -> bool {
        self.0.out.is_open()
    }

    /// The error of output that was lost, other than by a reader who had enough.
    pub fn lost_output(&self) -> Option<Error> {
        let why = self.0.out.failure()?;
        Some(Error::new(
            Kind::Storage,
            format!("standard output: {}", why.to_lowercase()),
        ))
    }

    fn is_json(&self) -> bool {
        self.0.options.json
    }

    fn draws(&self) -> bool {
        self.0.terminal.progress
    }

    fn draw(&self, bar: ProgressBar) -> ProgressBar {
        self.0.drawing.add(bar)
    }

    fn event(&self, event: Type, data: &[(&str, String)]) {
        if self.is_json() {
            self.0.out.write(self.0.events.line(event, data).as_bytes());
        }
    }

    /// A line about long work, where nothing is drawn.
    fn progress_line(&self, text: &str) {
        if !self.is_json() && !self.0.options.quiet {
            self.0.out.write(format!("  … {text}\n").as_bytes());
        }
    }

    fn step_event(&self, step: StepInfo) {
        let data = [
            ("currentstep", step.number.to_string()),
            ("totalsteps", step.total.to_string()),
            ("name", step.name.to_owned()),
            ("message", step.title.to_owned()),
        ];
        self.event(Type::Step, &data);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Ui {
    fn step_begin(&self, step: StepInfo) {
        self.step_event(step);
        if !self.is_json() && !self.0.options.quiet {
            *self.running() = Some(Running::begin(self, step));
        }
    }

    fn step_end(&self, step: StepInfo, end: StepEnd) {
        let running = self.running().take();
        if end == StepEnd::AlreadyDone {
            // Scripts count on all steps; people want to read of work only.
            self.step_event(step);
        } else if let Some(running) = running {
            let line = running.end(step, &end, self.0.terminal.colour_out);
            self.bytes(line.as_bytes());
        }
    }

    fn detail(&self, message: &str) {
        tracing::info!("{message}");
        if let Some(running) = &*self.running() {
            running.detail(message);
        }
    }

    fn info(&self, message: &str) {
        if self.is_json() {
            self.event(Type::Info, &[("message", message.to_owned())]);
        } else if !self.0.options.quiet {
            self.line(message);
        }
    }

    fn warn(&self, message: &str) {
        if self.is_json() {
            self.event(Type::Warning, &[("message", message.to_owned())]);
        } else {
            let mark = Style::Caution.paint("!", self.0.terminal.colour_err);
            self.error_bytes(format!("{mark} {message}\n").as_bytes());
        }
    }

    fn bar(&self, title: &str, total: Option<u64>, unit: Unit) -> Box<dyn Bar> {
        if self.draws() {
            let bar = self.draw(total.map_or_else(ProgressBar::no_length, ProgressBar::new));
            Box::new(bar::Drawn::new(bar, title, unit))
        } else {
            Box::new(bar::Told::new(self.clone(), title, total, unit))
        }
    }
}

#[cfg(test)]
mod tests;
