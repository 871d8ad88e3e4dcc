//! Images in a mirror on a disk: `HOST/v2/NAME/manifests/TAG` and `HOST/v2/NAME/blobs/DIGEST`, as registries lay out their addresses.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_client::Reference;

use super::blobs::{Blobs, Fetch, Part};
use super::{Blob, called, manifest, problem};
use crate::error::{Error, Kind, Result};

/// The mirror.
pub(super) struct Tree<'a>(&'a Path);

impl<'a> Tree<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self(dir)
    }

    /// What messages call an image in it.
    pub(super) fn place(&self, reference: &Reference) -> String {
        format!("{} in {}", called(reference), self.0.display())
    }

    fn open(&self, reference: &Reference, folder: &str, name: &str) -> Result<(PathBuf, File)> {
        let path = self
            .0
            .join(reference.registry())
            .join("v2")
            .join(reference.repository())
            .join(folder)
            .join(name);
        match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("the mirror {} has no {}", self.0.display(), path.display());
                Err(Error::new(Kind::Missing, message).hint("add it to the mirror, or do without the mirror"))
            }
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// A manifest or an index.
    pub(super) fn manifest(&self, reference: &Reference) -> Result<Vec<u8>> {
        let name = reference.digest().or(reference.tag()).unwrap_or("latest");
        let (path, file) = self.open(reference, "manifests", name)?;
        let mut bytes = Vec::new();
        file.take(manifest::MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(&path))?;
        if bytes.len() as u64 > manifest::MOST {
            return Err(problem::odd(
                &self.place(reference),
                "its manifest is larger than any",
            ));
        }
        Ok(bytes)
    }

    /// Copies a blob into the store.
    pub(super) async fn blob(
        &self,
        blobs: &Blobs,
        reference: &Reference,
        blob: &Blob,
        fetch: &Fetch<'_>,
    ) -> Result<()> {
        let Some(mut part) = blobs.claim(blob, fetch.cancel).await? else {
            return Ok(());
        };
        let (path, mut file) = self.open(reference, "blobs", &blob.digest)?;
        part.start_over()?;
        let place = path.display().to_string();
        let mut buffer = vec![0; 1 << 18];
        loop {
            fetch.cancel.check()?;
            match file.read(&mut buffer).map_err(Error::io(&path))? {
                0 => return finish(part, blob, &place),
                count => part.take(&buffer[..count], &place, None)?,
            }
        }
    }
}

fn finish(part: Part, blob: &Blob, place: &str) -> Result<()> {
    if part.is_whole() {
        return part.finish(place);
    }
    let message = format!("{place} is cut: {} of {} bytes", part.len, blob.size);
    Err(Error::new(Kind::Checksum, message).hint("copy the mirror anew"))
}
