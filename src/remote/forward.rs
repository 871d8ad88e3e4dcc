//! Ports of the guest's network on the host, for as long as somebody wants them: connections to a local listener are carried through
//! one SSH connection, several at once.
//!
//! One thread drives all of it, as libssh2 allows one call at a time on a connection anyway (see `wire` for what has to be minded).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ssh2::Channel;

use super::wire::{Clock, Trouble, Wire};
use super::{Target, connect};
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;

/// How long the guest's sshd may take to answer.
const CONNECT: Duration = Duration::from_secs(30);

/// How long the guest may take to connect to where a connection is to lead.
const OPEN: Duration = Duration::from_secs(15);

/// How long the guest may take to read what is on its way.
const STUCK: Duration = Duration::from_secs(60);

/// Data moved at a time in one direction.
const CHUNK: usize = 32_000;

/// Connections at a time; further ones wait to be accepted.
const MOST: usize = 200;

/// Carries connections to these listeners to addresses that the guest can reach, until the user wants to stop: then it succeeds.
///
/// # Errors
/// [`Kind::GuestTimeout`] and [`Kind::Guest`] when there is no connection to the guest, or none any more; [`Kind::Network`] when a
/// listener cannot be used.
pub fn forward(target: &Target, listeners: Vec<(TcpListener, SocketAddr)>, cancel: &Cancel) -> Result<()> {
    for (listener, _) in &listeners {
        listener.set_nonblocking(true).map_err(unusable)?;
    }
    let wire = match connect::again(target, CONNECT, cancel) {
        Err(error) if error.kind() == Kind::Interrupted => return Ok(()),
        other => other?,
    };
    let mut carrier = Carrier {
        wire,
        place: target.place.clone(),
        links: Vec::new(),
        buffer: vec![0; CHUNK],
    };
    while !cancel.is_set() {
        match carrier.turn(&listeners) {
            Ok(()) => {}
            Err(Trouble::Cancelled) => break,
            Err(trouble) => return Err(broken(&carrier.place, &trouble)),
        }
    }
    Ok(())
}

fn unusable(error: std::io::Error) -> Error {
    Error::new(Kind::Network, format!("a local port cannot be used: {error}")).because(error)
}

fn broken(place: &str, trouble: &Trouble) -> Error {
    let why = match trouble {
        Trouble::Deadline => "it does not answer".to_owned(),
        Trouble::Cancelled => "interrupted".to_owned(),
        Trouble::Ssh(error) => error.message().to_owned(),
        Trouble::Io(error) => error.to_string(),
    };
    Error::new(
        Kind::Guest,
        format!("{place}: the connection to the guest broke: {why}"),
    )
    .hint("run the same command again; `sampan status` tells whether the machine runs")
}

/// What one connection still has to do in one direction.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    start: usize,
    /// The reading side said that nothing more comes.
    ended: bool,
    /// That was passed on.
    told: bool,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.start = 0;
    }
}

/// One connection and its channel.
struct Link {
    client: TcpStream,
    channel: Channel,
    /// From the client to the guest.
    up: Pending,
    /// From the guest to the client.
    down: Pending,
    /// Nobody cares any more.
    dead: bool,
}

struct Carrier {
    wire: Wire,
    place: String,
    links: Vec<Link>,
    buffer: Vec<u8>,
}

impl Carrier {
    /// Moves what can be moved; sleeps when there is nothing.
    fn turn(&mut self, listeners: &[(TcpListener, SocketAddr)]) -> Result<(), Trouble> {
        let mut moved = self.accept(listeners)?;
        for link in &mut self.links {
            moved |= link.pump(&self.wire, &mut self.buffer)?;
        }
        let wire = &self.wire;
        let mut kept = Vec::new();
        for mut link in self.links.drain(..) {
            if link.is_over() {
                link.close(wire)?;
            } else {
                kept.push(link);
            }
        }
        self.links = kept;
        if moved {
            return Ok(());
        }
        let mut others: Vec<&TcpStream> = Vec::new();
        let mut writers: Vec<&TcpStream> = Vec::new();
        for link in &self.links {
            if link.up.is_empty() && !link.up.ended {
                others.push(&link.client);
            }
            if !link.down.is_empty() {
                writers.push(&link.client);
            }
        }
        let listeners: Vec<&TcpListener> = match self.links.len() < MOST {
            true => listeners.iter().map(|(listener, _)| listener).collect(),
            false => Vec::new(),
        };
        self.wire.rest(&others, &writers, &listeners)
    }

