//! The HTTP client: proxies, authorities, redirects.

use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, NoProxy, Proxy, Url};

use super::settings::{Settings, shown};
use super::{Mirror, mirror};
use crate::error::{Error, Kind, Result};

/// What a host's own loopback is called: nothing there is behind a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
/// Whoever takes longer to take a call is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// How many servers may send us on.
const REDIRECTS: usize = 10;

/// The client with what messages need to know of it.
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    proxies: Matcher,
    mirror: Option<Mirror>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let direct = match &settings.no_proxy {
            Some(hosts) => format!("{hosts},{LOOPBACK}"),
            None => LOOPBACK.to_owned(),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
            // Without this, reqwest looks for proxies in the environment by itself.
            .no_proxy()
            .redirect(Policy::custom(follow))
            .connect_timeout(settings.stall.min(CONNECT))
            .tcp_keepalive(settings.stall);
        let mut proxies = Matcher::builder().no(direct.clone());
        let no_proxy = NoProxy::from_string(&direct);
        if let Some(address) = &settings.proxy {
            let proxy = proxy(address, Proxy::https)?.no_proxy(no_proxy.clone());
            builder = builder.proxy(proxy);
            proxies = proxies.https(address.clone());
        }
        if let Some(address) = &settings.http_proxy {
            builder = builder.proxy(proxy(address, Proxy::http)?.no_proxy(no_proxy));
            proxies = proxies.http(address.clone());
        }
        for authority in authorities(settings)? {
            builder = builder.add_root_certificate(authority);
        }
        if let Some(mirror) = &settings.mirror {
            check(mirror)?;
        }
        let http = builder
            .build()
            .map_err(|source| Error::new(Kind::Internal, "cannot set up TLS").because(source))?;
        Ok(Self {
            http,
            proxies: proxies.build(),
            mirror: settings.mirror.clone(),
        })
    }

    /// The proxy that an address is reached by, as it may be shown.
    pub(super) fn proxy_of(&self, url: &Url) -> Option<String> {
        let intercept = self.proxies.intercept(&url.as_str().parse().ok()?)?;
        Some(
            shown(&intercept.uri().to_string())
                .trim_end_matches('/')
                .to_owned(),
        )
    }

    pub(super) fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_ref()
    }
}

/// A proxy that can be used.
fn proxy(address: &str, of: fn(String) -> reqwest::Result<Proxy>) -> Result<Proxy> {
    let wrong = || {
        let message = format!("the proxy `{}` cannot be used", shown(address));
        Error::new(Kind::InternetConfig, message).hint(
            "it is given as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, in HTTPS_PROXY or HTTP_PROXY",
        )
    };
    let scheme = address.split_once("://").map(|(scheme, _)| scheme.to_lowercase());
    if !matches!(scheme.as_deref(), None | Some("http" | "https")) {
        return Err(wrong());
    }
    of(address.to_owned()).map_err(|source| wrong().because(source))
}

/// The user's own authorities.
fn authorities(settings: &Settings) -> Result<Vec<Certificate>> {
    let Some(path) = &settings.ca_file else {
        return Ok(Vec::new());
    };
    let wrong = || {
        let message = format!("{}: no certificates in PEM that can be used", path.display());
        Error::new(Kind::InternetConfig, message).hint(
            "the setting ca-file names a file of certificates that begin with -----BEGIN CERTIFICATE-----",
        )
    };
    let pem =
        std::fs::read(path).map_err(|error| Error::io(path)(error).hint("the setting ca-file names it"))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|source| wrong().because(source))?;
    if certificates.is_empty() {
        return Err(wrong());
    }
    Ok(certificates)
}

/// A mirror that could be one.
fn check(mirror: &Mirror) -> Result<()> {
    match mirror {
        Mirror::Dir(dir) if !dir.is_dir() => Err(Error::new(
            Kind::InternetConfig,
            format!("{}: no directory, so no mirror", dir.display()),
        )
        .hint("a mirror is a directory, or an address that begins with https:// or http://, with HOST/PATH below it")),
        mirror => mirror::place("https://host/", Some(mirror)).map(|_| ()),
    }
}

/// Follows to other hosts, but never from TLS to plain text, other than on this host.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let encrypted = attempt.previous().iter().any(|url| url.scheme() == "https");
    let local = attempt.url().host_str().is_some_and(is_loopback);
    if encrypted && attempt.url().scheme() != "https" && !local {
        let message = format!("it leads to {}, which is not encrypted", attempt.url());
        return attempt.error(message);
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it leads from one address to the next without end");
    }
    attempt.follow()
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_which_proxy_leads_where() {
        let settings = Settings {
            proxy: Some("http://me:secret@proxy:3128".to_owned()),
            http_proxy: Some("plain:80".to_owned()),
            no_proxy: Some("example.com, .example.net,10.0.0.0/8".to_owned()),
            ..Settings::default()
        };
        let client = Client::new(&settings).unwrap();
        let of = |url: &str| client.proxy_of(&Url::parse(url).unwrap());
        assert_eq!(
            of("https://dl.example.org/x").as_deref(),
            Some("http://proxy:3128")
        );
        assert_eq!(of("http://dl.example.org/x").as_deref(), Some("http://plain:80"));
        for direct in [
            "https://example.com",
            "https://a.example.com",
            "https://a.example.net",
            "http://10.1.2.3",
        ] {
            assert_eq!(of(direct), None, "{direct}");
        }
        for here in ["https://localhost:1", "http://127.77.0.1", "https://[::1]:8443"] {
            assert_eq!(of(here), None, "{here}");
        }
    }
}
