//! How to reach servers, and how patient to be with them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Mirror;

/// How to reach servers. Made by `commands` from flags, settings and the environment; nothing here reads the environment.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The proxy for `https://` addresses: `http://[USER:PASSWORD@]HOST:PORT`.
    pub proxy: Option<String>,
    /// The proxy for `http://` addresses.
    pub http_proxy: Option<String>,
    /// Hosts that no proxy is used for, as `NO_PROXY` lists them; the host's own loopback never needs one.
    pub no_proxy: Option<String>,
    /// Certificates of authorities to be trusted besides the system's own (PEM).
    pub ca_file: Option<PathBuf>,
    /// Where to fetch from instead of upstream's own servers.
    pub mirror: Option<Mirror>,
    /// How often something is tried again before giving up; whatever gets on counts anew.
    pub retries: u32,
    /// How many objects are fetched side by side.
    pub parallel: usize,
    /// A connection that brings nothing for this long is given up.
    pub stall: Duration,
    /// The first pause before trying again; it doubles each time, up to half a minute.
    pub pause: Duration,
    /// A server that asks to be left alone for longer than this is given up.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            http_proxy: None,
            no_proxy: None,
            ca_file: None,
            mirror: None,
            retries: 5,
            parallel: 4,
            stall: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            patience: Duration::from_secs(120),
        }
    }
}

impl Settings {
    /// The same with the proxies that environment variables name (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in lower case first);
    /// `variable` looks one up. What is set already stays.
    #[must_use]
    pub fn with_proxies_of(mut self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            [name.to_lowercase(), name.to_owned()]
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.trim().is_empty()))
        };
        self.proxy = self.proxy.or_else(|| either("HTTPS_PROXY"));
        self.http_proxy = self.http_proxy.or_else(|| either("HTTP_PROXY"));
        self.no_proxy = self.no_proxy.or_else(|| either("NO_PROXY"));
        self
    }
}

/// An address of a proxy as it may be shown: without user and password.
pub(super) fn shown(proxy: &str) -> String {
    match proxy.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}{}{host}", if scheme.is_empty() { "" } else { "://" })
        }
        None => proxy.to_owned(),
    }
}

// Proxies have passwords in them.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("proxy", &self.proxy.as_deref().map(shown))
            .field("http_proxy", &self.http_proxy.as_deref().map(shown))
            .field("no_proxy", &self.no_proxy)
            .field("ca_file", &self.ca_file)
            .field("mirror", &self.mirror)
            .field("retries", &self.retries)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_give_proxies_in_lower_case_first() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://small:1".to_owned()),
            "HTTPS_PROXY" => Some("http://large:1".to_owned()),
            "HTTP_PROXY" => Some("http://plain:1".to_owned()),
            "no_proxy" => Some(" ".to_owned()),
            _ => None,
        };
        let settings = Settings::default().with_proxies_of(&variable);
        assert_eq!(settings.proxy.as_deref(), Some("http://small:1"));
        assert_eq!(settings.http_proxy.as_deref(), Some("http://plain:1"));
        assert_eq!(settings.no_proxy, None);
        let set = Settings {
            proxy: Some("http://flag:1".to_owned()),
            ..Settings::default()
        };
        assert_eq!(
            set.with_proxies_of(&variable).proxy.as_deref(),
            Some("http://flag:1")
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(shown("http://me:p@ss@proxy:3128"), "http://proxy:3128");
        assert_eq!(shown("me:pass@proxy:3128"), "proxy:3128");
        assert_eq!(shown("http://proxy:3128"), "http://proxy:3128");
        let settings = Settings {
            proxy: Some("http://me:secret@proxy".to_owned()),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
