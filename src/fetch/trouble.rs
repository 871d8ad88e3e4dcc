//! What can go wrong on the way: in words that say what to do, and whether trying again may help.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::Client;
use super::mirror::Mirror;
use crate::error::{Error, Kind};

/// A failure, and whether trying again may help.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Error,
    pub(super) again: Again,
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// Without a pause: from the beginning.
    Anew,
    /// Nobody is there: once or twice more, as most such hosts have no network at all.
    Unreached,
    /// After a pause that grows.
    Soon,
    /// When the server wants it.
    After(Duration),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self {
            error,
            again: Again::Never,
        }
    }
}

impl Trouble {
    pub(super) fn soon(error: Error) -> Self {
        Self {
            error,
            again: Again::Soon,
        }
    }

    /// No word from a server for so long.
    pub(super) fn stalled(url: &Url, stall: Duration) -> Self {
        let message = format!("{url}: the server sent nothing for {} s", stall.as_secs_f32());
        Self::soon(
            Error::new(Kind::InternetTimeout, message)
                .hint("check the network, then run the same command again: it goes on where it stopped"),
        )
    }

    /// A connection that ended too early.
    pub(super) fn cut(url: &Url, at: u64, cause: Option<reqwest::Error>) -> Self {
        let message = format!("{url}: the connection was cut after {at} bytes");
        let error = Error::new(Kind::Internet, message)
            .hint("run the same command again: it goes on where it stopped");
        Self::soon(match cause {
            Some(cause) => error.because(cause.without_url()),
            None => error,
        })
    }
}

/// A request that got no answer.
pub(super) fn unanswered(client: &Client, url: &Url, error: reqwest::Error) -> Trouble {
    if error.is_redirect() {
        let what = last(&error);
        let error = Error::new(Kind::Refused, format!("{url}: {what}"))
            .hint("a server or a proxy on the way leads elsewhere; fetch it from a mirror, or ask who runs the network");
        return error.into();
    }
    // A redirect may have led to another host.
    let reached = error.url().cloned().unwrap_or_else(|| url.clone());
    let host = reached.host_str().unwrap_or_default().to_owned();
    let words = chain(&error);
    let proxy = client.proxy_of(&reached);
    // hyper's words: a proxy that is not there fails to make the connection below the tunnel.
    let tunnel = words.contains("tunnel") && !words.contains("underlying connection");
    if let (Some(proxy), true) = (&proxy, tunnel) {
        let (why, again) = if words.contains("authorization required") {
            ("it wants a user and a password", Again::Never)
        } else {
            ("it refuses", Again::Unreached)
        };
        let message = format!("{url}: the proxy {proxy} does not connect to {host}: {why}");
        let error = Error::new(Kind::Refused, message)
            .hint("check HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT), or list the host in NO_PROXY");
        return Trouble { error, again };
    }
    if let Some(error) = certificate(url, &host, &words) {
        return error.because(words).into();
    }
    if error.is_connect() {
        let message = match &proxy {
            Some(proxy) => format!("{url}: the proxy {proxy} cannot be reached"),
            None => format!("{url}: {host} cannot be reached"),
        };
        let hint = match &proxy {
            Some(_) => "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
            None => {
                "check the network; behind a proxy set HTTPS_PROXY, without a network use a bundle file or a mirror"
            }
        };
        let error = Error::new(Kind::Unreachable, message).hint(hint).because(words);
        return Trouble {
            error,
            again: Again::Unreached,
        };
    }
    let error = Error::new(Kind::Internet, format!("{url}: no answer"))
        .hint("run the same command again")
        .because(words);
    Trouble::soon(error)
}

/// A TLS certificate that cannot be trusted, by OpenSSL's words for it.
fn certificate(url: &Url, host: &str, words: &str) -> Option<Error> {
    let lower = words.to_lowercase();
    if !lower.contains("certificate") {
        return None;
    }
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| now.format(&Rfc3339).ok())
        .unwrap_or_default();
    let (what, hint) = if lower.contains("not yet valid") {
        (
            format!("the certificate of {host} is not yet valid: it is {now} by this host's clock"),
            "set this host's clock (`timedatectl set-ntp true`), then run the same command again",
        )
    } else if lower.contains("expired") {
        (
            format!("the certificate of {host} has expired: it is {now} by this host's clock"),
            "if that time is wrong, set this host's clock (`timedatectl set-ntp true`); if it is right, the server is to blame",
        )
    } else if lower.contains("hostname mismatch") || lower.contains("ip address mismatch") {
        (
            format!("the server that answers has no certificate for {host}"),
            "a login page or a proxy on the way may answer in its place; open the address in a browser",
        )
    } else {
        (
            format!("the certificate of {host} is not from an authority that this host trusts"),
            "if a proxy of yours looks into TLS, give its authority's certificate as the setting ca-file (PEM)",
        )
    };
    Some(Error::new(Kind::Refused, format!("{url}: {what}")).hint(hint))
}

/// A status that brings no file.
pub(super) fn status(
    client: &Client,
    url: &Url,
    status: StatusCode,
    wait: Option<Duration>,
    patience: Duration,
) -> Trouble {
    let said = |what: &str| format!("{url}: {what} ({status})");
    let mirror = client.mirror();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => missing(url.as_str(), mirror).into(),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Error::new(Kind::Refused, said("the proxy wants a user and a password"))
                .hint("give them in HTTP_PROXY: http://USER:PASSWORD@HOST:PORT")
                .into()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Error::new(Kind::Refused, said("the server refuses"))
                .hint(
                    "the server, or a proxy on the way, does not let you have it; a mirror may (`--source`)",
                )
                .into()
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let error = Error::new(Kind::Unreachable, said("the server is busy"));
            match wait {
                Some(wait) if wait > patience => error
                    .hint(format!(
                        "it asks to be left alone for {} s; run the same command again then, or use a mirror",
                        wait.as_secs()
                    ))
                    .into(),
                Some(wait) => Trouble {
                    error: error.hint("try again later, or use a mirror"),
                    again: Again::After(wait),
                },
                None => Trouble::soon(error.hint("try again later, or use a mirror")),
            }
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
            Trouble::soon(Error::new(Kind::Internet, said("the server gave up")).hint("try again later"))
        }
        status if status.is_server_error() => Trouble::soon(
            Error::new(Kind::Internet, said("the server failed")).hint("try again later, or use a mirror"),
        ),
        _ => Error::new(Kind::Internet, said("an answer that is not the file"))
            .hint("check the address, and whether a proxy on the way answers in the server's place")
            .into(),
    }
}

/// Something that is not there.
pub(super) fn missing(place: &str, mirror: Option<&Mirror>) -> Error {
    match mirror {
        Some(mirror) => Error::new(Kind::Missing, format!("the mirror {mirror} has no {place}"))
            .hint("add it to the mirror, at HOST/PATH of its address, or do without the mirror"),
        None => Error::new(Kind::Missing, format!("{place}: the server has no such file"))
            .hint("check the version that was asked for"),
    }
}

/// All causes in one line; reqwest's own texts do not have them.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
        next = cause.source();
    }
    words.join(": ")
}

/// The innermost cause.
fn last(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        words = cause.to_string();
        next = cause.source();
    }
    words
}
