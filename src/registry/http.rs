//! How registries are spoken to: with or without TLS, through which proxies, and whose certificates are believed.

use std::net::IpAddr;
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};

use crate::error::{Error, Kind, Result};
use crate::fetch::Settings;

/// What a host's own loopback is called: nothing there is behind a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// How long it takes to learn that a registry speaks no TLS.
const PROBE: Duration = Duration::from_secs(5);

/// Whether a registry may do without TLS, or with any certificate: one on this machine, or one that the user names.
pub(super) fn may_be_insecure(registry: &str, insecure: &[String]) -> bool {
    let host = host_of(registry);
    let address: Option<IpAddr> = host.parse().ok();
    let listed = |entry: &String| match (entry.split_once('/'), address) {
        (Some((network, bits)), Some(IpAddr::V4(address))) => contains(network, bits, address),
        _ => entry == registry || entry == host,
    };
    host == "localhost" || address.is_some_and(|address| address.is_loopback()) || insecure.iter().any(listed)
}

/// A registry without its port.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => registry,
    }
    .trim_matches(['[', ']'])
}

fn contains(network: &str, bits: &str, address: std::net::Ipv4Addr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<std::net::Ipv4Addr>(), bits.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
    network.to_bits() & mask == address.to_bits() & mask
}

/// Whether a registry speaks TLS, with whatever certificate.
pub(super) async fn speaks_tls(settings: &Settings, registry: &str) -> Result<bool> {
    let asked = own(settings, true)?
        .get(format!("https://{registry}/v2/"))
        .timeout(PROBE);
    Ok(asked.send().await.is_ok())
}

/// The library's client.
pub(super) fn library(settings: &Settings, plain: bool, any_certificate: bool) -> Result<Client> {
    let config = ClientConfig {
        protocol: if plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        accept_invalid_certificates: any_certificate,
        accept_invalid_hostnames: any_certificate,
        extra_root_certificates: authorities(settings)?,
        platform_resolver: None,
        connect_timeout: Some(settings.stall),
        read_timeout: Some(settings.stall),
        user_agent: concat!("sampan/", env!("CARGO_PKG_VERSION")),
        https_proxy: settings.proxy.clone(),
        http_proxy: settings.http_proxy.clone(),
        no_proxy: Some(direct(settings)),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(unusable)
}

/// The client for what the library does not do.
pub(super) fn own(settings: &Settings, any_certificate: bool) -> Result<reqwest::Client> {
    let direct = reqwest::NoProxy::from_string(&direct(settings));
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.stall)
        .danger_accept_invalid_certs(any_certificate)
        .danger_accept_invalid_hostnames(any_certificate);
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(
            reqwest::Proxy::https(proxy)
                .map_err(unusable)?
                .no_proxy(direct.clone()),
        );
    }
    if let Some(proxy) = &settings.http_proxy {
        builder = builder.proxy(reqwest::Proxy::http(proxy).map_err(unusable)?.no_proxy(direct));
    }
    for authority in authorities(settings)? {
        let authority = reqwest::Certificate::from_pem(&authority.data).map_err(unusable)?;
        builder = builder.add_root_certificate(authority);
    }
    builder.build().map_err(unusable)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        Kind::InternetConfig,
        "registries cannot be reached with these settings",
    )
    .because(error)
    .hint("check HTTPS_PROXY, HTTP_PROXY and the setting ca-file")
}

/// Hosts that no proxy is used for.
fn direct(settings: &Settings) -> String {
    match &settings.no_proxy {
        Some(hosts) => format!("{hosts},{LOOPBACK}"),
        None => LOOPBACK.to_owned(),
    }
}

/// The user's own authorities, each by itself.
fn authorities(settings: &Settings) -> Result<Vec<Certificate>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let Some(path) = &settings.ca_file else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io(path)(error).hint("the setting ca-file names it"))?;
    let one = |rest: &str| Certificate {
        encoding: CertificateEncoding::Pem,
        data: format!("{BEGIN}{rest}").into_bytes(),
    };
    Ok(text.split(BEGIN).skip(1).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_registries_may_be_insecure() {
        let insecure = ["r.example:5000", "plain.example", "10.0.0.0/8"].map(str::to_owned);
        for (registry, may) in [
            ("localhost:5000", true),
            ("127.0.0.3:1", true),
            ("[::1]:5000", true),
            ("r.example:5000", true),
            ("r.example", false),
            ("plain.example", true),
            ("plain.example:80", true),
            ("10.9.8.7:5000", true),
            ("11.9.8.7:5000", false),
            ("registry.k8s.io", false),
        ] {
            assert_eq!(may_be_insecure(registry, &insecure), may, "{registry}");
        }
        assert!(may_be_insecure("11.0.0.1", &["0.0.0.0/0".to_owned()]));
    }

    #[test]
    fn a_file_may_hold_several_authorities() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let make = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        std::fs::write(&path, format!("# mine\n{}{}", make(), make())).unwrap();
        let settings = Settings {
            ca_file: Some(path),
            ..Settings::default()
        };
        assert_eq!(authorities(&settings).unwrap().len(), 2);
        own(&settings, false).unwrap();
    }
}
