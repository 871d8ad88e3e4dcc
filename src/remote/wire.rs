//! One libssh2 connection, driven without blocking.
//!
//! What has to be minded with libssh2, and is minded here and nowhere else:
//! - "again" for want of room to send means that half a packet is on its way: the same call must be made again before any other,
//!   or the connection is stuck. "Again" for want of input is harmless.
//! - reading one stream takes packets of all streams off the socket, so before sleeping on the socket one asks whether any are queued;
//! - the exit status is 0 until the guest said otherwise: it counts only once the guest has closed the channel;
//! - a channel that the guest has closed still takes input until its window is full.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sampan_driver::Stream;
use ssh2::{BlockDirections, Channel, ErrorCode};

use crate::progress::Cancel;

/// Longest sleep before the user's wish to stop is looked at again.
const NAP: Duration = Duration::from_millis(100);
/// libssh2 sends at most so many bytes of data in one packet.
const CHUNK: usize = 32_000;
/// Chunks moved in one direction before the others get their turn.
const TURN: usize = 16;

const EAGAIN: ErrorCode = ErrorCode::Session(-37);

/// Why something on the wire did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Its time is over.
    Deadline,
    /// The user wants to stop.
    Cancelled,
    /// The guest's sshd said no, or the connection broke.
    Ssh(ssh2::Error),
    /// The same seen by the socket, or input that could not be read.
    Io(io::Error),
}

/// How long work may take: all of it, or without any progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    end: Option<Instant>,
    idle: Option<Duration>,
}

impl Clock {
    /// All of the work ends by then.
    pub(super) fn total(limit: Duration) -> Self {
        Self {
            end: Instant::now().checked_add(limit),
            idle: None,
        }
    }

    /// The work may take as long as it moves on at least this often.
    pub(super) fn idle(limit: Duration) -> Self {
        Self {
            idle: Some(limit),
            ..Self::total(limit)
        }
    }

    fn progressed(&mut self) {
        if let Some(idle) = self.idle {
            self.end = Instant::now().checked_add(idle);
        }
    }

    /// Time left; zero when over.
    pub(super) fn left(&self) -> Duration {
        self.end
            .map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

/// How a command in the guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an exit status.
    Status(i32),
    /// By a signal, named without "SIG".
    Signal(String),
}

/// A connection; authenticated once [`super::connect`] hands it out.
pub(super) struct Wire {
    stream: TcpStream,
    pub(super) session: ssh2::Session,
    cancel: Cancel,
}

/// Sleeps until the socket is ready, the time is over or the user wants to stop; at most one nap.
pub(super) fn nap(
    stream: &TcpStream,
    flags: PollFlags,
    clock: &Clock,
    cancel: &Cancel,
) -> Result<bool, Trouble> {
    if cancel.is_set() {
        return Err(Trouble::Cancelled);
    }
    let left = clock.left();
    if left.is_zero() {
        return Err(Trouble::Deadline);
    }
    let timeout = Timespec::try_from(left.min(NAP)).map_err(|error| Trouble::Io(io::Error::other(error)))?;
    match poll(&mut [PollFd::new(stream, flags)], Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Trouble::Io(error.into())),
    }
}

