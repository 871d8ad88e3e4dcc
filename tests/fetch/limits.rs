//! Servers that never end, and servers that say nothing.

use std::time::{Duration, Instant};

use sampan::error::Kind;
use sampan::fetch::{Expect, Fetcher, Object, Settings};
use sampan_test_support::upstream::Plan;

use crate::support::*;

fn endless() -> Plan {
    Plan {
        endless: true,
        ..Plan::default()
    }
}

/// Nothing is left of it, and it is told by whom.
fn assert_too_large(ground: &Ground, object: &Object, most: usize) {
    let error = ground.fetch(object).unwrap_err();
    assert_eq!(error.kind(), Kind::Internet);
    let what = format!("{PATH}: the server sends more than the {most} bytes that it may have");
    assert!(told(&error).contains(&what), "{}", told(&error));
    assert_eq!((ground.kept(), ground.parts()), (Vec::new(), Vec::new()));
}

#[test]
fn a_server_that_never_ends_is_left() {
    let ground = Ground::new();
    ground.upstream.always(PATH, endless());
    let object = Object {
        most: Some(SIZE as u64),
        ..object()
    };
    assert_too_large(&ground, &object, SIZE);
    assert_eq!(ground.upstream.served().len(), 1);
}

#[test]
fn a_server_that_never_ends_in_the_middle_of_a_file_is_left() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::cut(1 << 20));
    // It says how much comes, and does not keep to it.
    ground.upstream.next(PATH, endless());
    assert_too_large(&ground, &object(), SIZE);
}

#[test]
fn what_says_it_is_too_large_is_not_fetched() {
    let ground = Ground::new();
    let object = Object {
        most: Some(SIZE as u64 - 1),
        ..object()
    };
    assert_too_large(&ground, &object, SIZE - 1);
    let gigabytes = Plan::cut(10).header("Content-Length", &(9_u64 << 30).to_string());
    ground.upstream.next(PATH, gigabytes);
    assert_too_large(&ground, &expecting(Expect::FirstUse), 8 << 30);
}

#[test]
fn a_file_of_sums_that_never_ends_is_left() {
    let ground = Ground::new();
    ground.put("/dl.example.org/SUMS", b"");
    ground.upstream.always("/dl.example.org/SUMS", endless());
    let url = "https://dl.example.org/SUMS".to_owned();
    let error = ground.fetch(&expecting(Expect::Published { url })).unwrap_err();
    assert!(
        told(&error).contains("/dl.example.org/SUMS: the server sends more than the 4194304 bytes"),
        "{}",
        told(&error)
    );
}

fn impatient(ground: &Ground, retries: u32) -> Fetcher {
    let settings = Settings {
        stall: Duration::from_secs(2),
        retries,
        ..ground.settings()
    };
    Fetcher::new(&ground.store(), settings).unwrap()
}

#[test]
fn a_connection_that_brings_nothing_is_given_up_and_made_anew() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::stall(1 << 20));
    let recorder = Recorder::default();
    fetch(&impatient(&ground, 20), &object(), &recorder).unwrap();
    assert!(
        recorder
            .text()
            .contains("the server sent nothing for 2 s; trying again"),
        "{}",
        recorder.text()
    );
    let rest = ground.upstream.served_of(PATH).pop().unwrap();
    assert_eq!(rest.status, 206);
}

#[test]
fn a_server_that_always_stalls_is_told_in_the_end() {
    let ground = Ground::new();
    ground.upstream.always(PATH, Plan::stall(0));
    let began = Instant::now();
    let error = fetch(&impatient(&ground, 1), &object(), &Recorder::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.kind().exit_code()),
        (Kind::InternetTimeout, 42)
    );
    assert!(
        told(&error).contains("the server sent nothing for 2 s\nhint: check the network"),
        "{}",
        told(&error)
    );
    assert!(began.elapsed() < SOON);
    assert_eq!(ground.upstream.served().len(), 2);
}

#[test]
fn a_trickle_is_as_good_as_nothing() {
    let ground = Ground::new();
    let trickle = Plan {
        trickle: Some(Duration::from_millis(20)),
        ..Plan::default()
    };
    ground.upstream.always(PATH, trickle);
    let error = fetch(&impatient(&ground, 0), &object(), &Recorder::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InternetTimeout);
    // What came is kept nevertheless.
    assert!(ground.part_length() > 0);
}
