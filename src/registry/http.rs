//! How registries are spoken to: with or without TLS, through which proxies, and whose certificates are believed.

use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};

use crate::error::{Error, Kind, Result};
use crate::fetch::Settings;

/// What a host's own loopback is called: nothing there is behind a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// How long it takes to learn that a registry speaks no TLS.
const PROBE: Duration = Duration::from_secs(5);

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
