//! Unpacks the compression of a bundle file in a thread of its own, so that reading and writing overlap and a source that hangs
//! holds up nobody who wants to stop.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use zstd::stream::read::Decoder;

use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::store::sparse;

/// How much is handed over at a time, and how many such pieces may wait.
const PIECE: usize = 1 << 20;
const WAITING: usize = 8;

/// What a zstd frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks one frame after the other, compares their checksums, and hands over what comes of them.
fn unpack(from: &mut dyn Read, sender: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut decoder = Decoder::with_buffer(io::BufReader::with_capacity(PIECE, from))?;
    loop {
        let mut piece = vec![0; PIECE];
        let count = sparse::fill(&mut decoder, &mut piece)?;
        piece.truncate(count);
        // At the end, or nobody reads it any more.
        if count == 0 || sender.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

/// The unpacked bytes of a bundle file.
pub(super) struct Stream {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    cancel: Cancel,
    failure: Option<io::Error>,
    ended: bool,
}

impl Stream {
    /// Begins to read; `place` is what errors call the source.
    ///
    /// # Errors
    /// [`Kind::Bundle`] for what is no bundle file.
    pub(super) fn open(mut from: Box<dyn Read + Send>, place: &str, cancel: &Cancel) -> Result<Self> {
        let (sender, pieces) = mpsc::sync_channel(WAITING);
        let work = move || {
            let mut begin = [0; MAGIC.len()];
            let result = match sparse::fill(&mut from, &mut begin) {
                Ok(count) if sender.send(Ok(begin[..count].to_vec())).is_err() || begin != MAGIC => return,
                Ok(_) => unpack(&mut io::Cursor::new(begin).chain(from), &sender),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                // Nobody may be waiting any more.
                let _ = sender.send(Err(error));
            }
        };
        thread::Builder::new()
            .name("unpack".to_owned())
            .spawn(work)
            .map_err(|error| Error::new(Kind::Internal, "no thread could be started").because(error))?;
        let mut stream = Self {
            pieces,
            piece: io::Cursor::default(),
            cancel: cancel.clone(),
            failure: None,
            ended: false,
        };
        match stream.next() {
            Ok(begin) if begin == MAGIC => Ok(stream),
            Ok(begin) if begin.is_empty() => {
                Err(Error::new(Kind::Bundle, format!("{place}: it is empty")).hint(super::WAY_OUT))
            }
            Ok(_) => Err(
                Error::new(Kind::Bundle, format!("{place}: it is no bundle file")).hint(
                    "`sampan bundle export FILE` writes one; container images go in with `sampan image load`",
                ),
            ),
            Err(error) => {
                stream.failure = Some(error);
                Err(stream.explain(place, ""))
            }
        }
    }

    /// The next piece; empty at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if self.cancel.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            match self.pieces.recv_timeout(Duration::from_millis(50)) {
                Ok(piece) => return piece,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return Ok(Vec::new());
                }
            }
        }
    }

    /// Why reading failed or ended too early; `at` is the file it was at.
    pub(super) fn explain(&mut self, place: &str, at: &str) -> Error {
        if self.cancel.is_set() {
            return Error::interrupted();
        }
        let at = if at.is_empty() {
            String::new()
        } else {
            format!(" in {at}")
        };
        let failure = self.failure.take();
        let cut = match &failure {
            Some(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            None => self.ended,
        };
        let what = if cut { "cut short" } else { "damaged" };
        match failure {
            Some(error) if error.raw_os_error().is_some() => Error::io(Path::new(place))(error),
            Some(error) if !cut => bad(place, what, &at).because(error),
            _ => bad(place, what, &at),
        }
    }

    /// Reads what is left, which is no more than fill.
    pub(super) fn finish(&mut self, place: &str) -> Result<()> {
        let mut rest = vec![0; PIECE];
        loop {
            match self.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(count) if rest[..count].iter().all(|byte| *byte == 0) => {}
                Ok(_) => {
                    return Err(Error::new(
                        Kind::Bundle,
                        format!("{place}: there is something behind its end"),
                    )
                    .hint(super::WAY_OUT));
                }
                Err(_) => return Err(self.explain(place, "its end")),
            }
        }
    }
}

fn bad(place: &str, what: &str, at: &str) -> Error {
    Error::new(Kind::Bundle, format!("{place}: it is {what}{at}")).hint(super::WAY_OUT)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        match self.next() {
            Ok(piece) => {
                self.piece = io::Cursor::new(piece);
                self.piece.read(buffer)
            }
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the bundle file cannot be read"))
            }
        }
    }
}
