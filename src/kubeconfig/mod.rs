//! The user's kubeconfig: our cluster, user and context in it, and nothing else of it touched.
//!
//! Works on the files as kubectl does: several files (`KUBECONFIG`) are one configuration in which the first to name something
//! wins; what is there is changed where it is, what is new goes to the first file that exists, else to the last; `FILE.lock` is
//! held while a file is changed. What we write carries an extension of ours, by which it is known again: entries of the
//! same name that somebody else made are neither changed nor removed.

mod edit;
mod emit;
mod lock;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use yaml_serde::{Mapping, Value};

use crate::error::{Error, Kind, Result};
use crate::store::atomic;
use edit::{KINDS, Stanza};

/// Others hold the lock for milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// A cluster as its user's kubectl is to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of cluster, user and context: the profile's.
    pub name: String,
    /// `https://ADDRESS:PORT`.
    pub server: String,
    /// The name the server's certificate is checked against, where it is not the address.
    pub tls_server_name: Option<String>,
    /// The cluster's authority, PEM.
    pub ca: Vec<u8>,
    /// The user's certificate, PEM.
    pub client_cert: Vec<u8>,
    /// The user's private key, PEM.
    pub client_key: Vec<u8>,
}

/// How kubectl would see an [`Entry`] now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Configured,
    /// It is there, but leads elsewhere or has old credentials.
    Misconfigured {
        /// The server it names.
        server: String,
    },
    /// Cluster, user or context is not there.
    Missing,
}

/// The files that make up the user's kubeconfig, in their order of precedence.
#[derive(Debug, Clone)]
pub struct Files(Vec<PathBuf>);

/// A file as it was read; none when it does not exist.
struct Document {
    path: PathBuf,
    before: Option<Mapping>,
    after: Mapping,
}

impl Files {
    /// The paths of `KUBECONFIG`, or the one default path. Empty and repeated ones are left out.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let mut unique: Vec<PathBuf> = Vec::new();
        for path in paths {
            if !path.as_os_str().is_empty() && !unique.contains(&path) {
                unique.push(path);
            }
        }
        Self(unique)
    }

    /// Writes cluster, user and context, and makes the context the current one unless `keep_context`. Returns whether anything
    /// changed.
    ///
    /// # Errors
    /// [`Kind::Kubeconfig`] when a file is damaged, locked for too long, or has an entry of this name that is not ours.
    pub fn set(&self, entry: &Entry, keep_context: bool) -> Result<bool> {
        self.change(&mut |documents, default| {
            for stanza in stanzas(entry) {
                let at = documents
                    .iter()
                    .position(|document| edit::find(&document.after, stanza.kind, &entry.name).is_some());
                if let Some(at) = at
                    && edit::is_foreign(&documents[at].after, stanza.kind, &entry.name)
                {
                    return Err(foreign(&documents[at].path, stanza.kind.one, &entry.name));
                }
                edit::put(
                    &mut documents[at.unwrap_or(default)].after,
                    &entry.name,
                    &stanza,
                    &extension(),
                );
            }
            if !keep_context && current(documents) != Some(&entry.name) {
                edit::set_current(&mut documents[default].after, &entry.name);
            }
            Ok(())
        })
    }

    /// Removes our cluster, user and context of this name; a current context of that name is unset. Returns whether anything changed.
    ///
    /// # Errors
    /// As [`Files::set`], except that entries that are not ours stay and are no error.
    pub fn remove(&self, name: &str) -> Result<bool> {
        self.change(&mut |documents, _| {
            let mut removed = false;
            for document in documents.iter_mut() {
                for kind in KINDS {
                    removed |= edit::remove(&mut document.after, kind, name);
                }
            }
            if removed {
                unset_current(documents, name);
            }
            Ok(())
        })
    }

    /// Unsets the current context if it is this one, and leaves the rest: for a stopped cluster. Returns whether anything changed.
    ///
    /// # Errors
    /// As [`Files::set`].
    pub fn leave_context(&self, name: &str) -> Result<bool> {
        self.change(&mut |documents, _| {
            unset_current(documents, name);
            Ok(())
        })
    }

    /// Compares what kubectl would use with what it should be.
    ///
    /// # Errors
    /// [`Kind::Kubeconfig`] when a file is damaged.
    pub fn status(&self, entry: &Entry) -> Result<Status> {
        let documents = self.read()?;
        let find = |kind| {
            documents
                .iter()
                .find_map(|document| edit::find(&document.after, kind, &entry.name))
        };
        let mut right = true;
        let mut server = String::new();
        for stanza in stanzas(entry) {
            let Some(item) = find(stanza.kind) else {
                return Ok(Status::Missing);
            };
            right &= edit::is_same(item, &stanza);
            if let Some(Value::String(text)) = item.get(stanza.kind.one).and_then(|body| body.get("server")) {
                server.clone_from(text);
            }
        }
        Ok(if right {
            Status::Configured
        } else {
            Status::Misconfigured { server }
        })
    }

    /// The current context.
    ///
    /// # Errors
    /// [`Kind::Kubeconfig`] when a file is damaged.
    pub fn current_context(&self) -> Result<Option<String>> {
        Ok(current(&self.read()?).map(str::to_owned))
    }

    /// Fails as [`Files::set`] would later, when an entry of this name is there that is not ours, or a file is damaged. For a `start` to
    /// ask before the long work.
    ///
    /// # Errors
    /// [`Kind::Kubeconfig`].
    pub fn check(&self, name: &str) -> Result<()> {
        for document in self.read()? {
            for kind in KINDS {
                if edit::is_foreign(&document.after, kind, name) {
                    return Err(foreign(&document.path, kind.one, name));
                }
            }
        }
        Ok(())
    }

    /// Where kubectl would put what is new.
    fn default(&self) -> Result<usize> {
        let last = self.0.len().checked_sub(1).ok_or_else(|| {
            Error::new(Kind::Kubeconfig, "there is no kubeconfig to write to").hint("set KUBECONFIG or HOME")
        })?;
        Ok(self.0.iter().position(|path| path.exists()).unwrap_or(last))
    }

    /// Reads, edits and, when that changes something, reads again under the lock, edits and writes.
    fn change(&self, edit: &mut dyn FnMut(&mut [Document], usize) -> Result<()>) -> Result<bool> {
        let mut documents = self.read()?;
        edit(&mut documents, self.default()?)?;
        if !documents.iter().any(Document::is_changed) {
            return Ok(false);
        }
        let default = self.default()?;
        if let Some(dir) = self.0[default].parent() {
            atomic::make_private_dir(dir)?;
        }
        let _locks = lock::all(&self.0, LOCK_DEADLINE)?;
        let mut documents = self.read()?;
        edit(&mut documents, self.default()?)?;
        let mut changed = false;
        for document in documents.iter().filter(|document| document.is_changed()) {
            document.write()?;
            changed = true;
        }
        Ok(changed)
    }

    fn read(&self) -> Result<Vec<Document>> {
        self.0.iter().map(|path| Document::read(path)).collect()
    }
}

