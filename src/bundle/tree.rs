//! The `images/` tree: embedded in the binary, so that an installed sampan builds bundles too, and unpacked where it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use include_dir::{Dir, DirEntry, File, include_dir};

use super::catalog::Catalog;
use crate::error::{Error, Kind, Result};
use crate::store::{atomic, hash};

static IMAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/images");

/// What only bundles of the source `upstream` are made from. It is no part of a built bundle: neither of its key nor of the tree
/// that it is built in.
const UPSTREAM_ONLY: [&str; 2] = ["upstream.toml", "upstream"];

/// The embedded catalog.
///
/// # Errors
/// [`Kind::Bundle`] when it has a mistake.
pub fn catalog() -> Result<Catalog> {
    let text = IMAGES.get_file("catalog.toml").and_then(File::contents_utf8);
    Catalog::parse(text.ok_or_else(|| Error::new(Kind::Internal, "no catalog.toml in this build of sampan"))?)
}

/// The text of a file of the tree.
///
/// # Errors
/// [`Kind::Internal`]: the files are ours.
pub(super) fn text(name: &str) -> Result<&'static str> {
    let text = IMAGES.get_file(name).and_then(File::contents_utf8);
    text.ok_or_else(|| Error::new(Kind::Internal, format!("no {name} in this build of sampan")))
}

/// The hash of the whole tree that bundles are built from, or of one folder of it.
pub(super) fn hash_of(folder: &str) -> String {
    let files = files().iter();
    let files = files.map(|file| (file.path(), file.contents()));
    sum_of(files.filter(|(path, _)| path.starts_with(folder)))
}

/// The hash of files, those of the source `upstream` left out.
fn sum_of<'a>(files: impl Iterator<Item = (&'a Path, &'a [u8])>) -> String {
    let built = files.filter(|(path, _)| !is_upstream_only(path));
    let key = built.fold(hash::Key::new("images tree 1"), |key, (path, contents)| {
        key.with(&path.to_string_lossy(), contents)
    });
    key.finish()
}

/// The hash of what only the source `upstream` needs.
pub(super) fn upstream_hash() -> String {
    let files = all().into_iter().filter(|file| is_upstream_only(file.path()));
    let key = files.fold(hash::Key::new("upstream tree 1"), |key, file| {
        key.with(&file.path().to_string_lossy(), file.contents())
    });
    key.finish()
}

/// The text of a file that only the source `upstream` needs.
pub(super) fn upstream_file(path: &str) -> Option<&'static str> {
    IMAGES.get_file(path)?.contents_utf8()
}

fn is_upstream_only(path: &Path) -> bool {
    UPSTREAM_ONLY.iter().any(|only| path.starts_with(only))
}

/// Unpacks the tree to `build`/tree-HASH, unless it is there; trees of other versions of sampan are removed. The caller holds the
/// lock of the build directory.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn unpack(build: &Path) -> Result<PathBuf> {
    let mut name = format!("tree-{}", hash_of(""));
    name.truncate("tree-".len() + 16);
    remove_others(build, &name)?;
    let target = build.join(name);
    if is_whole(&target) {
        return Ok(target);
    }
    atomic::remove(&target)?;
    let dir = atomic::Dir::begin(&target)?;
    copy("", dir.path())?;
    dir.commit()?;
    Ok(target)
}

/// Writes the addons of this sampan into a directory, as a bundle has them.
///
/// # Errors
/// The I/O error with the path.
pub fn write_addons(to: &Path) -> Result<()> {
    copy("addons", to)
}

/// Writes the tree, or what one folder of it holds, into a directory.
///
/// # Errors
/// The I/O error with the path.
fn copy(folder: &str, to: &Path) -> Result<()> {
    for file in files() {
        let Ok(name) = file.path().strip_prefix(folder) else {
            continue;
        };
        let path = to.join(name);
        if let Some(parent) = path.parent() {
            atomic::make_dir(parent)?;
        }
        fs::write(&path, file.contents()).map_err(Error::io(&path))?;
        // The embedded tree has no permissions; nothing else in it is a program.
        let mode = if path.extension().is_some_and(|extension| extension == "sh") {
            0o755
        } else {
            0o644
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::io(&path))?;
    }
    Ok(())
}

