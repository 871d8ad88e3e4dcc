//! Registries and mirrors as users name them: which do without TLS, which stand for Docker Hub, where images and programs are fetched from
//! instead of their own places. As strict as Docker, whose daemon does not start with a name that it refuses.

use std::net::IpAddr;

use reqwest::Url;

use super::keys::list;
use super::merge::{Setting, Settings};
use super::spec::ClusterSpec;
use crate::error::{Error, Kind, Result};

/// What Docker Hub is called: nobody reaches it without TLS.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Reads `--insecure-registry`: each a registry, or a network of them.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub(super) fn insecure(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for word in list(text) {
        if let Some((_, rest)) = word.split_once("://") {
            return Err(format!(
                "is an address, not a registry; write it without the scheme: --insecure-registry {}",
                rest.trim_end_matches('/')
            ));
        }
        if is_network(&word) {
            add(&mut all, word);
            continue;
        }
        if word.contains('/') {
            return Err(format!(
                "has `{word}`, which is neither a registry nor a network; write HOST, HOST:PORT, or a network as 10.0.0.0/8"
            ));
        }
        host_port(&word).map_err(|what| format!("has `{word}`, which {what}"))?;
        if HUB.contains(&host_of(&word)) {
            return Err(format!(
                "has `{word}`, which is Docker Hub; name the registry that stands for it with --registry-mirror"
            ));
        }
        add(&mut all, word);
    }
    Ok(all)
}

/// Reads `--registry-mirror`: addresses without a slash at their end.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub(super) fn mirrors(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for word in list(text) {
        let url = url(&word)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a login in it, which Docker refuses; a mirror is asked without one".to_owned());
        }
        add(&mut all, url.as_str().trim_end_matches('/').to_owned());
    }
    Ok(all)
}

/// Reads `--image-repository`, with or without a scheme before and a slash behind; empty for none.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub(super) fn repository(text: &str) -> Result<String, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Err(
            "names no repository, and sampan does not look for one; name one, as registry.example/k8s"
                .to_owned(),
        );
    }
    let name = text.split_once("://").map_or(text, |(_, rest)| rest);
    let name = name.trim_end_matches('/');
    if name.is_empty() {
        return Ok(String::new());
    }
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let is_part = |part: &str| {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(fine)
    };
    if path.contains([':', '@']) {
        return Err("names an image and not a repository; leave out what stands behind the colon".to_owned());
    }
    host_port(host).map_err(|what| format!("names a registry that {what}"))?;
    if path.is_empty() || path.split('/').all(is_part) {
        return Ok(name.to_owned());
    }
    Err("is no repository; write it as registry.example/k8s".to_owned())
}

/// Reads an address that programs are fetched below; empty for none.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub(super) fn place(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    url(text).map(drop)
}

fn url(text: &str) -> Result<Url, String> {
    let wrong = || format!("has `{text}`, which is no address; write it as https://mirror.example");
    if !text.contains("://") {
        return Err(wrong());
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "has `{text}`, with something behind ? or #; leave that out"
        ));
    }
    Ok(url)
}

fn add(all: &mut Vec<String>, word: String) {
    if !all.contains(&word) {
        all.push(word);
    }
}

/// "HOST" or "HOST:PORT", by the rules of image names.
fn host_port(text: &str) -> Result<(), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err("has no port behind its colon; write it as registry.example:5000".to_owned());
    }
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fine = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    if fine {
        return Ok(());
    }
    Err("is no name of a host; write it as registry.example:5000".to_owned())
}

/// Whether this is a network, as 10.0.0.0/8.
pub(crate) fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    match (address.parse::<IpAddr>(), bits.parse::<u32>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

/// Whether a registry may do without TLS, or with any certificate: one at a loopback address, or one that the user names.
pub(crate) fn may_be_insecure(registry: &str, insecure: &[String]) -> bool {
    let host = host_of(registry);
    let address: Option<IpAddr> = host.parse().ok();
    let listed = |entry: &String| match (entry.split_once('/'), address) {
        (Some((network, bits)), Some(address)) => contains(network, bits, address),
        _ => entry == registry || entry == host,
    };
    is_loopback(host) || insecure.iter().any(listed)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A registry without its port.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => registry,
    }
    .trim_matches(['[', ']'])
}

