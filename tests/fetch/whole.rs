//! Good days: everything comes, is verified, and is not fetched twice.

use std::fs;
use std::time::Duration;

use sampan::error::Kind;
use sampan::fetch::{Expect, Fetcher, Mirror, Object, Settings, Trust};
use sampan::progress::Cancel;
use sampan::store::hash;
use sampan_test_support::upstream::{Gate, Plan, Upstream};
use sha2::{Digest, Sha512};

use crate::support::*;

#[test]
fn a_file_is_kept_under_its_sum_and_not_fetched_again() {
    let ground = Ground::new();
    let recorder = Recorder::default();
    let fetched = fetch(&ground.fetcher(), &object(), &recorder).unwrap();
    assert_eq!(fetched.path, ground.store().join("sha256").join(sha256()));
    assert_eq!(fs::read(&fetched.path).unwrap(), content());
    assert_eq!(
        (fetched.url.as_str(), fetched.sha256.as_str(), fetched.size),
        (URL, sha256().as_str(), SIZE as u64)
    );
    assert_eq!(fetched.trust, Trust::Pinned);
    let bar = Drawn {
        title: "kubelet".to_owned(),
        total: Some(SIZE as u64),
        at: SIZE as u64,
    };
    assert_eq!(recorder.drawn(), [bar]);
    assert_eq!(ground.parts(), [""; 0]);
    assert_eq!(ground.fetch(&object()).unwrap(), fetched);
    assert_eq!(ground.upstream.served().len(), 1);
}

#[test]
fn a_sha512_is_as_good() {
    let ground = Ground::new();
    let sum = hash::hex(&Sha512::digest(content()));
    let object = expecting(Expect::Sha512(sum.to_uppercase()));
    let fetched = ground.fetch(&object).unwrap();
    assert_eq!(fetched.sha256, sha256());
    assert_eq!(ground.fetch(&object).unwrap(), fetched);
    assert_eq!(ground.upstream.served().len(), 1);
    // Whoever cleans up removes the file alone.
    fs::remove_file(&fetched.path).unwrap();
    assert_eq!(ground.fetch(&object).unwrap(), fetched);
    assert_eq!(ground.kept(), [sha256()]);
}

#[test]
fn sums_are_read_where_upstream_publishes_them() {
    let sha512 = hash::hex(&Sha512::digest(content()));
    let forms = [
        sha256(),
        format!("{}  kubelet\n", sha256()),
        format!("{}  other\n{sha512} *kubelet\n", "0".repeat(128)),
        format!("SHA256 (kubelet) = {}\n", sha256()),
    ];
    for form in forms {
        let ground = Ground::new();
        ground.put("/dl.example.org/release/v1/SUMS", form.as_bytes());
        let url = "https://dl.example.org/release/v1/SUMS".to_owned();
        let object = expecting(Expect::Published { url: url.clone() });
        let fetched = ground.fetch(&object).unwrap();
        assert_eq!(fetched.sha256, sha256(), "{form}");
        assert_eq!(fetched.trust, Trust::Published { url });
        // The sums are asked for again, the file is not.
        ground.fetch(&object).unwrap();
        assert_eq!(
            ground.upstream.served_of("/dl.example.org/release/v1/SUMS").len(),
            2
        );
        assert_eq!(ground.upstream.served_of(PATH).len(), 1);
    }
}

#[test]
fn objects_are_fetched_side_by_side_and_given_back_in_order() {
    let ground = Ground::new();
    let gate = Gate::default();
    let objects: Vec<Object> = (0..4)
        .map(|number| {
            let path = format!("/dl.example.org/file{number}");
            let content = format!("content {number}").into_bytes();
            ground.put(&path, &content);
            if number < 3 {
                let plan = Plan {
                    gate: Some(gate.clone()),
                    ..Plan::default()
                };
                ground.upstream.next(&path, plan);
            }
            Object {
                name: format!("file{number}"),
                url: format!("https:/{path}"),
                expect: Expect::Sha256(hash::bytes(&content)),
                most: Some(100),
            }
        })
        .collect();
    let recorder = Recorder::default();
    let fetched = std::thread::scope(|scope| {
        let fetcher = ground.fetcher();
        let (objects, recorder) = (&objects, &recorder);
        let fetching = scope.spawn(move || fetcher.fetch(objects, recorder, &Cancel::default()));
        // The last is done while the first three wait.
        eventually("the last one", || ground.kept().len() == 1);
        assert_eq!(ground.upstream.served().len(), 4);
        gate.open();
        fetching.join().unwrap().unwrap()
    });
    let sizes: Vec<_> = fetched.iter().map(|fetched| fetched.url.clone()).collect();
    let asked: Vec<_> = objects.iter().map(|object| object.url.clone()).collect();
    assert_eq!(sizes, asked);
    let mut titles: Vec<_> = recorder.drawn().into_iter().map(|bar| bar.title).collect();
    titles.sort();
    assert_eq!(titles, ["file0", "file1", "file2", "file3"]);
}

