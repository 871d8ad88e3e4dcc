//! A small client of Docker's Engine API in a node.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::{Certificate, Identity, Method};
use serde_json::Value;

use super::{Parts, name};
use crate::error::{Error, Kind, Result};
use crate::provision::SERVER_NAME;

/// The version of the API that is spoken: the first that says whether an image is complete.
const VERSION: &str = "/v1.48";

/// For questions that are answered at once.
const QUICK: Duration = Duration::from_secs(30);

/// The header with credentials for a registry.
const AUTH: &str = "X-Registry-Auth";

/// One word of Docker's while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Output as it is.
    Text(String),
    /// What it is doing; a line.
    Status(String),
}

/// A connection to one node's Docker. Making it does not touch the network.
#[derive(Debug)]
pub struct Engine {
    client: Client,
    base: String,
}

impl Engine {
    /// A client of the Docker at `address`, with ca.pem, cert.pem and key.pem in a directory.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn new(address: SocketAddr, certificates: &Path) -> Result<Self> {
        let (authority, identity) = trust(certificates)?;
        let client = Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(authority)
            .identity(identity)
            .resolve(SERVER_NAME, address)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(None)
            .build()
            .map_err(|source| Error::new(Kind::Internal, "cannot set up TLS").because(source))?;
        Ok(Self {
            client,
            base: format!("https://{SERVER_NAME}:{}{VERSION}", address.port()),
        })
    }

    /// A short answer.
    pub(super) fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let request = self.request(Method::GET, path).query(query).timeout(QUICK);
        let text = send(request, path)?.text().map_err(|error| silent(error, path))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::new(Kind::Runtime, format!("Docker's answer to {path} is not JSON")).because(error)
        })
    }

    /// What Docker knows of an image; nothing when there is none.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub fn inspect(&self, image: &str) -> Result<Option<Value>> {
        match self.json(&format!("/images/{image}/json"), &[]) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All images that Docker has, as its API lists them.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub fn images(&self) -> Result<Value> {
        self.json("/images/json", &[("digests", "1")])
    }

    /// Whether all that an image is made of is there for the node's architecture. An archive that lacks something is loaded without a
    /// word by Docker, whatever that is.
    pub(super) fn is_complete(&self, image: &str, arch: &str) -> Result<bool> {
        let known = self.json(&format!("/images/{image}/json"), &[("manifests", "1")])?;
        let Some(manifests) = known["Manifests"].as_array() else {
            return Ok(true);
        };
        let ours = |manifest: &&Value| manifest["ImageData"]["Platform"]["architecture"] == arch;
        Ok(manifests
            .iter()
            .filter(ours)
            .any(|manifest| manifest["Available"] == true))
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such an image.
    pub fn tag(&self, image: &str, new: &str) -> Result<()> {
        let (repository, tag) = name::split(new);
        let path = format!("/images/{image}/tag");
        let query = [("repo", repository), ("tag", tag)];
        send(
            self.request(Method::POST, &path).query(&query).timeout(QUICK),
            &path,
        )
        .map(drop)
    }

    /// Removes a name of an image, and the image with its last name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such an image; [`Kind::Exists`] when a container of Docker's needs it.
    pub fn remove(&self, image: &str) -> Result<()> {
        let path = format!("/images/{image}");
        send(self.request(Method::DELETE, &path), &path).map(drop)
    }

    /// Has Docker fetch an image, with [credentials](super::credentials) where there are some.
    ///
    /// # Errors
    /// What Docker says.
    pub fn pull(&self, image: &str, credentials: Option<&str>, on: &mut dyn FnMut(Said)) -> Result<()> {
        let (repository, tag) = name::split(image);
        let query = [("fromImage", repository), ("tag", tag)];
        let path = "/images/create";
        let request = self.request(Method::POST, path).query(&query);
        let request = match credentials {
            Some(credentials) => request.header(AUTH, credentials),
            None => request,
        };
        follow(send(request, path)?, on).map_err(|error| error.with_kind(Kind::Internet))
    }

    /// Has Docker send an image to its registry, with [credentials](super::credentials) where there are some.
    ///
    /// # Errors
    /// What Docker says.
    pub fn push(&self, image: &str, credentials: Option<&str>, on: &mut dyn FnMut(Said)) -> Result<()> {
        let (repository, tag) = name::split(image);
        let path = format!("/images/{repository}/push");
        let request = self
            .request(Method::POST, &path)
            .query(&[("tag", tag)])
            // Without the header Docker refuses; this is an empty set of credentials.
            .header(AUTH, credentials.unwrap_or("e30="));
        follow(send(request, &path)?, on).map_err(|error| error.with_kind(Kind::Internet))
    }

    /// Builds an image from an archive of the context.
    ///
    /// # Errors
    /// What Docker says; the output of the build came before.
    pub fn build(
        &self,
        query: &[(&str, String)],
        context: Option<Body>,
        on: &mut dyn FnMut(Said),
    ) -> Result<()> {
        let request = self
            .request(Method::POST, "/build")
            .query(query)
            .header("Content-Type", "application/x-tar");
        let request = match context {
            Some(body) => request.body(body),
            None => request,
        };
        follow(send(request, "/build")?, on)
    }

    /// An archive with an image, to be read to its end.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such an image.
    pub fn save(&self, image: &str) -> Result<Box<dyn Read>> {
        let path = format!("/images/{image}/get");
        Ok(Box::new(send(self.request(Method::GET, &path), &path)?))
    }

    /// Takes the images of an archive.
    pub(super) fn load(&self, archive: Parts, on: &mut dyn FnMut(Said)) -> Result<()> {
        let length = archive.length();
        let request = self
            .request(Method::POST, "/images/load")
            .query(&[("quiet", "1")])
            .header("Content-Type", "application/x-tar")
            .body(Body::sized(archive, length));
        follow(send(request, "/images/load")?, on)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }
}

