//! Several processes, and processes that are killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use sampan::fetch::{Fetcher, Mirror, Settings};
use sampan_test_support::upstream::{Gate, Plan};

use crate::support::*;

/// What a process is given to fetch: the store and the mirror.
const STORE: &str = "SAMPAN_TEST_STORE";
const MIRROR: &str = "SAMPAN_TEST_MIRROR";

/// Not a test, but the process of others.
#[test]
fn process() {
    let (Some(store), Ok(mirror)) = (std::env::var_os(STORE), std::env::var(MIRROR)) else {
        return;
    };
    let settings = Settings {
        mirror: Some(Mirror::Url(mirror)),
        ..hurried()
    };
    let fetcher = Fetcher::new(store.as_ref(), settings).unwrap();
    let recorder = Recorder::aloud();
    println!(
        "FETCHED {}",
        fetch(&fetcher, &object(), &recorder).unwrap().sha256
    );
}

fn begin(ground: &Ground) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "twice::process", "--nocapture"])
        .env(STORE, ground.store())
        .env(MIRROR, ground.upstream.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn two_at_once_fetch_it_once() {
    let ground = Ground::new();
    let gate = Gate::default();
    let waits = Plan {
        gate: Some(gate.clone()),
        ..Plan::default()
    };
    ground.upstream.next(PATH, waits);
    let mut first = begin(&ground);
    eventually("the first request", || !ground.upstream.served().is_empty());
    let mut second = begin(&ground);
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
    let waiting = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("waiting for kubelet"));
    let who = format!("another sampan fetches it (process {}: ", first.id());
    assert!(
        waiting.as_ref().is_some_and(|line| line.contains(&who)),
        "{waiting:?}"
    );
    gate.open();
    let fetched = format!("FETCHED {}", sha256());
    assert!(lines.any(|line| line.unwrap().contains(&fetched)));
    let mut text = String::new();
    first.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains(&fetched), "{text}");
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(ground.upstream.served().len(), 1);
}

#[test]
fn what_a_killed_process_began_is_gone_on_with() {
    let ground = Ground::new();
    let at = 2 << 20;
    ground.upstream.next(PATH, Plan::stall(at));
    let mut killed = begin(&ground);
    eventually("two thirds", || ground.part_length() == at);
    killed.kill().unwrap();
    killed.wait().unwrap();
    ground.fetch(&object()).unwrap();
    let rest = ground.upstream.served_of(PATH).pop().unwrap();
    assert_eq!((rest.status, rest.sent), (206, SIZE as u64 - at));
}
