//! Servers that do not give it, for now or ever.

use std::time::{Duration, Instant};

use sampan::error::{Error, Kind};
use sampan::fetch::{Fetcher, Mirror, Object, Settings};
use sampan::progress::Cancel;
use sampan_test_support::upstream::{Gate, Plan};

use crate::support::*;

/// The error, and how many requests it took.
fn refused(ground: &Ground) -> (Error, usize) {
    let error = ground.fetch(&object()).unwrap_err();
    assert_eq!((ground.kept(), ground.parts()), (Vec::new(), Vec::new()));
    (error, ground.upstream.served().len())
}

#[test]
fn what_is_not_there_is_not_asked_for_again() {
    let ground = Ground::new();
    ground.upstream.always(PATH, Plan::status(404));
    let (error, requests) = refused(&ground);
    assert_eq!(
        (error.kind(), error.kind().exit_code(), requests),
        (Kind::Missing, 45, 1)
    );
    let mirror = ground.upstream.url();
    let text = format!("the mirror {mirror} has no {mirror}{PATH}\nhint: add it to the mirror");
    assert!(told(&error).starts_with(&text), "{}", told(&error));
}

#[test]
fn what_is_forbidden_is_not_asked_for_again() {
    for status in [401, 403] {
        let ground = Ground::new();
        ground.upstream.always(PATH, Plan::status(status));
        let (error, requests) = refused(&ground);
        assert_eq!((error.kind(), requests), (Kind::Refused, 1));
        assert!(
            told(&error).contains(&format!("{PATH}: the server refuses ({status}")),
            "{}",
            told(&error)
        );
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let ground = Ground::new();
        ground.upstream.next(PATH, Plan::status(status));
        ground.upstream.next(PATH, Plan::status(status));
        ground.fetch(&object()).unwrap();
        assert_eq!(ground.upstream.served().len(), 3, "{status}");
    }
}

#[test]
fn a_server_that_stays_busy_is_told_in_the_end() {
    let ground = Ground::new();
    ground.upstream.always(PATH, Plan::status(503));
    let (error, requests) = refused(&ground);
    assert_eq!((error.kind(), requests), (Kind::Unreachable, 6));
    assert!(
        told(&error).contains("the server is busy (503"),
        "{}",
        told(&error)
    );
}

#[test]
fn a_server_that_says_when_is_obeyed() {
    let ground = Ground::new();
    ground
        .upstream
        .next(PATH, Plan::status(429).header("Retry-After", "1"));
    let began = Instant::now();
    ground.fetch(&object()).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_server_that_asks_for_too_much_is_given_up_at_once() {
    let ground = Ground::new();
    ground
        .upstream
        .next(PATH, Plan::status(503).header("Retry-After", "3600"));
    let (error, requests) = refused(&ground);
    assert_eq!((error.kind(), requests), (Kind::Unreachable, 1));
    assert!(
        told(&error).contains("asks to be left alone for 3600 s"),
        "{}",
        told(&error)
    );
}

#[test]
fn a_circle_of_redirects_ends() {
    let ground = Ground::new();
    ground.upstream.always(PATH, Plan::redirect(PATH));
    let (error, requests) = refused(&ground);
    assert_eq!((error.kind(), requests), (Kind::Refused, 11));
    assert!(told(&error).contains("without end"), "{}", told(&error));
}

#[test]
fn nobody_there_is_told_soon() {
    let ground = Ground::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = Settings {
        mirror: Some(Mirror::Url(format!("http://{free}"))),
        ..hurried()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    let recorder = Recorder::default();
    let error = fetch(&fetcher, &object(), &recorder).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Unreachable, 43));
    assert!(
        told(&error).contains("127.0.0.1 cannot be reached: "),
        "{}",
        told(&error)
    );
    assert!(
        told(&error).to_lowercase().contains("connection refused"),
        "{}",
        told(&error)
    );
    assert!(recorder.text().contains("(2 of 2)"), "{}", recorder.text());
}

#[test]
fn one_failure_ends_all_and_the_others_go_on_the_next_time() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::stall(1 << 20));
    let gate = Gate::default();
    let plan = Plan {
        gate: Some(gate.clone()),
        ..Plan::status(404)
    };
    ground.upstream.next("/dl.example.org/late", plan);
    let late = Object {
        url: "https://dl.example.org/late".to_owned(),
        ..object()
    };
    let (fetcher, cancel) = (ground.fetcher(), Cancel::default());
    let error = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetcher.fetch(&[object(), late], &Recorder::default(), &cancel));
        eventually("the first MiB", || ground.part_length() == 1 << 20);
        gate.open();
        fetching.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), Kind::Missing);
    ground.fetch(&object()).unwrap();
    let rest = ground.upstream.served_of(PATH).pop().unwrap();
    assert_eq!((rest.status, rest.sent), (206, SIZE as u64 - (1 << 20)));
}
