//! Loading: only what the node lacks is sent.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::archive::{Archive, Image, Place, sum};
use super::{Engine, Parts, unpacked};
use crate::error::{Error, Kind, Result};

/// What the node says before anything is sent.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Digests of the pieces that its Docker has.
    pub has: HashSet<String>,
    /// Bytes that are free on its disk, if it told.
    pub free: Option<u64>,
}

impl Node {
    /// What a node prints: the bytes that are free, then the digests, a line each.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        Self {
            free: words.next().and_then(|free| free.parse().ok()),
            has: words.map(str::to_owned).collect(),
        }
    }
}

/// What became of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Images that were there already, by name or digest.
    pub there: Vec<String>,
    /// Images that are there now.
    pub new: Vec<String>,
    /// Bytes of images that were sent.
    pub sent: u64,
    /// Bytes of images that needed not be sent.
    pub spared: u64,
}

/// Loads the images of an archive. `ask` is called when something has to be sent.
///
/// # Errors
/// [`Kind::HostPath`] when a piece is neither in the archive nor in the node, [`Kind::Storage`] when the node's disk is full; what
/// Docker says.
pub fn load(engine: &Engine, archive: &Archive, ask: &dyn Fn() -> Node) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut wanted = Vec::new();
    for image in &archive.images {
        if is_there(engine, image)? {
            loaded.there.push(called(image));
        } else {
            wanted.push(image);
        }
    }
    let total: u64 = archive.blobs.values().map(|blob| blob.size).sum();
    if wanted.is_empty() {
        loaded.spared = total;
        return Ok(loaded);
    }
    let node = ask();
    let mut send = |node: &Node| {
        let (parts, sent) = parts(archive, node)?;
        if let Some(full) = too_full(archive, sent, node) {
            return Err(full);
        }
        loaded.sent += sent;
        take(engine, archive, parts, &wanted).map_err(|error| {
            if error.kind() == Kind::Storage {
                return error;
            }
            // When Docker gives up in the middle it hangs up, and its reason is lost.
            let node = ask();
            tracing::debug!(%error, sent, free = node.free, "the images were not taken");
            match too_full(archive, sent, &node) {
                Some(full) => full.because(error),
                None => error,
            }
        })
    };
    match send(&node) {
        // Something that was there a moment ago may have gone, as by `docker system prune`.
        Err(error) if error.kind() != Kind::Storage && !node.has.is_empty() => {
            tracing::debug!(%error, "all of the archive is sent");
            send(&Node {
                free: ask().free,
                ..Node::default()
            })?;
        }
        ended => ended?,
    }
    loaded.spared = total.saturating_sub(loaded.sent);
    loaded.new = wanted
        .into_iter()
        .map(called)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    Ok(loaded)
}

/// Whether what is to be sent finds no room.
fn too_full(archive: &Archive, sent: u64, node: &Node) -> Option<Error> {
    let free = node.free.filter(|free| *free < sent)?;
    Some(
        Error::new(
            Kind::Storage,
            format!(
                "the disk of the node is too full: {} has {} MB to send, {} MB are free",
                archive.place,
                sent >> 20,
                free >> 20
            ),
        )
        .hint("remove images with `sampan image rm` or `docker image prune`"),
    )
}

/// Has Docker take the images, and looks whether it has them whole.
fn take(engine: &Engine, archive: &Archive, parts: Parts, wanted: &[&Image]) -> Result<()> {
    engine
        .load(parts, &mut |_| ())
        .map_err(|error| said_by_node(archive, error))?;
    for image in wanted {
        let name = called(image);
        if !engine.is_complete(&name, &archive.arch)? {
            engine.remove(&name)?;
            let lost = Error::new(Kind::Guest, format!("{name} arrived without some of its layers"));
            return Err(said_by_node(archive, lost));
        }
    }
    Ok(())
}

fn said_by_node(archive: &Archive, error: Error) -> Error {
    if error.kind() == Kind::Storage {
        return error;
    }
    Error::new(
        Kind::Guest,
        format!("{}: the node does not take the images", archive.place),
    )
    .because(error)
    .hint("if the archive is damaged, make it anew: `docker save IMAGE -o FILE`")
}

fn called(image: &Image) -> String {
    image.name.clone().unwrap_or_else(|| image.digest.clone())
}

fn is_there(engine: &Engine, image: &Image) -> Result<bool> {
    let found = engine.inspect(image.name.as_ref().unwrap_or(&image.digest))?;
    Ok(found.is_some_and(|found| found["Id"] == Value::String(image.digest.clone())))
}

/// The layout without what the node has, and how many bytes of images are in it.
fn parts(archive: &Archive, node: &Node) -> Result<(Parts, u64)> {
    let mut parts = Parts::default();
    let mut sent = 0;
    parts.entry("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
    for (digest, blob) in &archive.blobs {
        let name = format!("blobs/{}", digest.replace(':', "/"));
        match &blob.at {
            // Descriptions are always sent: they are small, and the node looks into them first.
            Place::Memory(bytes) => parts.entry(&name, bytes.clone())?,
            _ if node.has.contains(digest) => continue,
            Place::File(at) => {
                // Docker would take it for something else, and the image for one without this layer.
                if sum(&archive.file, &archive.place, *at, blob.size)? != *digest {
                    return Err(unpacked::damaged(
                        &archive.place,
                        format!("{name} is not what its name says"),
                    ));
                }
                parts.entry_of(&name, &archive.file, *at, blob.size)?;
            }
            Place::Nowhere => {
                return Err(Error::new(
                    Kind::HostPath,
                    format!(
                        "{}: the archive is not complete: {digest} is missing, and the node has it neither",
                        archive.place
                    ),
                )
                .hint("make it anew: `docker save IMAGE -o FILE`"));
            }
        }
        sent += blob.size;
    }
    parts.entry("index.json", archive.index.clone())?;
    parts.close();
    Ok((parts, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_content_still_tells_what_is_free() {
        assert_eq!(Node::parse("4096").free, Some(4096));
        let node = Node::parse("4096\nsha256:a\nsha256:b");
        assert_eq!((node.free, node.has.len()), (Some(4096), 2));
        assert_eq!(Node::parse("").free, None);
    }
}
