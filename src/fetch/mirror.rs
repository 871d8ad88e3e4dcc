//! Mirrors: a tree laid out as upstream's hosts, `HOST/PATH` for `https://HOST/PATH`, on a server or in a directory.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use reqwest::Url;

use crate::error::{Error, Kind, Result};

/// Where to fetch from instead of upstream's own servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// `URL/HOST/PATH`.
    Url(String),
    /// `DIR/HOST/PATH`.
    Dir(PathBuf),
}

impl Mirror {
    /// An address, or the path of a directory.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("http://") || text.starts_with("https://") {
            Self::Url(text.to_owned())
        } else {
            Self::Dir(PathBuf::from(text))
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Dir(dir) => dir.display().fmt(f),
        }
    }
}

/// Where something really comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Url(Url),
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Where what upstream has at `url` is to be fetched from.
pub(super) fn place(url: &str, mirror: Option<&Mirror>) -> Result<Place> {
    let upstream = parse(url, Kind::Usage)?;
    let host = upstream.host_str().unwrap_or_default();
    let host = match upstream.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    match mirror {
        None => Ok(Place::Url(upstream)),
        Some(Mirror::Url(base)) => {
            let mut place = parse(base, Kind::InternetConfig)?;
            let path = format!("{}/{host}{}", place.path().trim_end_matches('/'), upstream.path());
            place.set_path(&path);
            place.set_query(upstream.query());
            Ok(Place::Url(place))
        }
        Some(Mirror::Dir(dir)) => {
            let file = below(&host, &upstream)
                .ok_or_else(|| Error::new(Kind::Usage, format!("{url}: not a path in a mirror")))?;
            Ok(Place::File(dir.join(file)))
        }
    }
}

fn parse(url: &str, kind: Kind) -> Result<Url> {
    Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            Error::new(kind, format!("{url}: not an address that can be fetched"))
                .hint("it begins with https:// or http://, and the name of a host")
        })
}

/// `HOST/PATH`, decoded; nothing when it would lead elsewhere.
fn below(host: &str, upstream: &Url) -> Option<PathBuf> {
    let mut file = Url::parse("file:///").ok()?;
    file.set_path(&format!("/{host}{}", upstream.path()));
    let path = file.to_file_path().ok()?;
    let path = path.strip_prefix("/").ok()?;
    let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    plain(path).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(url: &str, mirror: &str) -> String {
        place(url, Some(&Mirror::parse(mirror))).unwrap().to_string()
    }

    #[test]
    fn a_mirror_has_a_directory_for_each_host() {
        let url = "https://dl.example.org/release/v1.36.3/bin/kubelet?x=1";
        assert_eq!(
            placed(url, "http://10.0.0.1:8000/tree/"),
            "http://10.0.0.1:8000/tree/dl.example.org/release/v1.36.3/bin/kubelet?x=1"
        );
        assert_eq!(
            placed(url, "/mnt/stick"),
            "/mnt/stick/dl.example.org/release/v1.36.3/bin/kubelet"
        );
        assert_eq!(placed("http://h:8080/a%20b", "/mnt"), "/mnt/h:8080/a b");
        assert_eq!(place(url, None).unwrap().to_string(), url);
    }

    #[test]
    fn no_address_leads_out_of_a_mirror() {
        let mirror = Mirror::parse("/mnt");
        for url in [
            "https://h/..%2F..%2Fetc/passwd",
            "https://h/a/%2e%2e/..%2f..%2f..%2fb",
        ] {
            let place = place(url, Some(&mirror));
            assert!(place.is_err(), "{place:?}");
        }
        assert_eq!(placed("https://h/a/../../b", "/mnt"), "/mnt/h/b");
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in ["file:///etc/passwd", "ftp://h/x", "kubelet", "https://"] {
            assert_eq!(place(url, None).unwrap_err().kind(), Kind::Usage, "{url}");
        }
    }
}