impl Wire {
    /// Puts libssh2 on a connected socket, which becomes non-blocking. Nothing is sent yet.
    pub(super) fn new(stream: TcpStream, cancel: Cancel) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut session = ssh2::Session::new()?;
        session.set_tcp_stream(stream.try_clone()?);
        session.set_blocking(false);
        Ok(Self {
            stream,
            session,
            cancel,
        })
    }

    /// Repeats a call of libssh2 until it is through.
    pub(super) fn drive<T>(
        &self,
        clock: &Clock,
        mut call: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, Trouble> {
        loop {
            match call() {
                Err(error) if error.code() == EAGAIN => self.wait(clock)?,
                Err(error) => return Err(Trouble::Ssh(error)),
                Ok(value) => return Ok(value),
            }
        }
    }

    /// Runs a shell line in the guest, feeds it `input` to its end and hands over what it prints.
    pub(super) fn exec(
        &self,
        line: &str,
        input: &mut dyn Read,
        clock: &mut Clock,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ended, Trouble> {
        let mut channel = self.drive(clock, || self.session.channel_session())?;
        self.drive(clock, || channel.exec(line))?;
        let mut feed = Feed::new(input);
        let mut buffer = vec![0; CHUNK];
        loop {
            self.check(clock)?;
            let mut moved = self.feed(&mut channel, &mut feed, clock)?;
            moved |= self.drain(&channel, Stream::Stdout, &mut buffer, clock, on_output)?;
            moved |= self.drain(&channel, Stream::Stderr, &mut buffer, clock, on_output)?;
            if channel.eof() && (feed.done || channel.wait_close().is_ok()) {
                break;
            }
            if moved {
                clock.progressed();
            } else if channel.read_window().available == 0 {
                self.wait(clock)?;
            }
        }
        self.drive(clock, || channel.close())?;
        self.drive(clock, || channel.wait_close())?;
        match channel.exit_signal().map_err(Trouble::Ssh)?.exit_signal {
            Some(signal) => Ok(Ended::Signal(signal)),
            None => Ok(Ended::Status(channel.exit_status().map_err(Trouble::Ssh)?)),
        }
    }

    fn check(&self, clock: &Clock) -> Result<(), Trouble> {
        if self.cancel.is_set() {
            return Err(Trouble::Cancelled);
        }
        if clock.left().is_zero() {
            Err(Trouble::Deadline)
        } else {
            Ok(())
        }
    }

    /// Sleeps until the socket can do what libssh2 waits for.
    fn wait(&self, clock: &Clock) -> Result<(), Trouble> {
        let flags = match self.session.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        nap(&self.stream, flags, clock, &self.cancel).map(drop)
    }

    /// Sleeps, at most one nap, until the guest has sent something, one of `readers` or `listeners` has something, or one of `writers`
    /// takes something.
    pub(super) fn rest(
        &self,
        readers: &[&TcpStream],
        writers: &[&TcpStream],
        listeners: &[&TcpListener],
    ) -> Result<(), Trouble> {
        if self.cancel.is_set() {
            return Err(Trouble::Cancelled);
        }
        let mut all = vec![PollFd::new(&self.stream, PollFlags::IN)];
        all.extend(readers.iter().map(|one| PollFd::new(*one, PollFlags::IN)));
        all.extend(writers.iter().map(|one| PollFd::new(*one, PollFlags::OUT)));
        all.extend(listeners.iter().map(|one| PollFd::new(*one, PollFlags::IN)));
        let timeout = Timespec::try_from(NAP).map_err(|error| Trouble::Io(io::Error::other(error)))?;
        match poll(&mut all, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Trouble::Io(error.into())),
        }
    }

    /// Whether half a packet waits to be sent, so that the last call has to be made again before any other.
    fn half_sent(&self) -> bool {
        matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        )
    }

    /// Makes a call on a stream; none when it has to wait for input.
    pub(super) fn attempt(
        &self,
        clock: &Clock,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> Result<Option<usize>, Trouble> {
        loop {
            match call() {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.half_sent() => {
                    self.wait(clock)?
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Trouble::Io(error)),
            }
        }
    }

    /// Sends input as far as the guest takes it; says whether anything went.
    fn feed(&self, channel: &mut Channel, feed: &mut Feed<'_>, clock: &Clock) -> Result<bool, Trouble> {
        let mut moved = false;
        for _ in 0..TURN {
            if feed.done {
                break;
            }
            let rest = feed.rest().map_err(Trouble::Io)?;
            if rest.is_empty() {
                feed.done = true;
                // A command that ended without reading its input has closed the channel already.
                if let Err(trouble @ (Trouble::Deadline | Trouble::Cancelled)) =
                    self.drive(clock, || channel.send_eof())
                {
                    return Err(trouble);
                }
                return Ok(true);
            }
            match self.attempt(clock, || channel.write(rest)) {
                Ok(Some(count)) => feed.start += count,
                Ok(None) => break,
                // The same, or the connection broke: reading, which comes next, tells.
                Err(Trouble::Io(_)) => feed.done = true,
                Err(trouble) => return Err(trouble),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Hands over what is there of a stream; says whether there was anything.
    fn drain(
        &self,
        channel: &Channel,
        stream: Stream,
        buffer: &mut [u8],
        clock: &Clock,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<bool, Trouble> {
        let mut pipe = match stream {
            Stream::Stdout => channel.stream(0),
            Stream::Stderr => channel.stderr(),
        };
        let mut moved = false;
        for _ in 0..TURN {
            match self.attempt(clock, || pipe.read(buffer))? {
                None | Some(0) => break,
                Some(count) => on_output(stream, &buffer[..count]),
            }
            moved = true;
        }
        Ok(moved)
    }
}

/// A command's input, a piece at a time.
struct Feed<'a> {
    source: &'a mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    done: bool,
}

impl<'a> Feed<'a> {
    fn new(source: &'a mut dyn Read) -> Self {
        Self {
            source,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            done: false,
        }
    }

    /// What is to be sent next; empty at the end.
    fn rest(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.source.read(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }
}
