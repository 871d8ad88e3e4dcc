//! Proxies: used where they should be, and told where they refuse.

use sampan::error::{Error, Kind};
use sampan::fetch::{Fetcher, Object, Settings};
use sampan_test_support::upstream::{Authority, Proxy, Upstream, Validity};

use crate::support::*;

/// `dl.example.org` itself, as it is behind a proxy, and settings to reach it.
fn behind(ground: &Ground) -> (Upstream, Settings) {
    let authority = Authority::new();
    let upstream = Upstream::serve_tls(
        &ground.tree(),
        authority.identity(&["dl.example.org"], Validity::Good),
    );
    let settings = Settings {
        ca_file: Some(ground.file("ca.pem", authority.pem().as_bytes())),
        ..hurried()
    };
    (upstream, settings)
}

fn through(ground: &Ground, proxy: &str, settings: Settings) -> Result<(), Error> {
    let settings = Settings {
        proxy: Some(proxy.to_owned()),
        ..settings
    };
    let fetcher = Fetcher::new(&ground.store(), settings)?;
    fetch(&fetcher, &object(), &Recorder::default()).map(|_| ())
}

#[test]
fn encrypted_traffic_goes_through_a_tunnel() {
    let ground = Ground::new();
    let (upstream, settings) = behind(&ground);
    let proxy = Proxy::to(upstream.address());
    through(&ground, &proxy.url(), settings).unwrap();
    assert_eq!(proxy.asked(), ["CONNECT dl.example.org:443"]);
    assert_eq!(upstream.served_of(PATH).len(), 1);
}

#[test]
fn a_proxy_may_want_a_password() {
    let ground = Ground::new();
    let (upstream, settings) = behind(&ground);
    let proxy = Proxy::to_those_with("me:secret", upstream.address());
    let error = through(&ground, &proxy.url(), settings.clone()).unwrap_err();
    let text = told(&error);
    assert_eq!(error.kind(), Kind::Refused, "{text}");
    assert!(
        text.contains(&format!(
            "the proxy {} does not connect to dl.example.org: it wants a user and a password",
            proxy.url()
        )) && text.contains("HTTPS_PROXY"),
        "{text}"
    );
    assert_eq!(proxy.asked().len(), 1);
    let with = |login: &str| proxy.url().replace("http://", &format!("http://{login}@"));
    let error = through(&ground, &with("me:wrong"), settings.clone()).unwrap_err();
    assert!(!told(&error).contains("wrong"), "{}", told(&error));
    through(&ground, &with("me:secret"), settings).unwrap();
}

#[test]
fn a_proxy_that_refuses_is_told() {
    for status in [403, 502] {
        let ground = Ground::new();
        let (upstream, settings) = behind(&ground);
        let proxy = Proxy::refusing(status);
        let error = through(&ground, &proxy.url(), settings).unwrap_err();
        let text = told(&error);
        assert_eq!(
            (error.kind(), error.kind().exit_code()),
            (Kind::Refused, 47),
            "{text}"
        );
        let what = format!(
            "{URL}: the proxy {} does not connect to dl.example.org: it refuses",
            proxy.url()
        );
        assert!(text.contains(&what) && text.contains("NO_PROXY"), "{text}");
        assert!(upstream.served().is_empty());
    }
}

#[test]
fn a_proxy_that_is_not_there_is_told() {
    let ground = Ground::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = through(&ground, &format!("http://me:secret@{free}"), hurried()).unwrap_err();
    let text = told(&error);
    assert_eq!(error.kind(), Kind::Unreachable, "{text}");
    assert!(
        text.contains(&format!("the proxy http://{free} cannot be reached")) && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn plain_traffic_has_a_proxy_of_its_own() {
    let ground = Ground::new();
    let proxy = Proxy::to(ground.upstream.address());
    let settings = Settings {
        proxy: Some(Proxy::refusing(403).url()),
        http_proxy: Some(proxy.url()),
        ..hurried()
    };
    let plain = Object {
        url: URL.replace("https://", "http://"),
        ..object()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    fetch(&fetcher, &plain, &Recorder::default()).unwrap();
    assert_eq!(proxy.asked(), ["GET http://dl.example.org/release/v1/kubelet"]);
}

#[test]
fn what_is_on_this_host_needs_none() {
    let ground = Ground::new();
    let refusing = Proxy::refusing(403);
    let settings = Settings {
        proxy: Some(refusing.url()),
        http_proxy: Some(refusing.url()),
        ..ground.settings()
    };
    let fetcher = Fetcher::new(&ground.store(), settings).unwrap();
    fetch(&fetcher, &object(), &Recorder::default()).unwrap();
    assert_eq!(refusing.asked(), [""; 0]);
}

#[test]
fn what_is_no_proxy_is_told_at_once() {
    let ground = Ground::new();
    for proxy in ["socks5://me:secret@proxy:1080", "http://", "://"] {
        let error = through(&ground, proxy, hurried()).unwrap_err();
        let text = told(&error);
        assert_eq!(error.kind(), Kind::InternetConfig, "{text}");
        assert!(text.contains("HTTPS_PROXY") && !text.contains("secret"), "{text}");
    }
}
