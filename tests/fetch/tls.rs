//! Servers that are not who they should be, clocks that are off, authorities of the user's own.

use std::fs;

use sampan::error::{Error, Kind};
use sampan::fetch::{Fetcher, Mirror, Settings};
use sampan_test_support::upstream::{Authority, Plan, Upstream, Validity};

use crate::support::*;

/// A mirror over TLS, and settings that trust its authority.
fn secure(ground: &Ground, name: &str, validity: Validity) -> (Upstream, Settings) {
    let authority = Authority::new();
    let upstream = Upstream::serve_tls(&ground.tree(), authority.identity(&[name], validity));
    let settings = Settings {
        mirror: Some(Mirror::Url(upstream.url())),
        ca_file: Some(ground.file("ca.pem", authority.pem().as_bytes())),
        ..hurried()
    };
    (upstream, settings)
}

fn error(ground: &Ground, settings: Settings) -> Error {
    let recorder = Recorder::default();
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    let error = fetch(&fetcher, &object(), &recorder).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    // Trying again does not help.
    assert_eq!(recorder.text(), "");
    error
}

#[test]
fn an_authority_of_the_users_own_is_trusted() {
    let ground = Ground::new();
    let (_upstream, settings) = secure(&ground, "127.0.0.1", Validity::Good);
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    fetch(&fetcher, &object(), &Recorder::default()).unwrap();
}

#[test]
fn nobody_elses_authority_is() {
    let ground = Ground::new();
    let (_upstream, settings) = secure(&ground, "127.0.0.1", Validity::Good);
    let settings = Settings {
        ca_file: None,
        ..settings
    };
    let told = told(&error(&ground, settings));
    assert!(
        told.contains(": the certificate of 127.0.0.1 is not from an authority that this host trusts: ")
            && told.contains("ca-file"),
        "{told}"
    );
}

#[test]
fn a_clock_that_is_off_is_explained() {
    let cases = [
        (
            Validity::NotYet,
            "the certificate of 127.0.0.1 is not yet valid: it is 2",
        ),
        (
            Validity::Expired,
            "the certificate of 127.0.0.1 has expired: it is 2",
        ),
    ];
    for (validity, what) in cases {
        let ground = Ground::new();
        let (_upstream, settings) = secure(&ground, "127.0.0.1", validity);
        let told = told(&error(&ground, settings));
        assert!(
            told.contains(what) && told.contains("by this host's clock") && told.contains("timedatectl"),
            "{told}"
        );
    }
}

#[test]
fn a_server_with_another_name_is_refused() {
    let ground = Ground::new();
    let (_upstream, settings) = secure(&ground, "login.example.org", Validity::Good);
    let told = told(&error(&ground, settings));
    assert!(
        told.contains("the server that answers has no certificate for 127.0.0.1"),
        "{told}"
    );
}

#[test]
fn nobody_is_led_from_tls_to_plain_text() {
    let ground = Ground::new();
    let (upstream, settings) = secure(&ground, "127.0.0.1", Validity::Good);
    upstream.next(PATH, Plan::redirect("http://cdn.example.org/kubelet"));
    let told = told(&error(&ground, settings.clone()));
    assert!(
        told.contains("it leads to http://cdn.example.org/kubelet, which is not encrypted"),
        "{told}"
    );
    // On this host there is nobody to listen.
    upstream.next(PATH, Plan::redirect(&format!("{}{PATH}", ground.upstream.url())));
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    fetch(&fetcher, &object(), &Recorder::default()).unwrap();
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_told_at_once() {
    let ground = Ground::new();
    let told = |path: std::path::PathBuf| {
        let settings = Settings {
            ca_file: Some(path.clone()),
            ..hurried()
        };
        let error = Fetcher::new(&ground.store(), settings).err().unwrap();
        let text = told(&error);
        assert!(
            text.contains(&path.display().to_string()) && text.contains("ca-file"),
            "{text}"
        );
        (error.kind(), text)
    };
    assert_eq!(told(ground.tree().join("none.pem")).0, Kind::HostPath);
    for content in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let (kind, text) = told(ground.file("bad.pem", content.as_bytes()));
        assert_eq!(kind, Kind::InternetConfig, "{text}");
    }
    let unreadable = ground.file("dir", b"");
    fs::remove_file(&unreadable).unwrap();
    fs::create_dir(&unreadable).unwrap();
    told(unreadable);
}
