//! An OCI archive (a tar of an image layout) with several images: a blob that several have is in it once, and nothing in it depends on
//! when, where or by whom it was made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::progress::Cancel;

/// Media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Tar ends each member on a multiple of this.
const BLOCK: u64 = 512;

/// Small blobs by their sha256 in hex: configurations and manifests.
pub(crate) type Small = BTreeMap<String, Vec<u8>>;

/// Large blobs by their sha256 in hex.
pub(crate) type Large<'a> = BTreeMap<String, Content<'a>>;

/// What writes a large blob.
pub(crate) type Writer<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>;

/// A blob that is written from elsewhere: nothing of it is kept in memory.
pub(crate) struct Content<'a> {
    /// In bytes.
    pub(crate) size: u64,
    /// Writes just that many.
    pub(crate) write: Writer<'a>,
}

/// How manifests and indexes name a blob; `digest` in hex.
pub(crate) fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

/// An image's entry in the archive's index: its manifest, and what it is called.
pub(crate) fn entry(mut manifest: Value, name: &str, tag: &str, arch: &str) -> Value {
    manifest["annotations"] = json!({
        // The first is what containerd names the image by, the second is OCI's own.
        "io.containerd.image.name": format!("{name}:{tag}"),
        "org.opencontainers.image.ref.name": tag,
    });
    manifest["platform"] = json!({ "architecture": arch, "os": "linux" });
    manifest
}

/// Writes the archive.
///
/// # Errors
/// The I/O error with the path; those of contents; [`crate::error::Kind::Interrupted`].
pub(crate) fn write(
    path: &Path,
    entries: &[Value],
    small: &Small,
    large: &Large<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let layout = json!({ "imageLayoutVersion": "1.0.0" });
    let file = File::create(path).map_err(Error::io(path))?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, file));
    for (name, value) in [("oci-layout", layout), ("index.json", index)] {
        put(&mut tar, name, value.to_string().as_bytes()).map_err(Error::io(path))?;
    }
    for (digest, bytes) in small {
        put(&mut tar, &blob_name(digest), bytes).map_err(Error::io(path))?;
    }
    for (digest, content) in large.iter().filter(|(digest, _)| !small.contains_key(*digest)) {
        cancel.check()?;
        put_large(&mut tar, digest, content, path)?;
    }
    tar.into_inner()
        .and_then(|mut inner| inner.flush())
        .map_err(Error::io(path))
}

pub(crate) fn blob_name(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn put(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
}

fn put_large(
    tar: &mut tar::Builder<impl Write>,
    digest: &str,
    content: &Content<'_>,
    path: &Path,
) -> Result<()> {
    let mut header = header(content.size);
    header.set_path(blob_name(digest)).map_err(Error::io(path))?;
    header.set_cksum();
    // Only the header: the content follows from its own writer.
    tar.append(&header, io::empty()).map_err(Error::io(path))?;
    (content.write)(tar.get_mut())?;
    let padding = content.size.next_multiple_of(BLOCK) - content.size;
    let zeros = vec![0; usize::try_from(padding).unwrap_or_default()];
    tar.get_mut().write_all(&zeros).map_err(Error::io(path))
}