impl Document {
    fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    path: path.to_owned(),
                    before: None,
                    after: edit::empty(),
                });
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(damaged(path, "it is not text"));
            }
            Err(error) => return Err(Error::io(path)(error).with_kind(Kind::Kubeconfig)),
        };
        let mapping = edit::parse(&text).map_err(|why| damaged(path, &why))?;
        Ok(Self {
            path: path.to_owned(),
            before: Some(mapping.clone()),
            after: mapping,
        })
    }

    fn is_changed(&self) -> bool {
        match &self.before {
            Some(before) => *before != self.after,
            None => self.after != edit::empty(),
        }
    }

    fn write(&self) -> Result<()> {
        let text = match emit::document(&self.after) {
            Some(text) => text,
            None => yaml_serde::to_string(&self.after)
                .map_err(|error| damaged(&self.path, "it cannot be written").because(error))?,
        };
        let mode = fs::metadata(&self.path).map_or(0o600, |meta| meta.permissions().mode() & 0o7777);
        atomic::write(&self.path, mode, text.as_bytes()).map_err(|error| match error.kind() {
            Kind::Storage => error,
            _ => error.with_kind(Kind::Kubeconfig),
        })
    }
}

/// The current context of several files: the first that names one.
fn current(documents: &[Document]) -> Option<&str> {
    documents
        .iter()
        .find_map(|document| edit::current(&document.after))
}

fn unset_current(documents: &mut [Document], name: &str) {
    for document in documents {
        if edit::current(&document.after) == Some(name) {
            edit::set_current(&mut document.after, "");
        }
    }
}

/// What an entry is in a kubeconfig, in kubectl's terms. Ways to log in that ours would not go together with are dropped.
fn stanzas(entry: &Entry) -> [Stanza; 3] {
    let encoded = |bytes: &[u8]| Value::from(STANDARD.encode(bytes));
    let [clusters, users, contexts] = KINDS;
    let mut cluster = vec![
        ("certificate-authority-data", encoded(&entry.ca)),
        ("server", Value::from(entry.server.as_str())),
    ];
    let mut conflicts = vec!["certificate-authority", "insecure-skip-tls-verify"];
    match &entry.tls_server_name {
        Some(name) => cluster.push(("tls-server-name", Value::from(name.as_str()))),
        None => conflicts.push("tls-server-name"),
    }
    let user = vec![
        ("client-certificate-data", encoded(&entry.client_cert)),
        ("client-key-data", encoded(&entry.client_key)),
    ];
    let logins = "client-certificate client-key token tokenFile username password exec auth-provider";
    let context = vec![
        ("cluster", Value::from(entry.name.as_str())),
        ("user", Value::from(entry.name.as_str())),
    ];
    [
        Stanza {
            kind: clusters,
            fields: cluster,
            conflicts,
        },
        Stanza {
            kind: users,
            fields: user,
            conflicts: logins.split(' ').collect(),
        },
        Stanza {
            kind: contexts,
            fields: context,
            conflicts: Vec::new(),
        },
    ]
}

/// What our extension says: as minikube's does, who wrote the entry and when.
fn extension() -> Mapping {
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| now.format(&Rfc3339).ok());
    let mut said = Mapping::new();
    said.insert("provider".into(), edit::OURS.into());
    said.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    said.insert("last-update".into(), now.unwrap_or_default().into());
    said
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Kind::Kubeconfig, format!("{} is not a kubeconfig: {why}", path.display()))
        .hint("repair the file or move it away; it was not changed. `kubectl config view` shows what is read from it")
}

fn foreign(path: &Path, what: &str, name: &str) -> Error {
    Error::new(Kind::Kubeconfig, format!("{} has a {what} \"{name}\" that sampan did not make", path.display())).hint(
        format!(
            "choose another name with `-p NAME`, or rename what is there (`kubectl config rename-context {name} OTHER`, \
             and its cluster and user in the file)"
        ),
    )
}

#[cfg(test)]
mod tests;
