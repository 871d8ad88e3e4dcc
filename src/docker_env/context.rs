//! Docker contexts, in the store of the `docker` client itself, so that no client is needed: `contexts/meta/ID/meta.json` and
//! `contexts/tls/ID/docker/` below its directory, where ID is the sha256 of the context's name.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::store::{atomic, hash};

/// The files of a client's TLS.
const FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// What was done about a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// There was none.
    Made,
    /// It is written anew.
    Renewed,
}

/// The directory of a `docker` client's configuration, and whose contexts in it are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    dir: PathBuf,
    owner: String,
}

impl Store {
    /// The store in `dir` (`~/.docker`); contexts for profiles below `owner`, sampan's data directory, are ours.
    pub fn new(dir: PathBuf, owner: &Path) -> Self {
        Self {
            dir,
            owner: owner.to_string_lossy().into_owned(),
        }
    }

    /// Whether a context of this name is ours.
    pub fn has(&self, name: &str) -> bool {
        self.read(name).is_some_and(|meta| self.is_ours(&meta))
    }

    /// Makes a context lead to a Docker, with the certificates in a directory.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a name that Docker has no contexts of, [`Kind::Exists`] when somebody else made a context of this name; when
    /// files cannot be read or written.
    pub fn write(&self, name: &str, address: SocketAddr, certificates: &Path) -> Result<Written> {
        check(name)?;
        let before = self.meta(name).exists();
        if before && !self.has(name) {
            return Err(Error::new(
                Kind::Exists,
                format!("there is a Docker context \"{name}\" already, and it is not for this cluster"),
            )
            .hint(format!(
                "see `docker context inspect {name}`; remove it with `docker context rm {name}`"
            )));
        }
        let tls = self.tls(name).join("docker");
        atomic::make_private_dir(&tls)?;
        for file in FILES {
            let from = certificates.join(file);
            let bytes = fs::read(&from).map_err(Error::io(&from))?;
            atomic::write(&tls.join(file), 0o600, &bytes)?;
        }
        let meta = json!({
            "Name": name,
            "Metadata": { "Description": format!("cluster {name} of sampan"), "sampan": self.owner },
            "Endpoints": { "docker": { "Host": format!("tcp://{address}"), "SkipTLSVerify": false } },
        });
        let path = self.meta(name);
        let dir = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        atomic::write(&path, 0o644, meta.to_string().as_bytes())?;
        Ok(if before { Written::Renewed } else { Written::Made })
    }

    /// Removes a context of ours; false when there is none. A client that used it goes back to its default.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool> {
        if !self.has(name) {
            return Ok(false);
        }
        self.leave(name)?;
        let meta = self.meta(name);
        for dir in [meta.parent().unwrap_or(&meta), &self.tls(name)] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(dir)(error)),
                _ => {}
            }
        }
        Ok(true)
    }

    /// A client whose current context is gone does nothing at all.
    fn leave(&self, name: &str) -> Result<()> {
        let path = self.dir.join("config.json");
        let Some(Value::Object(mut config)) = read_json(&path) else {
            return Ok(());
        };
        if config.get("currentContext").and_then(Value::as_str) != Some(name) {
            return Ok(());
        }
        config.remove("currentContext");
        let text = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::new(Kind::Internal, "cannot write JSON").because(error))?;
        atomic::write(&path, 0o600, text.as_bytes())
    }

    fn is_ours(&self, meta: &Value) -> bool {
        meta["Metadata"]["sampan"] == self.owner
    }

    fn read(&self, name: &str) -> Option<Value> {
        read_json(&self.meta(name))
    }

    fn meta(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/meta").join(id(name)).join("meta.json")
    }

    fn tls(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/tls").join(id(name))
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn id(name: &str) -> String {
    hash::bytes(name.as_bytes())
}

/// Docker's own rule: two characters at least, and "default" is its own.
fn check(name: &str) -> Result<()> {
    if name == "default" || name.len() < 2 {
        return Err(
            Error::new(Kind::Usage, format!("Docker has no contexts called \"{name}\""))
                .hint("leave out --context, or use a cluster with another name"),
        );
    }
    Ok(())
}
