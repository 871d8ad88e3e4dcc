//! What is not what it should be: deleted, told, and nothing else is touched.

use std::fs;

use sampan::error::Kind;
use sampan::fetch::{Expect, Object, Trust};
use sampan::store::hash;
use sampan_test_support::upstream::Plan;

use crate::support::*;

#[test]
fn a_wrong_checksum_deletes_the_file_and_nothing_else() {
    let ground = Ground::new();
    // Something that was fetched before, and something that was begun.
    ground.put("/dl.example.org/good", b"good");
    let good = Object {
        name: "good".to_owned(),
        url: "https://dl.example.org/good".to_owned(),
        expect: Expect::Sha256(hash::bytes(b"good")),
        most: None,
    };
    ground.fetch(&good).unwrap();
    fs::write(ground.store().join("parts/other.part"), "begun").unwrap();
    let flip = Plan {
        flip: Some(5),
        ..Plan::default()
    };
    ground.upstream.always(PATH, flip);
    let error = ground.fetch(&object()).unwrap_err();
    assert_eq!(
        (error.kind(), error.kind().exit_code(), error.kind().id()),
        (Kind::Checksum, 41, "INET_CHECKSUM")
    );
    let mut wrong = content();
    wrong[5] ^= 1;
    let text = format!(
        "kubelet: {}{PATH} is not the file that was expected: its sha256 is {}, and must be {}\nhint: it was deleted",
        ground.upstream.url(),
        hash::bytes(&wrong),
        sha256()
    );
    assert!(told(&error).starts_with(&text), "{}", told(&error));
    assert_eq!(ground.kept(), [hash::bytes(b"good")]);
    assert_eq!(ground.parts(), ["other.part"]);
    // It is not tried again by itself: a server that lies would be asked without end.
    assert_eq!(ground.upstream.served_of(PATH).len(), 1);
}

#[test]
fn a_wrong_published_sum_names_where_it_stands() {
    let ground = Ground::new();
    ground.put(
        "/dl.example.org/SUMS",
        format!("{}  kubelet\n", "0".repeat(64)).as_bytes(),
    );
    let url = "https://dl.example.org/SUMS".to_owned();
    let error = ground.fetch(&expecting(Expect::Published { url })).unwrap_err();
    assert_eq!(error.kind(), Kind::Checksum);
    let text = format!("and by https://dl.example.org/SUMS must be {}", "0".repeat(64));
    assert!(told(&error).contains(&text), "{}", told(&error));
    assert_eq!((ground.kept(), ground.parts()), (Vec::new(), Vec::new()));
}

#[test]
fn without_a_published_sum_nothing_is_fetched() {
    for sums in [
        format!("{}  kubectl\n{}  kubeadm\n", sha256(), sha256()),
        "<html>not found</html>".to_owned(),
    ] {
        let ground = Ground::new();
        ground.put("/dl.example.org/SUMS", sums.as_bytes());
        let url = "https://dl.example.org/SUMS".to_owned();
        let error = ground.fetch(&expecting(Expect::Published { url })).unwrap_err();
        assert_eq!(error.kind(), Kind::Checksum, "{}", told(&error));
        assert!(
            told(&error).contains("/dl.example.org/SUMS: "),
            "{}",
            told(&error)
        );
        assert!(ground.upstream.served_of(PATH).is_empty());
    }
    let ground = Ground::new();
    let url = "https://dl.example.org/SUMS".to_owned();
    let error = ground.fetch(&expecting(Expect::Published { url })).unwrap_err();
    assert_eq!(error.kind(), Kind::Missing, "{}", told(&error));
}

#[test]
fn a_sum_of_ours_that_is_none_is_our_mistake() {
    let ground = Ground::new();
    let error = ground
        .fetch(&expecting(Expect::Sha256("abc".to_owned())))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert!(ground.upstream.served().is_empty());
}

#[test]
fn the_first_use_is_trusted_and_said_and_holds_ever_after() {
    let ground = Ground::new();
    let object = expecting(Expect::FirstUse);
    let recorder = Recorder::default();
    let fetched = fetch(&ground.fetcher(), &object, &recorder).unwrap();
    assert_eq!(
        (fetched.sha256.clone(), fetched.trust.clone()),
        (sha256(), Trust::FirstUse)
    );
    let said = format!(
        "kubelet: upstream publishes no checksum of it; sha256 {} is trusted from now on",
        sha256()
    );
    assert_eq!(recorder.text(), said);
    let record = fs::read_to_string(ground.store().join("first-use.toml")).unwrap();
    assert!(
        record.contains(&format!("\"{URL}\" = \"{}\"", sha256())),
        "{record}"
    );
    assert_eq!(ground.fetch(&object).unwrap(), fetched);
    assert_eq!(ground.upstream.served().len(), 1);
    // The file is lost, and upstream has another one now.
    fs::remove_file(&fetched.path).unwrap();
    ground.put(PATH, b"another");
    let error = ground.fetch(&object).unwrap_err();
    assert_eq!(error.kind(), Kind::Checksum);
    let told = told(&error);
    assert!(
        told.contains(&format!(
            "its sha256 is {}, and was, when it was fetched first, {}",
            hash::bytes(b"another"),
            sha256()
        )) && told.contains("remove its line from "),
        "{told}"
    );
    assert_eq!((ground.kept(), ground.parts()), (Vec::new(), Vec::new()));
    // As the hint says.
    let lines = record.lines().filter(|line| !line.contains(URL));
    fs::write(
        ground.store().join("first-use.toml"),
        lines.collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    assert_eq!(ground.fetch(&object).unwrap().sha256, hash::bytes(b"another"));
}

#[test]
fn a_record_that_cannot_be_read_is_not_overwritten() {
    let ground = Ground::new();
    ground.fetch(&expecting(Expect::FirstUse)).unwrap();
    let record = ground.store().join("first-use.toml");
    fs::write(&record, "sha256 = 7").unwrap();
    let error = ground.fetch(&expecting(Expect::FirstUse)).unwrap_err();
    assert_eq!(error.kind(), Kind::HostConfig);
    assert_eq!(fs::read_to_string(&record).unwrap(), "sha256 = 7");
}
