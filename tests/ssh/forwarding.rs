//! Ports of the guest's network on the host.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use sampan::error::Result;
use sampan::progress::Cancel;
use sampan::remote;

use crate::server::{SOON, Server, free_port};

/// A forward that runs until it is told to stop.
struct Forward {
    at: SocketAddr,
    cancel: Cancel,
    thread: JoinHandle<Result<()>>,
}

impl Forward {
    fn to(server: &Server, to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (at, cancel) = (listener.local_addr().unwrap(), Cancel::default());
        let (target, asked) = (server.target.clone(), cancel.clone());
        let thread = thread::spawn(move || remote::forward(&target, vec![(listener, to)], &asked));
        Self { at, cancel, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }

    fn end(self) -> Result<()> {
        self.cancel.flag().store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Answers each connection with what it sends, and closes it when the client has said all.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut from = stream.try_clone().unwrap();
                let mut to = &stream;
                let _ = std::io::copy(&mut from, &mut to);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

#[test]
fn several_connections_at_once_carry_all_bytes_both_ways() {
    let server = Server::running();
    let forward = Forward::to(&server, echo());
    let clients: Vec<_> = (0..8_u8)
        .map(|number| {
            let stream = forward.connect();
            thread::spawn(move || {
                let sent: Vec<u8> = (0..3_000_000_u32)
                    .map(|at| number.wrapping_add(at.to_le_bytes()[1]))
                    .collect();
                let mut writer = stream.try_clone().unwrap();
                let words = sent.clone();
                let writing = thread::spawn(move || {
                    writer.write_all(&words).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                (&stream).read_to_end(&mut received).unwrap();
                writing.join().unwrap();
                assert!(
                    received == sent,
                    "connection {number}: {} of {} bytes",
                    received.len(),
                    sent.len()
                );
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    forward.end().unwrap();
}

#[test]
fn an_idle_connection_does_not_hold_others_up_and_one_that_leads_nowhere_is_closed() {
    let server = Server::running();
    let forward = Forward::to(&server, echo());
    let mut idle = forward.connect();
    for word in [b"one", b"two"] {
        let mut stream = forward.connect();
        stream.write_all(word).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, word);
    }
    idle.write_all(b"late").unwrap();
    let mut answer = [0; 4];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"late");
    forward.end().unwrap();

    let nowhere = Forward::to(&server, free_port());
    for _ in 0..2 {
        let mut stream = nowhere.connect();
        let closed = match stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(closed);
    }
    nowhere.end().unwrap();
}

#[test]
fn a_guest_that_goes_away_ends_it_with_an_error() {
    let mut server = Server::running();
    let forward = Forward::to(&server, echo());
    let mut stream = forward.connect();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    server.stop();
    let error = forward.thread.join().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("connection to the guest broke"),
        "{error}"
    );
}
