//! Waiting for sshd, and who is who.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sampan::error::Kind;
use sampan::progress::Cancel;
use sampan::remote::{connect, keys, openssh};
use sampan_driver::{Command, Host, Runner};

use crate::server::{SOON, Server};

#[test]
fn an_sshd_that_starts_later_is_waited_for() {
    let mut server = Server::prepared();
    let target = server.target.clone();
    let begin = Instant::now();
    let waiter = thread::spawn(move || connect(&target, SOON, &Cancel::default()).map(drop));
    thread::sleep(Duration::from_secs(2));
    assert!(!waiter.is_finished());
    server.start();
    waiter.join().unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}

/// As QEMU's user network does it while the guest boots: connections are accepted, then closed or left silent.
#[test]
fn connections_that_come_to_nothing_are_tried_again() {
    let mut server = Server::prepared();
    let listener = TcpListener::bind(server.target.address).unwrap();
    let target = server.target.clone();
    let waiter = thread::spawn(move || connect(&target, SOON, &Cancel::default()).map(drop));
    drop(listener.accept().unwrap());
    let (mut half, _) = listener.accept().unwrap();
    half.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    drop(half);
    let (silent, _) = listener.accept().unwrap();
    let (next, _) = listener.accept().unwrap();
    drop((silent, next, listener));
    server.start();
    waiter.join().unwrap().unwrap();
}

#[test]
fn silence_ends_at_the_deadline_and_says_where() {
    let server = Server::prepared();
    let _listener = TcpListener::bind(server.target.address).unwrap();
    let begin = Instant::now();
    let error = connect(&server.target, Duration::from_millis(1200), &Cancel::default())
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::GuestTimeout);
    assert!(
        error.to_string().contains(&server.target.address.to_string()),
        "{error}"
    );
    assert!(error.hints()[0].contains("sampan logs"));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn waiting_can_be_cancelled() {
    let server = Server::prepared();
    let _listener = TcpListener::bind(server.target.address).unwrap();
    let cancel = Cancel::default();
    let (target, flag) = (server.target.clone(), cancel.flag());
    let waiter = thread::spawn(move || connect(&target, SOON * 4, &cancel).map(drop));
    thread::sleep(Duration::from_millis(300));
    flag.store(true, std::sync::atomic::Ordering::Relaxed);
    let begin = Instant::now();
    assert_eq!(waiter.join().unwrap().unwrap_err().kind(), Kind::Interrupted);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn another_host_key_is_refused_at_once() {
    let server = Server::running();
    drop(server.session());
    let other = server.file("other/host");
    keys::ensure(&other, "").unwrap();
    let mut target = server.target.clone();
    target.host_key = keys::public_path(&other);
    let begin = Instant::now();
    let error = connect(&target, SOON, &Cancel::default()).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::Guest);
    assert!(error.to_string().contains("has another host key than"), "{error}");
    assert!(!error.hints().is_empty() && begin.elapsed() < SOON / 2);
}

#[test]
fn our_key_refused_is_told_at_once() {
    let server = Server::running();
    let mut target = server.target.clone();
    target.key = server.file("other/id");
    keys::ensure(&target.key, "").unwrap();
    let error = connect(&target, SOON, &Cancel::default()).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::Guest);
    assert!(error.to_string().contains("the guest refuses"), "{error}");
    fs::write(&target.key, "damaged").unwrap();
    assert_eq!(
        connect(&target, SOON, &Cancel::default())
            .map(drop)
            .unwrap_err()
            .kind(),
        Kind::Guest
    );
    fs::remove_file(&target.key).unwrap();
    let error = connect(&target, SOON, &Cancel::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("other/id"), "{error}");
}

#[test]
fn ssh_keygen_reads_our_keys() {
    let server = Server::prepared();
    let command = Command::new("ssh-keygen")
        .args(["-y", "-f"])
        .path(&server.target.key);
    let public = Host.run(&command).unwrap().text();
    assert_eq!(
        public,
        fs::read_to_string(keys::public_path(&server.target.key))
            .unwrap()
            .trim()
    );
}

#[test]
fn the_users_own_ssh_gets_in_and_passes_the_status() {
    let server = Server::running();
    drop(server.session());
    let known = server.file("known hosts");
    let ssh = |line| {
        openssh(&server.target, Path::new("ssh"), &known, Some(line), false)
            .unwrap()
            .deadline(SOON)
    };
    assert_eq!(Host.run(&ssh("echo a b | wc -w")).unwrap().text(), "2");
    assert_eq!(Host.run(&ssh("exit 9")).unwrap_err().status(), Some(9));
    // A host key that is not ours is refused by it, too.
    let mut target = server.target.clone();
    let other = server.file("other/host");
    keys::ensure(&other, "").unwrap();
    target.host_key = keys::public_path(&other);
    let refused = openssh(&target, Path::new("ssh"), &known, Some("true"), false)
        .unwrap()
        .deadline(SOON);
    assert_eq!(Host.run(&refused).unwrap_err().status(), Some(255));
}
