//! Layers of container images as tar streams: the same inputs give the same bytes, on any host and by any user.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::store::hash;

/// What is at a path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Link { target: PathBuf },
}

/// A layer: paths, without a leading slash, and what is there. Everything belongs to root and has time 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layer {
    nodes: BTreeMap<PathBuf, Node>,
}

/// Size and digest of a layer's tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// In bytes.
    pub(super) size: u64,
    /// sha256 in hex.
    pub(super) sha256: String,
}

impl Layer {
    /// Adds a program at an absolute path.
    pub(super) fn program(&mut self, path: &str, from: PathBuf) {
        self.put(path, Node::File { from, mode: 0o755 });
    }

    /// Adds a symbolic link at an absolute path.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.put(
            path,
            Node::Link {
                target: PathBuf::from(target),
            },
        );
    }

    fn put(&mut self, path: &str, node: Node) {
        let path = PathBuf::from(path.trim_start_matches('/'));
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.nodes
                .entry(parent.to_owned())
                .or_insert(Node::Dir { mode: 0o755 });
        }
        self.nodes.insert(path, node);
    }

    /// A layer that is what a directory holds.
    pub(super) fn of_dir(dir: &Path) -> Result<Self> {
        let mut layer = Self::default();
        layer.add_dir(dir, Path::new(""))?;
        Ok(layer)
    }

    fn add_dir(&mut self, root: &Path, relative: &Path) -> Result<()> {
        let dir = root.join(relative);
        for entry in fs::read_dir(&dir).map_err(Error::io(&dir))? {
            let path = entry.map_err(Error::io(&dir))?.path();
            let name = relative.join(path.file_name().unwrap_or_default());
            let meta = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_dir() {
                self.nodes.insert(name.clone(), Node::Dir { mode });
                self.add_dir(root, &name)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::io(&path))?;
                self.nodes.insert(name, Node::Link { target });
            } else {
                self.nodes.insert(name, Node::File { from: path, mode });
            }
        }
        Ok(())
    }

    /// Writes the tar stream.
    pub(super) fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        for (path, node) in &self.nodes {
            append(&mut tar, path, node)?;
        }
        tar.finish()
    }

    /// What the tar stream will be.
    pub(super) fn blob(&self) -> io::Result<Blob> {
        let mut sink = HashSink {
            hash: Sha256::new(),
            size: 0,
        };
        self.write(&mut sink)?;
        Ok(Blob {
            size: sink.size,
            sha256: hash::hex(&sink.hash.finalize()),
        })
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &Path, node: &Node) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match node {
        Node::Dir { mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            tar.append_data(&mut header, path.join(""), io::empty())
        }
        Node::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, target)
        }
        Node::File { from, mode } => {
            let in_file =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
            let file = File::open(from).map_err(in_file)?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(file.metadata().map_err(in_file)?.len());
            tar.append_data(&mut header, path, io::BufReader::with_capacity(1 << 18, file))
        }
    }
}

/// Counts and hashes what is written to it.
struct HashSink {
    hash: Sha256,
    size: u64,
}

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_parents_fixed_owners_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("p");
        fs::write(&program, "program").unwrap();
        let mut layer = Layer::default();
        layer.program("/usr/bin/p", program);
        layer.link("/usr/bin/q", "p");
        let mut bytes = Vec::new();
        layer.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, 0)
            );
            seen.push((
                entry.path().unwrap().display().to_string(),
                header.mode().unwrap(),
            ));
        }
        let expected = [
            ("usr/", 0o755),
            ("usr/bin/", 0o755),
            ("usr/bin/p", 0o755),
            ("usr/bin/q", 0o777),
        ];
        assert_eq!(seen, expected.map(|(path, mode)| (path.to_owned(), mode)));
        let blob = layer.blob().unwrap();
        assert_eq!(
            blob,
            Blob {
                size: bytes.len() as u64,
                sha256: hash::bytes(&bytes)
            }
        );
    }

    #[test]
    fn two_directories_with_the_same_content_give_the_same_layer() {
        let make = |names: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                fs::write(dir.path().join(name), name).unwrap();
            }
            fs::create_dir(dir.path().join("tmp")).unwrap();
            fs::set_permissions(dir.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
            Layer::of_dir(dir.path()).unwrap().blob().unwrap()
        };
        assert_eq!(make(&["a", "b", "c"]), make(&["c", "b", "a"]));
        assert_ne!(make(&["a", "b"]), make(&["a", "c"]));
    }
}