    /// Takes new connections. One that the guest cannot carry on is closed; that is its client's to see.
    fn accept(&mut self, listeners: &[(TcpListener, SocketAddr)]) -> Result<bool, Trouble> {
        let mut any = false;
        for (listener, to) in listeners {
            while self.links.len() < MOST {
                let client = match listener.accept() {
                    Ok((client, _)) => client,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // A client that went away again, or too many open files: the next turn tries again.
                    Err(error) => {
                        tracing::debug!(%error, "accept");
                        break;
                    }
                };
                any = true;
                let host = to.ip().to_string();
                let open = || self.wire.session.channel_direct_tcpip(&host, to.port(), None);
                match self.wire.drive(&Clock::total(OPEN), open) {
                    Ok(channel) => {
                        client.set_nonblocking(true).map_err(Trouble::Io)?;
                        // Small answers are not to wait for more.
                        let _ = client.set_nodelay(true);
                        self.links.push(Link {
                            client,
                            channel,
                            up: Pending::default(),
                            down: Pending::default(),
                            dead: false,
                        });
                    }
                    Err(Trouble::Ssh(error)) if is_refusal(&error) => {
                        tracing::info!(place = self.place, %to, error = error.message(), "refused");
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        Ok(any)
    }
}

/// Whether the guest's sshd said no to a channel, and the connection to it is well.
fn is_refusal(error: &ssh2::Error) -> bool {
    const CHANNEL_FAILURE: i32 = -21;
    error.code() == ssh2::ErrorCode::Session(CHANNEL_FAILURE)
}

impl Link {
    /// Moves what can be moved in both directions.
    fn pump(&mut self, wire: &Wire, buffer: &mut [u8]) -> Result<bool, Trouble> {
        let up = self.up(wire, buffer)?;
        let down = self.down(wire, buffer)?;
        Ok(up | down)
    }

    fn up(&mut self, wire: &Wire, buffer: &mut [u8]) -> Result<bool, Trouble> {
        let mut moved = false;
        if self.up.is_empty() && !self.up.ended {
            match self.client.read(buffer) {
                Ok(0) => (self.up.ended, moved) = (true, true),
                Ok(count) => {
                    self.up.put(&buffer[..count]);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.dead = true,
            }
        }
        let clock = Clock::total(STUCK);
        if !self.up.is_empty() {
            let (channel, rest) = (&mut self.channel, &self.up.bytes[self.up.start..]);
            match wire.attempt(&clock, || channel.write(rest)) {
                Ok(Some(count)) => {
                    self.up.start += count;
                    moved |= count > 0;
                }
                Ok(None) => {}
                // The other side closed the channel; whether the connection is well shows when reading.
                Err(Trouble::Io(_)) => {
                    self.up.put(&[]);
                    self.up.ended = true;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        if self.up.is_empty() && self.up.ended && !self.up.told {
            self.up.told = true;
            let channel = &mut self.channel;
            // Already closed from the other side is as good.
            match wire.drive(&clock, || channel.send_eof()) {
                Err(trouble @ (Trouble::Deadline | Trouble::Cancelled)) => return Err(trouble),
                _ => moved = true,
            }
        }
        Ok(moved)
    }

    fn down(&mut self, wire: &Wire, buffer: &mut [u8]) -> Result<bool, Trouble> {
        let mut moved = false;
        if self.down.is_empty() && !self.down.ended {
            let channel = &mut self.channel;
            match wire.attempt(&Clock::total(STUCK), || channel.read(buffer))? {
                Some(0) => self.down.ended = self.channel.eof(),
                Some(count) => {
                    self.down.put(&buffer[..count]);
                    moved = true;
                }
                None => self.down.ended = self.channel.eof(),
            }
            moved |= self.down.ended;
        }
        if !self.down.is_empty() {
            match self.client.write(self.down.rest()) {
                Ok(count) => {
                    self.down.start += count;
                    moved |= count > 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.dead = true,
            }
        }
        if self.down.is_empty() && self.down.ended && !self.down.told {
            self.down.told = true;
            // A client that is gone needs no end.
            let _ = self.client.shutdown(Shutdown::Write);
            moved = true;
        }
        Ok(moved)
    }

    fn is_over(&self) -> bool {
        self.dead || (self.up.told && self.down.told)
    }

    /// Closes the channel; what the guest says to that is of no interest.
    fn close(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let channel = &mut self.channel;
        match wire.drive(&Clock::total(STUCK), || channel.close()) {
            Err(trouble @ (Trouble::Deadline | Trouble::Cancelled)) => Err(trouble),
            _ => Ok(()),
        }
    }
}
