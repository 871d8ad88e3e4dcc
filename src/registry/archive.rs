//! Pulled images as one archive, as nodes import it.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::blobs::{CopyError, copy_checked};
use super::{Blob, Pulled};
use crate::error::{Error, Kind, Result};
use crate::images::name;
use crate::progress::Cancel;
use crate::store::oci::{self, Content, Large, Small, descriptor};

/// Writes one OCI archive with all of the images, each for its own architecture and under its [`Pulled::name`]. What several of them
/// have is in it once. All is checked on the way once more.
///
/// # Errors
/// [`Kind::HostPath`] when something was damaged since it was pulled; it is removed, and pulling again fetches it. [`Kind::Storage`]
/// when the disk is full; [`Kind::Interrupted`].
pub fn write_archive(images: &[Pulled], to: &Path, cancel: &Cancel) -> Result<()> {
    let (mut small, mut large, mut entries) = (Small::new(), Large::new(), Vec::new());
    for image in images {
        let bytes = fs::read(&image.manifest.path).map_err(Error::io(&image.manifest.path))?;
        let hex = hex(&image.manifest.digest);
        if crate::store::hash::bytes(&bytes) != hex {
            return Err(Error::new(
                Kind::HostPath,
                format!(
                    "{} was damaged since it was fetched",
                    image.manifest.path.display()
                ),
            )
            .hint("remove it, then run the same command again"));
        }
        let manifest = descriptor(&image.manifest.media_type, hex, image.manifest.size);
        let (name, tag) = name::split(&image.name);
        entries.push(oci::entry(manifest, name, tag, &image.arch));
        small.insert(hex.to_owned(), bytes);
        for blob in image.layers.iter().chain([&image.config]) {
            large.insert(self::hex(&blob.digest).to_owned(), content(blob, to));
        }
    }
    oci::write(to, &entries, &small, &large, cancel)
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn content<'a>(blob: &'a Blob, path: &'a Path) -> Content<'a> {
    let write = move |to: &mut dyn Write| {
        copy_checked(blob, to).map_err(|error| match error {
            CopyError::Read(error) => error,
            CopyError::Write(error) => Error::io(path)(error),
        })
    };
    Content {
        size: blob.size,
        write: Box::new(write),
    }
}
