//! Ports that come and go while the machine runs: the machine's process takes one order per connection to a port of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sampan_driver::{DriverError, Forward, MachineSpec, PortForward, Protocol, Result, refused};
use serde::{Deserialize, Serialize};

use crate::Fake;
use crate::files::{self, Files};
use crate::machine::Server;
use crate::process::Process;

/// How long a machine may take to answer; one that is held does not.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often a socket for datagrams looks whether it is to be closed.
const TICK: Duration = Duration::from_millis(20);

/// What a machine is told.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Add(Forward),
    Remove(Forward),
    List,
}

/// What a machine answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Taken,
    Refused,
    Listed(Vec<Forward>),
}

impl PortForward for Fake {
    fn add(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        if !forward.host.ip().is_loopback() {
            return Err(DriverError::Unsupported {
                what: format!("the fake driver cannot forward from {}", forward.host),
                hint: "forward from a loopback address".to_owned(),
            });
        }
        match order(spec, &Order::Add(*forward))? {
            Answer::Taken => Err(DriverError::PortTaken { port: forward.host }),
            Answer::Refused => Err(DriverError::PortRefused { port: forward.host }),
            Answer::Done | Answer::Listed(_) => Ok(()),
        }
    }

    fn remove(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        order(spec, &Order::Remove(*forward)).map(drop)
    }

    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        match order(spec, &Order::List)? {
            Answer::Listed(all) => Ok(all),
            other => Err(failed(spec, &format!("it answered {other:?}"))),
        }
    }
}

fn failed(spec: &MachineSpec, what: &str) -> DriverError {
    DriverError::Failed {
        name: spec.name.clone(),
        what: what.to_owned(),
    }
}

fn order(spec: &MachineSpec, order: &Order) -> Result<Answer> {
    if Process::find(&spec.dir).is_none() {
        return Err(DriverError::NoMachine(spec.name.clone()));
    }
    let ask = || -> io::Result<Answer> {
        let port = fs::read_to_string(Files::new(&spec.dir).control())?;
        let port: u16 = port.trim().parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        writeln!(stream, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    ask().map_err(|error| match Process::find(&spec.dir) {
        Some(_) => failed(spec, &error.to_string()),
        None => DriverError::NoMachine(spec.name.clone()),
    })
}

/// A forward that listens.
#[derive(Debug)]
struct Listening {
    guest_port: u16,
    closed: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

/// The forwards that were added to the machine of this process.
#[derive(Default)]
pub(crate) struct Board {
    added: Mutex<BTreeMap<(Protocol, SocketAddr), Listening>>,
}

impl Board {
    /// Takes orders from here on.
    pub(crate) fn open(self: Arc<Self>, server: Server, files: &Files) -> io::Result<()> {
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        files::write(
            &files.control(),
            control.local_addr()?.port().to_string().as_bytes(),
        )?;
        let own = files.load().map_err(io::Error::other)?.forwards;
        thread::spawn(move || {
            for stream in control.incoming().flatten() {
                // Whoever gives no order gets no answer.
                let _ = self.obey(stream, &server, &own);
            }
        });
        Ok(())
    }

    fn obey(&self, mut stream: TcpStream, server: &Server, own: &[Forward]) -> io::Result<()> {
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        let answer = match serde_json::from_str(&line)? {
            Order::Add(forward) => self.add(forward, server),
            Order::Remove(forward) => self.remove(forward),
            Order::List => Answer::Listed(own.iter().copied().chain(self.list()).collect()),
        };
        writeln!(stream, "{}", serde_json::to_string(&answer)?)
    }

    fn list(&self) -> Vec<Forward> {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let forward = |(&(protocol, host), listening): (&(Protocol, SocketAddr), &Listening)| Forward {
            host,
            guest_port: listening.guest_port,
            protocol,
        };
        added.iter().map(forward).collect()
    }

    fn add(&self, forward: Forward, server: &Server) -> Answer {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (forward.protocol, forward.host);
        if let Some(there) = added.get(&key) {
            return if there.guest_port == forward.guest_port {
                Answer::Done
            } else {
                Answer::Taken
            };
        }
        let closed = Arc::new(AtomicBool::new(false));
        let thread = match forward.protocol {
            Protocol::Tcp => TcpListener::bind(forward.host)
                .map(|listener| accept(forward, listener, server.clone(), Arc::clone(&closed))),
            Protocol::Udp => UdpSocket::bind(forward.host).map(|socket| echo(socket, Arc::clone(&closed))),
        };
        match thread {
            Ok(thread) => {
                let guest_port = forward.guest_port;
                added.insert(
                    key,
                    Listening {
                        guest_port,
                        closed,
                        thread,
                    },
                );
                Answer::Done
            }
            Err(_) => match refused(forward.protocol, forward.host) {
                Some(DriverError::PortRefused { .. }) => Answer::Refused,
                _ => Answer::Taken,
            },
        }
    }

    fn remove(&self, forward: Forward) -> Answer {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = added.remove(&(forward.protocol, forward.host)) {
            listening.closed.store(true, Ordering::Relaxed);
            if forward.protocol == Protocol::Tcp {
                // Wakes the one that waits for connections.
                let _ = TcpStream::connect(forward.host);
            }
            // Closed when this returns.
            let _ = listening.thread.join();
        }
        Answer::Done
    }
}

fn accept(
    forward: Forward,
    listener: TcpListener,
    server: Server,
    closed: Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if closed.load(Ordering::Relaxed) {
                return;
            }
            server.welcome(forward.guest_port, stream);
        }
    })
}

/// Sends every datagram back.
fn echo(socket: UdpSocket, closed: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        while !closed.load(Ordering::Relaxed) && socket.set_read_timeout(Some(TICK)).is_ok() {
            if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                // Whether it arrives is nobody's business, as ever with datagrams.
                let _ = socket.send_to(&datagram[..length], from);
            }
        }
    })
}
