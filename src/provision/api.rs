//! A small client of the cluster's API for the host: reads, server-side apply and merge patches, nothing more. It spares the
//! emulated guest a `kubectl`, which takes seconds to start there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Identity, Method, StatusCode};
use serde_json::Value;

use super::manifests;
use crate::error::{Error, Kind, Result};

/// The name in the apiserver's certificate that the host expects, whatever address leads there.
pub const SERVER_NAME: &str = "sampan.internal";

/// Who we are in `managedFields`.
const FIELD_MANAGER: &str = "sampan";

/// A connection to one cluster. Making it does not touch the network; connections are kept and reused.
#[derive(Debug)]
pub struct Api {
    client: Client,
    base: String,
}

impl Api {
    /// A client that reaches the apiserver at `address`, trusts the authority in `ca` and shows the certificate in `cert`
    /// and `key` (PEM files, the key in PKCS #8).
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn new(address: SocketAddr, ca: &Path, cert: &Path, key: &Path) -> Result<Self> {
        let read = |path: &Path| std::fs::read(path).map_err(Error::io(path));
        let wrong = |path: &Path| {
            let message = format!("{}: not a PEM file that can be used", path.display());
            move |source: reqwest::Error| {
                Error::new(Kind::HostConfig, message)
                    .because(source)
                    .hint("delete the profile and start again to get new certificates")
            }
        };
        let authority = Certificate::from_pem(&read(ca)?).map_err(wrong(ca))?;
        let identity = Identity::from_pkcs8_pem(&read(cert)?, &read(key)?).map_err(wrong(cert))?;
        let client = Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(authority)
            .identity(identity)
            .resolve(SERVER_NAME, address)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|source| Error::new(Kind::Internal, "cannot set up TLS").because(source))?;
        Ok(Self {
            client,
            base: format!("https://{SERVER_NAME}:{}", address.port()),
        })
    }

    /// What the API has at a path ("/api/v1/nodes").
    ///
    /// # Errors
    /// [`Kind::ApiStopped`] when nobody answers; [`Kind::NotFound`] for a 404; [`Kind::ControlPlane`] for other refusals.
    pub fn get(&self, path: &str) -> Result<Value> {
        let request = self.request(Method::GET, path);
        self.json(request, "GET", path)
    }

    /// As [`Api::get`], with an answer awaited for at most this long.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn get_within(&self, path: &str, timeout: Duration) -> Result<Value> {
        let request = self.request(Method::GET, path).timeout(timeout);
        self.json(request, "GET", path)
    }

    /// As [`Api::get`], but nothing where there is nothing.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the API has at a path, as text: logs.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn text(&self, path: &str) -> Result<String> {
        let request = self.request(Method::GET, path);
        self.send(request, "GET", path)
    }

    /// Whether a health endpoint ("/readyz") says ok within `timeout`; anything else, also nobody there, is a no.
    pub fn is_ok(&self, path: &str, timeout: Duration) -> bool {
        let answer = self.request(Method::GET, path).timeout(timeout).send();
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Makes objects be as described, by server-side apply in the order given; fields that others own stay theirs.
    ///
    /// # Errors
    /// As [`Api::get`]; [`Kind::Internal`] for a kind of object that sampan does not know.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        for object in objects {
            self.apply_at(&manifests::path(object)?, object)?;
        }
        Ok(())
    }

    /// As [`Api::apply`], of one object whose path is known.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn apply_at(&self, path: &str, object: &Value) -> Result<()> {
        let target = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        let request = self
            .request(Method::PATCH, &target)
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .body(object.to_string());
        self.send(request, "PATCH", path).map(drop)
    }

    /// Changes some fields of an object that is there (JSON merge patch).
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        let request = self
            .request(Method::PATCH, &format!("{path}?fieldManager={FIELD_MANAGER}"))
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(change.to_string());
        self.json(request, "PATCH", path)
    }

    /// Removes an object; one that is not there is fine. It stays, being deleted, until all that it owns is gone.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn delete(&self, path: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("{path}?propagationPolicy=Foreground"));
        match self.send(request, "DELETE", path) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    fn json(&self, request: RequestBuilder, verb: &str, path: &str) -> Result<Value> {
        let text = self.send(request, verb, path)?;
        serde_json::from_str(&text).map_err(|source| {
            Error::new(
                Kind::ControlPlane,
                format!("{verb} {path}: the apiserver's answer is not JSON"),
            )
            .because(source)
        })
    }

    fn send(&self, request: RequestBuilder, verb: &str, path: &str) -> Result<String> {
        let stopped = |source: reqwest::Error| {
            Error::new(
                Kind::ApiStopped,
                format!("{verb} {path}: the apiserver at {} does not answer", self.base),
            )
            .because(source)
            .hint("see `sampan status` and `sampan logs`")
        };
        let answer = request.send().map_err(stopped)?;
        let status = answer.status();
        let text = answer.text().map_err(stopped)?;
        tracing::trace!(verb, path, %status, "api");
        if status.is_success() {
            return Ok(text);
        }
        let kind = if status == StatusCode::NOT_FOUND {
            Kind::NotFound
        } else {
            Kind::ControlPlane
        };
        Err(Error::new(
            kind,
            format!("{verb} {path}: {status}: {}", reason(&text)),
        ))
    }
}

/// The message in a Kubernetes `Status`, or the beginning of what else was said.
fn reason(text: &str) -> String {
    let status: Option<Value> = serde_json::from_str(text).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str());
    message.unwrap_or(text).chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_from_a_status_or_from_the_text_itself() {
        assert_eq!(
            reason(r#"{"kind":"Status","message":"nodes \"a\" not found"}"#),
            r#"nodes "a" not found"#
        );
        assert_eq!(reason("404 page not found"), "404 page not found");
    }
}