#[test]
fn no_more_than_so_many_at_once() {
    let ground = Ground::new();
    let gate = Gate::default();
    let plan = Plan {
        gate: Some(gate.clone()),
        ..Plan::default()
    };
    ground.put("/dl.example.org/a", b"a");
    ground.put("/dl.example.org/b", b"b");
    ground.upstream.next("/dl.example.org/a", plan);
    let object = |name: &str| Object {
        name: name.to_owned(),
        url: format!("https://dl.example.org/{name}"),
        expect: Expect::Sha256(hash::bytes(name.as_bytes())),
        most: None,
    };
    let settings = Settings {
        parallel: 1,
        ..ground.settings()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(move || {
            fetcher.fetch(
                &[object("a"), object("b")],
                &Recorder::default(),
                &Cancel::default(),
            )
        });
        eventually("the first request", || !ground.upstream.served().is_empty());
        assert_eq!(ground.upstream.served_of("/dl.example.org/b").len(), 0);
        gate.open();
        fetching.join().unwrap().unwrap();
    });
}

#[test]
fn the_same_object_twice_is_fetched_once() {
    let ground = Ground::new();
    let objects = [object(), object()];
    let fetched = ground
        .fetcher()
        .fetch(&objects, &Recorder::default(), &Cancel::default());
    let fetched = fetched.unwrap();
    assert_eq!(fetched[0], fetched[1]);
    assert_eq!(ground.upstream.served().len(), 1);
}

#[test]
fn servers_lead_to_other_hosts() {
    let ground = Ground::new();
    let elsewhere = Upstream::serve(&ground.tree());
    let to = format!("{}{PATH}", elsewhere.url());
    ground.upstream.next(PATH, Plan::redirect(&to));
    elsewhere.next(PATH, Plan::cut(1 << 20));
    ground.upstream.next(PATH, Plan::redirect(&to));
    let fetched = ground.fetch(&object()).unwrap();
    assert_eq!(fetched.url, URL);
    // Also the rest is asked for where it is led to.
    let rest = elsewhere.served_of(PATH).pop().unwrap();
    assert_eq!((rest.status, rest.sent), (206, (SIZE - (1 << 20)) as u64));
}

#[test]
fn a_directory_can_be_the_mirror() {
    let ground = Ground::new();
    let settings = Settings {
        mirror: Some(Mirror::Dir(ground.tree())),
        ..hurried()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    assert_eq!(
        fetch(&fetcher, &object(), &Recorder::default()).unwrap().sha256,
        sha256()
    );
    assert!(ground.upstream.served().is_empty());
    let other = Object {
        url: "https://dl.example.org/other".to_owned(),
        ..object()
    };
    let error = fetch(
        &fetcher,
        &Object {
            expect: Expect::FirstUse,
            ..other
        },
        &Recorder::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
    let tree = ground.tree().display().to_string();
    assert!(
        told(&error).contains(&format!("the mirror {tree} has no {tree}/dl.example.org/other")),
        "{}",
        told(&error)
    );
}

#[test]
fn whether_a_server_answers_is_known_soon() {
    let ground = Ground::new();
    let fetcher = ground.fetcher();
    assert!(fetcher.reachable(URL, SOON));
    // A portal knows no such file either.
    assert!(!fetcher.reachable("https://dl.example.org/", SOON));
    let gate = Gate::default();
    let waits = Plan {
        gate: Some(gate.clone()),
        ..Plan::default()
    };
    ground.upstream.next(PATH, waits);
    assert!(!fetcher.reachable(URL, Duration::from_millis(200)));
    gate.open();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = Settings {
        mirror: Some(Mirror::Url(format!("http://{free}"))),
        ..hurried()
    };
    let nobody = Fetcher::new(&ground.store(), settings).unwrap();
    assert!(!nobody.reachable(URL, SOON));
}
