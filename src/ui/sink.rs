//! One output stream: whole pieces, flushed, and silent once nobody reads any more.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// A stream that never fails its caller. A closed pipe ends output quietly; any other failure is kept for the end.
pub(super) struct Sink(Mutex<State>);

struct State {
    writer: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Sink {
    pub(super) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(State { writer, failed: None }))
    }

    /// Writes a piece and flushes it.
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_none() {
            let written = state.writer.write_all(bytes).and_then(|()| state.writer.flush());
            state.failed = written.err();
        }
    }

    /// Whether what is written still arrives anywhere.
    pub(super) fn is_open(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed
            .is_none()
    }

    /// Why output was lost, if it was and the reader did not want it so.
    pub(super) fn failure(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .failed
            .as_ref()
            .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
            .map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_silent_and_a_full_disk_is_not() {
        for (kind, told) in [
            (io::ErrorKind::BrokenPipe, false),
            (io::ErrorKind::StorageFull, true),
        ] {
            let sink = Sink::new(Box::new(Failing(kind)));
            assert!(sink.is_open());
            sink.write(b"x");
            assert_eq!(
                (sink.is_open(), sink.failure().is_some()),
                (false, told),
                "{kind}"
            );
        }
    }
}
