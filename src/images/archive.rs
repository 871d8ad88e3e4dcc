//! Archives of images, as `docker save`, BuildKit, skopeo and others write them: OCI layouts and Docker's own. What is in one is
//! described as an OCI layout, whichever it is, so that parts of it can be sent.

mod docker;
mod oci;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::unpacked;
use crate::error::{Error, Kind, Result};
use crate::store::hash;

/// Descriptions are small; what is larger is none.
const LARGEST_JSON: u64 = 8 << 20;

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Full name with tag; none for an image without a name.
    pub name: Option<String>,
    /// Digest of its manifest or index: what Docker calls its ID.
    pub digest: String,
}

/// A piece of an image: a layer, or the description of something.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) size: u64,
    pub(super) at: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the archive's file.
    File(u64),
    /// Made here.
    Memory(Vec<u8>),
    /// The archive does not have it; the node may.
    Nowhere,
}

/// What is in an archive.
#[derive(Debug)]
pub struct Archive {
    pub(super) place: String,
    pub(super) file: Arc<File>,
    /// The node's architecture.
    pub(super) arch: String,
    /// The layout's index.json.
    pub(super) index: Vec<u8>,
    /// The images.
    pub images: Vec<Image>,
    /// What the images are made of, by digest ("sha256:…").
    pub(super) blobs: BTreeMap<String, Blob>,
}

impl Archive {
    /// Reads an archive from a file; `arch` is the node's, as Docker calls it.
    ///
    /// # Errors
    /// [`Kind::HostPath`] when there is no such file or it is no archive of images for the node.
    pub fn open(path: &Path, arch: &str) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let meta = file.metadata().map_err(Error::io(path))?;
        let place = path.display().to_string();
        if meta.is_dir() {
            return Err(
                Error::new(Kind::HostPath, format!("{place}: is a directory, not an archive"))
                    .hint("`sampan image build` makes an image of a directory with a Dockerfile"),
            );
        }
        Self::index(unpacked::file(file, &place)?, place, arch)
    }

    /// Reads an archive from a pipe, called `place` in messages.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn read(source: &mut dyn Read, place: &str, arch: &str) -> Result<Self> {
        Self::index(unpacked::stream(source, place)?, place.to_owned(), arch)
    }

    fn index(file: File, place: String, arch: &str) -> Result<Self> {
        let entries = Entries::read(file, place)?;
        if entries.find("index.json").is_some() {
            oci::describe(entries, arch)
        } else if entries.find("manifest.json").is_some() {
            docker::describe(entries, arch)
        } else {
            Err(no_images(&entries.place))
        }
    }
}

fn no_images(place: &str) -> Error {
    Error::new(Kind::HostPath, format!("{place}: is not an archive of images")).hint(
        "`docker save IMAGE -o FILE` makes one; `docker import` makes an image of a plain archive of files",
    )
}

fn incomplete(place: &str, what: &str) -> Error {
    Error::new(
        Kind::HostPath,
        format!("{place}: the archive is not complete: {what} is missing or cut off"),
    )
    .hint("make it anew: `docker save IMAGE -o FILE`")
}

fn other_arch(place: &str, name: Option<&str>, theirs: &str, arch: &str) -> Error {
    let image = name.map_or_else(|| "the image".to_owned(), |name| format!("image {name}"));
    Error::new(
        Kind::HostPath,
        format!("{place}: {image} is for {theirs}, and the node is linux/{arch}"),
    )
    .hint(format!(
        "build or pull it for the node: `docker build --platform linux/{arch}`"
    ))
}

/// The files of a tar archive, by name.
struct Entries {
    place: String,
    file: Arc<File>,
    files: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

impl Entries {
    fn read(file: File, place: String) -> Result<Self> {
        let length = file.metadata().map_err(Error::io(Path::new(&place)))?.len();
        let file = Arc::new(file);
        let mut entries = Self {
            place,
            file: Arc::clone(&file),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let mut archive = tar::Archive::new(&*file);
        let place = entries.place.clone();
        let wrong = |error: std::io::Error| unpacked::damaged(&place, error);
        let all = archive.entries_with_seek().map_err(wrong)?;
        for (number, entry) in all.enumerate() {
            // What is no archive at all shows at its first block.
            let entry = entry.map_err(|error| {
                if number == 0 {
                    no_images(&place).because(error)
                } else {
                    wrong(error)
                }
            })?;
            let path = entry.path().map_err(wrong)?.into_owned();
            let name = inside(&place, &path)?;
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let (at, size) = (entry.raw_file_position(), entry.size());
                    if at.saturating_add(size) > length {
                        return Err(incomplete(&place, &name));
                    }
                    entries.files.insert(name, (at, size));
                }
                kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                    let target = entry.link_name().map_err(wrong)?.unwrap_or_default().into_owned();
                    let from = match path.parent() {
                        Some(parent) if kind == tar::EntryType::Symlink => parent.join(target),
                        _ => target,
                    };
                    let target = inside(&place, &from)?;
                    entries.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(entries)
    }

    /// Where a file is and how long; through one link, as older versions of Docker wrote layers that are there twice.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let target = self.links.get(name).map_or(name, String::as_str);
        self.files.get(target).copied()
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let (at, size) = self.find(name).ok_or_else(|| incomplete(&self.place, name))?;
        if size > LARGEST_JSON {
            return Err(unpacked::damaged(&self.place, format!("{name} has {size} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|error| unpacked::damaged(&self.place, error))?;
        Ok(bytes)
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.parse(name, &self.bytes(name)?)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|error| unpacked::damaged(&self.place, format!("{name}: {error}")))
    }

    fn done(self, arch: &str, index: Vec<u8>, images: Vec<Image>, blobs: BTreeMap<String, Blob>) -> Archive {
        Archive {
            place: self.place,
            file: self.file,
            arch: arch.to_owned(),
            index,
            images,
            blobs,
        }
    }
}

/// sha256 of a range of a file, as a digest.
pub(super) fn sum(file: &File, place: &str, mut at: u64, size: u64) -> Result<String> {
    let mut whole = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let end = at + size;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = file
            .read_at(&mut buffer[..most], at)
            .map_err(|error| unpacked::damaged(place, error))?;
        if count == 0 {
            return Err(incomplete(place, "its end"));
        }
        whole.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(format!("sha256:{}", hash::hex(&whole.finalize())))
}

/// A name within the archive, without dots.
fn inside(place: &str, path: &Path) -> Result<String> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        let fine = match part {
            Component::Normal(name) => {
                clean.push(name);
                true
            }
            Component::CurDir => true,
            Component::ParentDir => clean.pop(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !fine {
            return Err(Error::new(
                Kind::HostPath,
                format!(
                    "{place}: {:?} climbs out of the archive",
                    path.display().to_string()
                ),
            )
            .hint("nothing was loaded; whoever made this archive meant to write to other files"));
        }
    }
    Ok(clean.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
