//! What a request is to meet.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What a request is to meet; all that is not said is as it should be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Another status, and no file.
    pub status: Option<u16>,
    /// Header lines that are added, or take the place of ours; an empty value takes ours away.
    pub headers: Vec<(String, String)>,
    /// After so many bytes of the body the connection ends.
    pub cut: Option<u64>,
    /// After so many bytes of the body nothing more comes.
    pub stall: Option<u64>,
    /// One byte of the body at a time, with this long between them.
    pub trickle: Option<Duration>,
    /// The byte at this place of the file is another one.
    pub flip: Option<u64>,
    /// A 200 with all of it, whatever part was asked for.
    pub whole: bool,
    /// After the body, zeros without end. The length is not said then.
    pub endless: bool,
    /// Before the answer, the file becomes this.
    pub change: Option<Vec<u8>>,
    /// Before the answer, the gate has to be opened.
    pub gate: Option<Gate>,
    /// It is not used up.
    pub stays: bool,
}

impl Plan {
    /// The connection ends after so many bytes of the body.
    pub fn cut(after: u64) -> Self {
        Self {
            cut: Some(after),
            ..Self::default()
        }
    }

    /// Nothing more comes after so many bytes of the body.
    pub fn stall(after: u64) -> Self {
        Self {
            stall: Some(after),
            ..Self::default()
        }
    }

    /// A status, and no file.
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// To another address.
    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    /// With this header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Something that requests wait for.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets all go on that wait, or will.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}
