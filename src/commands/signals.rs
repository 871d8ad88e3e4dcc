//! Ctrl-C and SIGTERM: the first asks the work to stop, the second ends the process at once.

use std::sync::atomic::Ordering;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Kind;
use crate::progress::{Cancel, Reporter};
use crate::ui::Ui;

/// Listens from now on. A process that cannot listen is ended by the first signal, as if nobody listened.
pub(super) fn listen(cancel: &Cancel, ui: &Ui) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    let (flag, ui) = (cancel.flag(), ui.clone());
    thread::spawn(move || {
        for _ in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) {
                ui.warn("interrupted again: leaving at once; the same command goes on from here");
                leave();
            }
            ui.warn("interrupted: putting things in order; once more to leave at once");
        }
    });
}

#[expect(
    clippy::exit,
    reason = "the user asked twice; the main thread may be stuck in something that does not look at the flag"
)]
fn leave() {
    std::process::exit(Kind::Interrupted.exit_code().into());
}