fn contains(network: &str, bits: &str, address: IpAddr) -> bool {
    let Ok(bits) = bits.parse::<u32>() else {
        return false;
    };
    match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// Where images are fetched from instead of their own places; empty when nobody said.
pub fn image_repository(settings: &Settings) -> String {
    repository(settings.text("image-repository", "")).unwrap_or_default()
}

/// Takes over what was said about the registries of a cluster: of a new one by anybody, of one that exists by this very call. Gives what
/// the user should know.
///
/// # Errors
/// [`Kind::Usage`].
pub(super) fn apply(spec: &mut ClusterSpec, settings: &Settings, is_new: bool) -> Result<Vec<String>> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let said = |name: &str| {
        settings
            .get(name)
            .filter(|setting: &&Setting| is_new || setting.is_deliberate())
    };
    let mut told = Vec::new();
    if let Some(setting) = said("insecure-registry") {
        spec.insecure_registries = insecure(&setting.text).map_err(usage)?;
        let networks: Vec<&str> = spec
            .insecure_registries
            .iter()
            .map(String::as_str)
            .filter(|entry| is_network(entry))
            .collect();
        if !networks.is_empty() {
            told.push(format!(
                "registries in {} are taken without TLS by Docker only: containerd, which pulls for pods, knows registries by name; \
                 name them as well: --insecure-registry HOST:PORT",
                networks.join(", ")
            ));
        }
    }
    if let Some(setting) = said("registry-mirror") {
        spec.registry_mirrors = mirrors(&setting.text).map_err(usage)?;
        let is_own = |mirror: &&String| {
            let url = Url::parse(mirror).ok();
            url.is_some_and(|url| {
                url.host_str()
                    .is_some_and(|host| is_loopback(host.trim_matches(['[', ']'])))
            })
        };
        if let Some(mirror) = spec.registry_mirrors.iter().find(is_own) {
            told.push(format!(
                "{mirror} is asked for inside the node; this host is host.sampan.internal there"
            ));
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_registries_may_be_insecure() {
        let insecure = ["r.example:5000", "plain.example", "10.0.0.0/8", "fd00::/8"].map(str::to_owned);
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
            ("[fd00::5]:5000", true),
            ("[fe00::5]:5000", false),
            ("registry.k8s.io", false),
        ] {
            assert_eq!(may_be_insecure(registry, &insecure), may, "{registry}");
        }
        assert!(may_be_insecure("11.0.0.1", &["0.0.0.0/0".to_owned()]));
    }

    #[test]
    fn an_insecure_registry_is_a_host_or_a_network() {
        assert_eq!(
            insecure("r.example:5000, 10.0.0.0/8,r.example:5000,[fd00::1]:5000,localhost").unwrap(),
            ["r.example:5000", "10.0.0.0/8", "[fd00::1]:5000", "localhost"]
        );
        assert_eq!(insecure("").unwrap(), [""; 0]);
        for (text, part) in [
            (
                "http://r.example:5000/",
                "scheme: --insecure-registry r.example:5000",
            ),
            ("r.example/app", "neither a registry nor a network"),
            ("10.0.0.0/64", "neither a registry nor a network"),
            ("r.example:", "no port"),
            ("r.example:70000", "no port"),
            ("r_1:5000", "no name of a host"),
            ("../etc", "neither"),
            ("-r", "no name of a host"),
            ("a b", "no name of a host"),
            ("[::1", "no name of a host"),
            ("docker.io", "is Docker Hub"),
        ] {
            let what = insecure(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    #[test]
    fn a_mirror_is_an_address_without_a_login() {
        assert_eq!(
            mirrors("https://M.example/,http://10.0.2.2:5000,https://m.example,https://h.example/proxy/")
                .unwrap(),
            [
                "https://m.example",
                "http://10.0.2.2:5000",
                "https://h.example/proxy"
            ]
        );
        // What ends up in files of the node cannot leave its quotes.
        assert_eq!(
            mirrors("http://m.example/a\"]b").unwrap(),
            ["http://m.example/a%22]b"]
        );
        for (text, part) in [
            ("m.example:5000", "no address"),
            ("ftp://m.example", "no address"),
            ("http://", "no address"),
            ("http://a b", "no address"),
            ("http:m.example", "no address"),
            ("https://me:secret@m.example", "has a login in it"),
            ("https://m.example/?x=1", "behind ? or #"),
            ("https://m.example/#x", "behind ? or #"),
        ] {
            let what = mirrors(text).unwrap_err();
            assert!(what.contains(part) && !what.contains("secret"), "{text}: {what}");
        }
    }

    #[test]
    fn a_repository_is_where_images_stand_side_by_side() {
        for (text, name) in [
            ("", ""),
            ("r.example:5000/k8s/", "r.example:5000/k8s"),
            ("https://r.example/a/b_c", "r.example/a/b_c"),
            ("localhost:5000", "localhost:5000"),
            ("somebody", "somebody"),
        ] {
            assert_eq!(repository(text).unwrap(), name);
        }
        for (text, part) in [
            ("auto", "does not look for one"),
            ("r.example/k8s:v1", "an image and not a repository"),
            ("r.example/K8s", "no repository"),
            ("r.example//k8s", "no repository"),
            ("r.example/../k8s", "no repository"),
            ("r.example:x/k8s", "no port"),
            ("a b/c", "no name of a host"),
        ] {
            let what = repository(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
        place("https://mirror.example/release/").unwrap();
        assert!(place("mirror.example").is_err() && place("file:///mnt").is_err());
    }
}
