//! Bundle files as they are, as they were meant to be, and as somebody might send them.

mod refusals;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::*;
use crate::bundle::manifest::Origin;
use crate::bundle::{Bundle, find};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Silent};
use crate::store::hash;

const KEY: &str = "0123456789abcdef";

/// A home with a small bundle in it, a place for bundle files, and an empty home.
struct World {
    dir: tempfile::TempDir,
    bundle: Bundle,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = BundleLayout(Layout::under(&dir.path().join("one")).bundles().join(KEY));
        fs::create_dir_all(files.0.join("bin")).unwrap();
        fs::create_dir_all(files.0.join("addons/a")).unwrap();
        // A hole, then something that ends within a block.
        let mut disk = vec![0; 300_000];
        disk.extend(b"disk");
        fs::write(files.disk(), disk).unwrap();
        for path in [
            files.kernel(),
            files.initrd(),
            files.cmdline(),
            files.parts(),
            files.kubectl(),
        ] {
            fs::write(&path, format!("this is {}", path.display())).unwrap();
        }
        fs::write(files.addons().join("a/addon.toml"), "").unwrap();
        chmod(&files.kubectl(), 0o555);
        let manifest = Manifest {
            format: FORMAT,
            key: KEY.into(),
            arch: arch().into(),
            kubernetes: "v1.2.3".into(),
            created: "2026-01-01T00:00:00Z".into(),
            toolchain: "go1".into(),
            contract: CONTRACT,
            source: Origin::Build,
            base: "debian-trixie".into(),
            components: Vec::new(),
            images: Vec::new(),
            files: Manifest::sums(&files.0, &Cancel::default(), &Silent).unwrap(),
        };
        manifest.write(&files).unwrap();
        let bundle = Bundle {
            key: KEY.into(),
            layout: files,
            manifest,
        };
        Self { dir, bundle }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn other(&self) -> Layout {
        Layout::under(&self.dir.path().join("other"))
    }

    fn export(&self, name: &str) -> Exported {
        let target = Target::File {
            path: self.file(name),
            force: false,
        };
        export(&self.bundle, &target, &Silent, &Cancel::default()).unwrap()
    }

    fn import(&self, name: &str) -> Result<Imported> {
        let path = self.file(name);
        import(&self.other(), Input::File(&path), &Silent, &Cancel::default())
    }

    /// What an import that must fail says; nothing is left of it.
    fn refused(&self, name: &str) -> String {
        let error = self.import(name).unwrap_err();
        assert_eq!(error.kind(), Kind::Bundle, "{error}");
        assert!(!error.hints().is_empty(), "{error}");
        self.nothing_is_left();
        let text = error.to_string();
        text.strip_prefix(&format!("{}: ", self.file(name).display()))
            .unwrap_or(&text)
            .to_owned()
    }

    fn nothing_is_left(&self) {
        let left = fs::read_dir(self.other().bundles()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something is left of an import");
    }

    /// The entries of a good bundle file.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::file(
            MANIFEST,
            &fs::read(self.bundle.layout.manifest()).unwrap(),
        )];
        for name in self.bundle.manifest.files.keys() {
            entries.push(Entry::file(
                name,
                &fs::read(self.bundle.layout.0.join(name)).unwrap(),
            ));
        }
        entries
    }

    /// Entries of a bundle file whose manifest says something else.
    fn with_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Vec<Entry> {
        let mut manifest = self.bundle.manifest.clone();
        change(&mut manifest);
        let mut entries = self.entries();
        entries[0] = Entry::file(MANIFEST, toml::to_string(&manifest).unwrap().as_bytes());
        entries
    }

    fn pack(&self, name: &str, entries: &[Entry]) {
        fs::write(self.file(name), packed(&tar_of(entries))).unwrap();
    }

    /// Packs entries and gives what an import of them says.
    fn refusal(&self, entries: &[Entry]) -> String {
        self.pack("bad.sampan", entries);
        self.refused("bad.sampan")
    }
}

/// One entry of an archive, as wrong as one likes.
#[derive(Clone)]
struct Entry {
    name: String,
    kind: tar::EntryType,
    bytes: Vec<u8>,
    /// What the header says, if not the truth.
    size: Option<u64>,
}

