//! Downloads that are cut: they go on where they were, and only with the same version of the file.

use std::fs::{self, FileTimes, OpenOptions};
use std::time::{Duration, SystemTime};

use sampan::error::Kind;
use sampan::fetch::{Expect, Fetcher, Settings};
use sampan::progress::Cancel;
use sampan::store::hash;
use sampan_test_support::upstream::Plan;

use crate::support::*;

const AT: u64 = 2 << 20;
const REST: u64 = SIZE as u64 - AT;

/// What the second request of two was, and what came of it.
fn second(ground: &Ground) -> (Option<String>, u16, u64) {
    let served = ground.upstream.served_of(PATH);
    assert_eq!(served.len(), 2, "{served:#?}");
    let range = served[1].request.header("range").map(str::to_owned);
    (range, served[1].status, served[1].sent)
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::cut(AT));
    let recorder = Recorder::default();
    fetch(&ground.fetcher(), &object(), &recorder).unwrap();
    assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 206, REST));
    assert!(
        recorder
            .text()
            .contains("the connection was cut after 2097152 bytes; trying again"),
        "{}",
        recorder.text()
    );
    // One bar, that did not go back.
    let bars = recorder.drawn();
    assert_eq!((bars.len(), bars[0].at), (1, SIZE as u64));
}

#[test]
fn it_goes_on_in_another_process_too() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::cut(AT));
    let settings = Settings {
        retries: 0,
        ..ground.settings()
    };
    let once = Fetcher::new(&ground.store(), settings).unwrap();
    let error = fetch(&once, &object(), &Recorder::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Internet);
    assert!(
        told(&error).contains("it goes on where it stopped"),
        "{}",
        told(&error)
    );
    assert_eq!(ground.part_length(), AT);
    assert_eq!(ground.kept(), [""; 0]);
    ground.fetch(&object()).unwrap();
    assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 206, REST));
    assert_eq!(ground.parts(), [""; 0]);
}

#[test]
fn many_cuts_are_no_reason_to_give_up_while_it_gets_on() {
    let ground = Ground::new();
    let pieces = 12;
    for _ in 0..pieces {
        // Four of them are a MiB, which is getting on.
        ground.upstream.next(PATH, Plan::cut(SIZE as u64 / pieces));
    }
    let settings = Settings {
        retries: 4,
        ..ground.settings()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    fetch(&fetcher, &object(), &Recorder::default()).unwrap();
    assert_eq!(ground.sent(), SIZE as u64);
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::cut(AT));
    let whole = Plan {
        whole: true,
        ..Plan::default()
    };
    ground.upstream.next(PATH, whole);
    let recorder = Recorder::default();
    let fetched = fetch(&ground.fetcher(), &object(), &recorder).unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), content());
    assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 200, SIZE as u64));
    let bars: Vec<_> = recorder.drawn().iter().map(|bar| bar.at).collect();
    assert_eq!(bars, [AT, SIZE as u64]);
}

#[test]
fn a_file_that_changed_in_between_is_fetched_anew() {
    let ground = Ground::new();
    let mut new = content();
    new.reverse();
    ground.upstream.next(PATH, Plan::cut(AT));
    let change = Plan {
        change: Some(new.clone()),
        ..Plan::default()
    };
    ground.upstream.next(PATH, change);
    let fetched = ground
        .fetch(&expecting(Expect::Sha256(hash::bytes(&new))))
        .unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), new);
    assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 200, SIZE as u64));
}

#[test]
fn other_bytes_than_were_asked_for_are_not_used() {
    let ranges = [
        format!("bytes 0-{}/{SIZE}", SIZE - 1),
        format!("bytes {}-{}/{SIZE}", AT + 1, SIZE - 1),
        format!("bytes {AT}-{}/{}", SIZE - 1, SIZE + 1),
        String::new(),
    ];
    for range in ranges {
        let ground = Ground::new();
        ground.upstream.next(PATH, Plan::cut(AT));
        ground
            .upstream
            .next(PATH, Plan::default().header("Content-Range", &range));
        let fetched = ground.fetch(&object()).unwrap();
        assert_eq!(fs::read(fetched.path).unwrap(), content(), "{range}");
        let served = ground.upstream.served_of(PATH);
        assert_eq!(served.len(), 3, "{range}");
        assert_eq!(
            (served[2].status, served[2].request.header("range")),
            (200, None),
            "{range}"
        );
    }
}

#[test]
fn without_an_etag_the_time_of_the_last_change_tells_versions_apart() {
    for old in [true, false] {
        let ground = Ground::new();
        if old {
            let long_ago = SystemTime::now() - Duration::from_secs(86400);
            let file = OpenOptions::new()
                .write(true)
                .open(ground.tree().join(&PATH[1..]))
                .unwrap();
            file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        }
        let weak = |plan: Plan| plan.header("ETag", "W/\"x\"");
        let plan = match old {
            true => weak(Plan::cut(AT)),
            // By the server's own clock it was changed just now, and may be changed again within the same second.
            false => weak(Plan::cut(AT))
                .header("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
                .header("Date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        };
        ground.upstream.next(PATH, plan);
        ground.upstream.next(PATH, weak(Plan::default()));
        ground.fetch(&object()).unwrap();
        match old {
            true => assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 206, REST)),
            false => assert_eq!(second(&ground), (None, 200, SIZE as u64)),
        }
    }
}

#[test]
fn a_part_that_was_damaged_is_fetched_anew_once() {
    let ground = Ground::new();
    let flip = Plan {
        flip: Some(7),
        ..Plan::cut(AT)
    };
    ground.upstream.next(PATH, flip);
    let recorder = Recorder::default();
    let fetched = fetch(&ground.fetcher(), &object(), &recorder).unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), content());
    assert!(
        recorder
            .text()
            .contains("kubelet: what was fetched before does not fit"),
        "{}",
        recorder.text()
    );
    assert_eq!(ground.upstream.served_of(PATH).len(), 3);
}

#[test]
fn a_part_that_is_whole_is_only_verified() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::cut(AT));
    let once = Settings {
        retries: 0,
        ..ground.settings()
    };
    let once = Fetcher::new(&ground.store(), once).unwrap();
    fetch(&once, &object(), &Recorder::default()).unwrap_err();
    // As a process leaves it that is killed just before the end.
    let part = ground
        .parts()
        .into_iter()
        .find(|name| name.ends_with(".part"))
        .unwrap();
    fs::write(ground.store().join("parts").join(part), content()).unwrap();
    ground.fetch(&object()).unwrap();
    assert_eq!(ground.upstream.served_of(PATH).len(), 1);
}

#[test]
fn an_interrupted_download_goes_on_the_next_time() {
    let ground = Ground::new();
    ground.upstream.next(PATH, Plan::stall(AT));
    let fetcher = ground.fetcher();
    let cancel = Cancel::default();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetcher.fetch(&[object()], &Recorder::default(), &cancel));
        eventually("two thirds", || ground.part_length() == AT);
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let error = fetching.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    });
    fetch(&fetcher, &object(), &Recorder::default()).unwrap();
    assert_eq!(second(&ground), (Some(format!("bytes={AT}-")), 206, REST));
}