/// What opens a node's Docker: whom to trust, and who the user is; from ca.pem, cert.pem and key.pem in a directory.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub(crate) fn trust(certificates: &Path) -> Result<(Certificate, Identity)> {
    crate::docker_env::check_certificates(certificates)?;
    let read = |name: &str| {
        let path = certificates.join(name);
        std::fs::read(&path).map_err(Error::io(&path))
    };
    let wrong = |source: reqwest::Error| {
        let message = format!("{}: docker's certificates are damaged", certificates.display());
        Error::new(Kind::HostConfig, message)
            .because(source)
            .hint("run `sampan stop`, then `sampan start`, to have them made anew")
    };
    let authority = Certificate::from_pem(&read("ca.pem")?).map_err(wrong)?;
    let identity = Identity::from_pkcs8_pem(&read("cert.pem")?, &read("key.pem")?).map_err(wrong)?;
    Ok((authority, identity))
}

/// Docker's words until it is done.
fn follow(answer: Response, on: &mut dyn FnMut(Said)) -> Result<()> {
    for line in BufReader::new(answer).lines() {
        let line = line.map_err(|error| {
            Error::new(Kind::Runtime, "the connection to Docker broke while it worked")
                .because(error)
                .hint("see `sampan status`, then try again")
        })?;
        let Ok(word) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(message) = word["error"].as_str().or(word["errorDetail"]["message"].as_str()) {
            return Err(refused(Kind::Runtime, message));
        }
        if let Some(text) = word["stream"].as_str() {
            on(Said::Text(text.to_owned()));
        } else if let Some(status) = word["status"].as_str()
            && word
                .get("progressDetail")
                .is_none_or(|detail| detail.get("current").is_none())
        {
            let line = match word["id"].as_str() {
                Some(id) => format!("{id}: {status}"),
                None => status.to_owned(),
            };
            on(Said::Status(line));
        }
    }
    Ok(())
}

fn send(request: RequestBuilder, path: &str) -> Result<Response> {
    let answer = request.send().map_err(|error| silent(error, path))?;
    let status = answer.status();
    tracing::trace!(path, %status, "docker");
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().unwrap_or_default();
    let told: Option<Value> = serde_json::from_str(&text).ok();
    let message = told
        .as_ref()
        .and_then(|told| told["message"].as_str())
        .unwrap_or(&text);
    let kind = match status.as_u16() {
        404 => Kind::NotFound,
        409 => Kind::Exists,
        _ => Kind::Runtime,
    };
    Err(refused(kind, message.trim()))
}

/// What Docker said no with.
fn refused(kind: Kind, message: &str) -> Error {
    if message.contains("no space left on device") {
        return Error::new(Kind::Storage, format!("the disk of the node is full: {message}")).hint(
            "remove images with `sampan image rm` or `docker image prune`; `sampan start --disk-size` makes a new cluster's disk larger",
        );
    }
    Error::new(kind, message.lines().next().unwrap_or(message).to_owned())
}

fn silent(error: reqwest::Error, path: &str) -> Error {
    let message = if error.is_body() || error.is_request() && !error.is_connect() {
        "the connection to Docker in the node broke"
    } else {
        "Docker in the node does not answer"
    };
    Error::new(Kind::Runtime, format!("{message} ({path})"))
        .because(error)
        .hint("see `sampan status`; `sampan ssh -- systemctl status docker` tells more")
}
