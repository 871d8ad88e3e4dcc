//! Waits for a guest's sshd and proves to each other who is who.
//!
//! QEMU's user network accepts connections before the guest listens, and holds them while the guest's network is down. So silence,
//! refusal and reset all mean "not yet": attempts are short and many until the deadline. Another host key than ours, or our key
//! refused, is final.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use ssh2::{ErrorCode, MethodType};

use super::wire::{Clock, Trouble, Wire, nap};
use super::{Session, Target, keys};
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(150);
/// Wait for the guest's greeting. Short: a connection made before the guest's network is up hangs in the user network's back-off for up to
/// 12 seconds, while a new one would be answered at once.
const GREETING: Duration = Duration::from_secs(1);
/// From then on each wait is half as long again: a guest that did not greet by now may just be slow to.
const IMPATIENT: Duration = Duration::from_secs(20);
/// Longest wait for the greeting.
const GREETING_MOST: Duration = Duration::from_secs(10);
/// For key exchange and login once the guest has greeted; an emulated CPU that is busy booting takes seconds for it.
const LOGIN: Duration = Duration::from_secs(30);

/// Algorithms in order of liking, of those that both libssh2 and every sshd since 2014 have. AES-GCM needs no MAC of its own.
const METHODS: [(MethodType, &str); 6] = [
    (
        MethodType::Kex,
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256",
    ),
    (MethodType::HostKey, "ssh-ed25519"),
    (MethodType::CryptCs, "aes128-gcm@openssh.com,aes128-ctr"),
    (MethodType::CryptSc, "aes128-gcm@openssh.com,aes128-ctr"),
    (MethodType::MacCs, "hmac-sha2-256-etm@openssh.com,hmac-sha2-256"),
    (MethodType::MacSc, "hmac-sha2-256-etm@openssh.com,hmac-sha2-256"),
];

/// Waits until the guest's sshd answers, and logs in.
///
/// # Errors
/// [`Kind::GuestTimeout`] when there is no answer within `deadline`; [`Kind::Guest`] when another machine answers or our key is refused;
/// [`Kind::Interrupted`] when the user asks to stop; when a key file cannot be read.
pub fn connect(target: &Target, deadline: Duration, cancel: &Cancel) -> Result<Session> {
    let wire = again(target, deadline, cancel)?;
    Ok(Session::new(target.clone(), cancel.clone(), wire))
}

/// As [`connect`], without the session around it.
pub(super) fn again(target: &Target, deadline: Duration, cancel: &Cancel) -> Result<Wire> {
    let identity = Identity::read(target)?;
    let clock = Clock::total(deadline);
    let begin = Instant::now();
    let mut greeting = GREETING;
    loop {
        let why = match attempt(target, &identity, &clock, greeting, cancel) {
            Ok(wire) => {
                tracing::debug!(place = target.place, waited = ?begin.elapsed(), "connected");
                return Ok(wire);
            }
            Err(Refusal::Final(error)) => return Err(error),
            Err(Refusal::NotYet(why)) => why,
        };
        cancel.check()?;
        if clock.left().is_zero() {
            return Err(unanswered(target, deadline, &why));
        }
        tracing::trace!(place = target.place, why, "sshd does not answer yet");
        if begin.elapsed() > IMPATIENT {
            greeting = (greeting * 3 / 2).min(GREETING_MOST);
        }
        std::thread::sleep(PAUSE.min(clock.left()));
    }
}

fn unanswered(target: &Target, deadline: Duration, why: &str) -> Error {
    let Target { place, address, .. } = target;
    let seconds = deadline.as_secs();
    Error::new(
        Kind::GuestTimeout,
        format!("{place}: sshd did not answer at {address} within {seconds}s: {why}"),
    )
    .hint("run `sampan logs` to see how far the machine came, then `sampan start` again")
}

/// What both sides prove themselves with.
struct Identity {
    key: String,
    host_key: Vec<u8>,
}

impl Identity {
    fn read(target: &Target) -> Result<Self> {
        let key = fs::read_to_string(&target.key).map_err(Error::io(&target.key))?;
        Ok(Self {
            key,
            host_key: keys::blob(&target.host_key)?,
        })
    }
}