fn is_whole(dir: &Path) -> bool {
    files()
        .iter()
        .all(|file| fs::read(dir.join(file.path())).is_ok_and(|bytes| bytes == file.contents()))
}

fn remove_others(build: &Path, keep: &str) -> Result<()> {
    let Ok(entries) = fs::read_dir(build) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("tree-") && name != keep {
            atomic::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// All files that bundles are built from, sorted by path.
fn files() -> &'static [&'static File<'static>] {
    static FILES: OnceLock<Vec<&'static File<'static>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let files = all().into_iter();
        files.filter(|file| !is_upstream_only(file.path())).collect()
    })
}

/// All files, sorted by path.
fn all() -> Vec<&'static File<'static>> {
    let mut files = Vec::new();
    collect(&IMAGES, &mut files);
    files.sort_by_key(|file| file.path());
    files
}

fn collect(dir: &'static Dir<'static>, files: &mut Vec<&'static File<'static>>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => collect(dir, files),
            DirEntry::File(file) => files.push(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Manifest;
    use super::*;
    use crate::layout::BundleLayout;
    use crate::progress::{Cancel, Silent};

    #[test]
    fn the_tree_is_unpacked_once_and_mended_when_changed() {
        let build = tempfile::tempdir().unwrap();
        fs::create_dir(build.path().join("tree-0123")).unwrap();
        let tree = unpack(build.path()).unwrap();
        assert!(
            tree.join("base/build.sh")
                .metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o100
                != 0
        );
        assert!(!build.path().join("tree-0123").exists());
        let catalog = tree.join("catalog.toml");
        let before = catalog.metadata().unwrap().modified().unwrap();
        unpack(build.path()).unwrap();
        assert_eq!(catalog.metadata().unwrap().modified().unwrap(), before);
        fs::write(&catalog, "").unwrap();
        unpack(build.path()).unwrap();
        assert!(catalog.metadata().unwrap().len() > 0);
    }

    #[test]
    fn addons_are_part_of_what_a_bundle_is_checked_for() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = BundleLayout(dir.path().to_owned());
        write_addons(&bundle.addons()).unwrap();
        let sums = Manifest::sums(dir.path(), &Cancel::default(), &Silent).unwrap();
        for name in ["addons/ingress/addon.toml", "addons/registry/registry.yaml"] {
            assert!(sums.contains_key(name), "{name}");
        }
        assert_ne!(hash_of("addons"), hash_of("base"));
    }

    #[test]
    fn what_only_upstream_needs_is_no_part_of_a_built_bundle() {
        let built: [(&Path, &[u8]); 2] = [
            (Path::new("catalog.toml"), b"c"),
            (Path::new("base/build.sh"), b"b"),
        ];
        let before = sum_of(built.into_iter());
        let more: [(&Path, &[u8]); 2] = [
            (Path::new("upstream.toml"), b"u"),
            (Path::new("upstream/cloud/x"), b"x"),
        ];
        assert_eq!(sum_of(built.into_iter().chain(more)), before);
        // Only these names, and nothing that merely begins so.
        let other: [(&Path, &[u8]); 1] = [(Path::new("upstream.toml.sh"), b"u")];
        assert_ne!(sum_of(built.into_iter().chain(other)), before);
        for file in files() {
            assert!(!is_upstream_only(file.path()), "{}", file.path().display());
        }
    }

    #[test]
    fn nothing_that_a_build_leaves_is_in_the_tree() {
        for file in files() {
            let size = file.contents().len();
            assert!(
                size < 512 * 1024,
                "{} has {size} bytes: is it a build's output?",
                file.path().display()
            );
        }
        assert_ne!(hash_of("base"), hash_of("containers"));
    }
}