impl Entry {
    fn file(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.into(),
            kind: tar::EntryType::Regular,
            bytes: bytes.to_vec(),
            size: None,
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        // The safe way to set a name refuses some.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        if entry.kind.is_symlink() || entry.kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_mode(0o644);
        header.set_size(entry.size.unwrap_or(entry.bytes.len() as u64));
        header.set_cksum();
        builder.append(&header, &*entry.bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let world = World::new();
    let exported = world.export("x.sampan");
    let bytes = fs::read(world.file("x.sampan")).unwrap();
    assert_eq!(
        (exported.size, exported.sha256.clone()),
        (bytes.len() as u64, hash::bytes(&bytes))
    );
    // Any tar can list it, the manifest first.
    let mut text = Vec::new();
    let file = Box::new(fs::File::open(world.file("x.sampan")).unwrap());
    let mut stream = stream::Stream::open(file, "x", &Cancel::default()).unwrap();
    stream.read_to_end(&mut text).unwrap();
    let mut archive = tar::Archive::new(&*text);
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.path().unwrap(), Path::new("bundle.toml"));

    assert_eq!(peek(&world.file("x.sampan")).unwrap(), world.bundle.manifest);
    let imported = world.import("x.sampan").unwrap();
    assert!(!imported.was_here);
    assert_eq!(imported.bundle.manifest, world.bundle.manifest);
    let files = &imported.bundle.layout;
    assert_eq!(imported.bundle.manifest.verify(files, &Silent).unwrap(), None);
    assert_eq!(
        find(&world.other(), KEY).unwrap().as_ref(),
        Some(&imported.bundle)
    );
    assert_eq!((mode(&files.kubectl()), mode(&files.disk())), (0o555, 0o444));
    use std::os::unix::fs::MetadataExt;
    let disk = files.disk().metadata().unwrap();
    assert!(disk.blocks() * 512 < disk.len() / 2, "the hole is filled");

    let again = world.import("x.sampan").unwrap();
    assert!(again.was_here && !again.differs);
    assert_eq!(fs::read_dir(world.other().bundles()).unwrap().count(), 1);
}

#[test]
fn the_same_bundle_gives_the_same_file() {
    let world = World::new();
    let first = world.export("1.sampan");
    assert_eq!(first, world.export("2.sampan"));
    assert_eq!(
        fs::read(world.file("1.sampan")).unwrap(),
        fs::read(world.file("2.sampan")).unwrap()
    );
}

#[test]
fn a_file_that_is_there_stays_unless_forced() {
    let world = World::new();
    fs::write(world.file("x.sampan"), "mine").unwrap();
    let target = |force| Target::File {
        path: world.file("x.sampan"),
        force,
    };
    let export = |force| export(&world.bundle, &target(force), &Silent, &Cancel::default());
    let error = export(false).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert_eq!(fs::read(world.file("x.sampan")).unwrap(), b"mine");
    export(true).unwrap();
    world.import("x.sampan").unwrap();
}

#[test]
fn a_damaged_bundle_is_not_exported_and_nothing_is_left() {
    let world = World::new();
    let names = || {
        let names = fs::read_dir(world.dir.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    let target = Target::File {
        path: world.file("x.sampan"),
        force: false,
    };
    let cancelled = Cancel::default();
    cancelled.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let error = export(&world.bundle, &target, &Silent, &cancelled).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    for (text, what) in [("DISK", "disk.raw"), ("", "disk.raw")] {
        fs::write(world.bundle.layout.disk(), text).unwrap();
        let error = export(&world.bundle, &target, &Silent, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Bundle, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    fs::remove_file(world.bundle.layout.disk()).unwrap();
    let error = export(&world.bundle, &target, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::HostPath, "{error}");
    assert_eq!(names(), ["one"]);
}

#[test]
fn what_a_killed_export_left_is_taken_over_and_another_one_at_work_is_not() {
    let world = World::new();
    let left = world.file(".new-x.sampan");
    fs::write(&left, vec![7; 1 << 20]).unwrap();
    world.export("x.sampan");
    assert!(!left.exists());
    world.import("x.sampan").unwrap();
    let _lock = crate::store::lock::Lock::try_acquire_in(&world.file(".new-y.sampan"))
        .unwrap()
        .unwrap();
    let target = Target::File {
        path: world.file("y.sampan"),
        force: false,
    };
    let error = export(&world.bundle, &target, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
}

#[test]
fn a_directory_with_a_bundle_is_imported_like_a_file() {
    let world = World::new();
    let dir = &world.bundle.layout.0;
    let import = || import_dir(&world.other(), dir, &Silent, &Cancel::default());
    let disk = world.bundle.layout.disk();
    let whole = fs::read(&disk).unwrap();
    for wrong in [b"short".to_vec(), vec![1; whole.len()]] {
        fs::write(&disk, wrong).unwrap();
        assert_eq!(import().unwrap_err().kind(), Kind::Bundle);
        world.nothing_is_left();
    }
    fs::write(&disk, whole).unwrap();
    assert_eq!(import().unwrap().bundle.manifest, world.bundle.manifest);
    assert!(import().unwrap().was_here);
}