/// Why an attempt came to nothing.
enum Refusal {
    NotYet(String),
    Final(Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The host itself cannot reach such an address; waiting does not help.
            ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied | ErrorKind::InvalidInput => {
                Self::Final(
                    Error::new(Kind::Network, format!("cannot connect to the machine: {error}"))
                        .hint("run `sampan stop` and `sampan start` to give the machine a new address")
                        .because(error),
                )
            }
            _ => Self::NotYet(error.to_string()),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Deadline => Self::NotYet("it is silent".to_owned()),
            Trouble::Cancelled => Self::NotYet("interrupted".to_owned()),
            Trouble::Ssh(error) => Self::NotYet(error.message().to_owned()),
            Trouble::Io(error) => Self::from(error),
        }
    }
}

fn attempt(
    target: &Target,
    identity: &Identity,
    clock: &Clock,
    greeting: Duration,
    cancel: &Cancel,
) -> Result<Wire, Refusal> {
    let stream = TcpStream::connect_timeout(&target.address, within(greeting, clock))?;
    stream.set_nodelay(true)?;
    await_greeting(&stream, &Clock::total(within(greeting, clock)), cancel)?;

    let mut wire = Wire::new(stream, cancel.clone())?;
    let clock = Clock::total(within(LOGIN, clock));
    wire.session.set_compress(false);
    for (method, list) in METHODS {
        wire.session.method_pref(method, list).map_err(Trouble::Ssh)?;
    }
    // `handshake` wants the session for itself; clones share it.
    let mut session = wire.session.clone();
    wire.drive(&clock, || session.handshake())?;
    prove_guest(target, identity, &wire)?;
    prove_ourselves(target, identity, &wire, &clock)?;
    wire.session = session;
    Ok(wire)
}

/// At least a millisecond: no time at all means no limit to the socket.
fn within(limit: Duration, clock: &Clock) -> Duration {
    limit.min(clock.left()).max(Duration::from_millis(1))
}

fn await_greeting(stream: &TcpStream, clock: &Clock, cancel: &Cancel) -> Result<(), Refusal> {
    while !nap(stream, PollFlags::IN, clock, cancel)? {}
    match stream.peek(&mut [0])? {
        0 => Err(Refusal::NotYet("it closes the connection".to_owned())),
        _ => Ok(()),
    }
}

fn prove_guest(target: &Target, identity: &Identity, wire: &Wire) -> Result<(), Refusal> {
    if wire
        .session
        .host_key()
        .is_some_and(|(key, _)| key == identity.host_key)
    {
        return Ok(());
    }
    let Target {
        place,
        address,
        host_key,
        ..
    } = target;
    Err(Refusal::Final(
        Error::new(
            Kind::Guest,
            format!(
                "{place}: what answers at {address} has another host key than {}",
                host_key.display()
            ),
        )
        .hint("another machine listens there; see which with `ss -ltnp`, end it, then run `sampan start`"),
    ))
}

fn prove_ourselves(target: &Target, identity: &Identity, wire: &Wire, clock: &Clock) -> Result<(), Refusal> {
    let Target { user, place, key, .. } = target;
    let login = || {
        wire.session
            .userauth_pubkey_memory(user, None, &identity.key, None)
    };
    match wire.drive(clock, login) {
        Err(Trouble::Ssh(error)) if refused(&error) => Err(Refusal::Final(
            Error::new(
                Kind::Guest,
                format!("{place}: the guest refuses {} for {user}: {}", key.display(), error.message()),
            )
            .hint("the key belongs to another machine, or the guest lost it; `sampan delete` and `sampan start` make a new cluster"),
        )),
        result => Ok(result?),
    }
}

/// Whether the guest (or libssh2, reading the key) said no, and not the connection.
fn refused(error: &ssh2::Error) -> bool {
    const FILE: i32 = -16;
    const AUTHENTICATION_FAILED: i32 = -18;
    const PUBLICKEY_UNVERIFIED: i32 = -19;
    matches!(
        error.code(),
        ErrorCode::Session(FILE | AUTHENTICATION_FAILED | PUBLICKEY_UNVERIFIED)
    )
}
