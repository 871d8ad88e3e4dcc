//! Bundle files as they are, as they were meant to be, and as somebody might send them.

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
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
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

#[test]
fn what_is_no_bundle_file_is_told() {
    let world = World::new();
    for (bytes, told) in [
        (b"".to_vec(), "it is empty"),
        (b"(\xb5".to_vec(), "it is no bundle file"),
        (b"this is something else".to_vec(), "it is no bundle file"),
        (packed(b"no tar"), "it is cut short in bundle.toml"),
        (packed(&[b'x'; 4096]), "it is damaged in bundle.toml"),
        (
            packed(&[0; 4096]),
            "it is no bundle file: bundle.toml is not what it begins with",
        ),
    ] {
        fs::write(world.file("bad.sampan"), bytes).unwrap();
        assert_eq!(world.refused("bad.sampan"), told);
    }
    let entries = world.entries();
    assert!(
        world
            .refusal(&entries[1..])
            .contains("bundle.toml is not what it begins with")
    );
    let mut large = entries.clone();
    large[0].size = Some(MANIFEST_MOST + 1);
    assert!(
        world
            .refusal(&large)
            .contains("bundle.toml is not what it begins with")
    );
    assert_eq!(world.import("none.sampan").unwrap_err().kind(), Kind::HostPath);
    let error = import(
        &world.other(),
        Input::File(world.dir.path()),
        &Silent,
        &Cancel::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("is a directory"), "{error}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let world = World::new();
    world.export("x.sampan");
    let whole = fs::read(world.file("x.sampan")).unwrap();
    for length in (1..whole.len()).step_by(7).chain([whole.len() - 1]) {
        fs::write(world.file("bad.sampan"), &whole[..length]).unwrap();
        let told = world.refused("bad.sampan");
        assert!(
            told.contains("cut short") || told.contains("no bundle file"),
            "{length}: {told}"
        );
    }
    // Between two entries, and packed anew: nothing but the manifest tells.
    let mut entries = world.entries();
    entries.pop();
    assert_eq!(world.refusal(&entries), "it is cut short: vmlinuz is missing");
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let world = World::new();
    world.export("x.sampan");
    let whole = fs::read(world.file("x.sampan")).unwrap();
    for place in (0..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x11;
        fs::write(world.file("bad.sampan"), bytes).unwrap();
        // A byte that only says how much memory it takes to unpack changes nothing.
        match world.import("bad.sampan") {
            Ok(imported) => {
                assert_eq!(imported.bundle.manifest, world.bundle.manifest, "{place}");
                let files = &imported.bundle.layout;
                assert_eq!(imported.bundle.manifest.verify(files, &Silent).unwrap(), None);
                fs::remove_dir_all(&files.0).unwrap();
            }
            Err(error) => assert_eq!(error.kind(), Kind::Bundle, "{place}: {error}"),
        }
        world.nothing_is_left();
    }
    let mut longer = whole.clone();
    longer.extend(b"more");
    fs::write(world.file("bad.sampan"), longer).unwrap();
    world.refused("bad.sampan");
    let mut entries = world.entries();
    entries[4].bytes[0] ^= 1;
    let told = world.refusal(&entries);
    assert!(
        told.ends_with("has another content than its bundle.toml says"),
        "{told}"
    );
    let mut more = whole;
    more.extend(packed(b"and another"));
    fs::write(world.file("bad.sampan"), more).unwrap();
    assert_eq!(world.refused("bad.sampan"), "there is something behind its end");
}

#[test]
fn nothing_is_written_that_the_manifest_does_not_name() {
    let world = World::new();
    for name in ["../../../escaped", "/tmp/escaped", "more", "bin/../../x", ".", ""] {
        let mut entries = world.entries();
        entries.insert(1, Entry::file(name, b"x"));
        assert_eq!(
            world.refusal(&entries),
            format!("{name:?} is in it, and its bundle.toml does not say so")
        );
    }
    let mut entries = world.entries();
    entries.push(entries[2].clone());
    assert_eq!(world.refusal(&entries), "bin/kubectl is in it twice");
    let mut entries = world.entries();
    entries.push(entries[0].clone());
    assert!(world.refusal(&entries).starts_with("\"bundle.toml\" is in it"));
}

#[test]
fn a_manifest_that_names_files_elsewhere_is_refused() {
    let world = World::new();
    for name in [
        "../escaped",
        "/etc/escaped",
        "a//b",
        "a/./b",
        "",
        "a/..",
        "bundle.toml",
        "a\nb",
    ] {
        let entries = world.with_manifest(|manifest| {
            let sum = manifest.files["cmdline"].clone();
            manifest.files.insert(name.into(), sum);
        });
        assert_eq!(
            world.refusal(&entries),
            format!("{name:?} would be a file outside of the bundle")
        );
    }
    for key in ["", ".", "..", "../x", "a/b", "-x", "A"] {
        let entries = world.with_manifest(|manifest| manifest.key = key.into());
        assert!(
            world.refusal(&entries).ends_with("is no key of a bundle"),
            "{key}"
        );
    }
    let entries = world.with_manifest(|manifest| drop(manifest.files.remove("parts.img")));
    assert_eq!(world.refusal(&entries), "it is a bundle without parts.img");
}

#[test]
fn only_files_are_taken() {
    let world = World::new();
    use tar::EntryType;
    for (kind, title) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Directory, "a directory"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNULongName, "a long name"),
        (EntryType::XHeader, "an extended header"),
        (EntryType::GNUSparse, "a file with holes"),
    ] {
        let mut entries = world.entries();
        let at = entries.iter().position(|entry| entry.name == "cmdline").unwrap();
        entries[at].kind = kind;
        entries[at].bytes.clear();
        assert_eq!(
            world.refusal(&entries),
            format!("\"cmdline\" is {title}, and a bundle has files only")
        );
    }
}

#[test]
fn no_more_is_unpacked_than_the_manifest_says() {
    let world = World::new();
    let at = |entries: &[Entry]| entries.iter().position(|entry| entry.name == "cmdline").unwrap();
    let size = world.bundle.manifest.files["cmdline"].size;
    // A terabyte of zeros is a few kilobytes in the file: it is refused by its header.
    let mut entries = world.entries();
    let place = at(&entries);
    entries[place].size = Some(1 << 40);
    assert_eq!(
        world.refusal(&entries),
        format!("cmdline has {} bytes instead of {size}", 1_u64 << 40)
    );
    // Content that is longer than its header says is no header of the next entry.
    let mut entries = world.entries();
    entries[place].bytes.resize(1 << 20, b'x');
    entries[place].size = Some(size);
    let told = world.refusal(&entries);
    assert!(
        told.contains("damaged") || told.contains("another content"),
        "{told}"
    );
    // And behind the end there is nothing to find.
    let mut bytes = tar_of(&world.entries());
    bytes.extend(vec![0; 8 << 20]);
    bytes.push(1);
    fs::write(world.file("bad.sampan"), packed(&bytes)).unwrap();
    assert_eq!(world.refused("bad.sampan"), "there is something behind its end");
}

#[test]
fn what_was_made_for_others_is_refused_and_says_for_whom() {
    let world = World::new();
    let entries = world.with_manifest(|manifest| manifest.arch = "riscv64".into());
    assert_eq!(
        world.refusal(&entries),
        format!("it is a bundle for riscv64, and this host is {}", arch())
    );
    let entries = world.with_manifest(|manifest| manifest.contract = CONTRACT + 1);
    assert!(world.refusal(&entries).contains("made for another sampan"));
    let mut entries = world.entries();
    let text = String::from_utf8(entries[0].bytes.clone()).unwrap();
    let newer = text.replacen("format = 1", "format = 2\nunheard_of = true", 1);
    entries[0] = Entry::file(MANIFEST, newer.as_bytes());
    assert!(
        world
            .refusal(&entries)
            .contains("format 2 is from another sampan")
    );
    entries[0] = Entry::file(MANIFEST, b"\xff\xfe");
    assert_eq!(world.refusal(&entries), "bundle.toml is no text");
}

#[test]
fn a_damaged_bundle_here_is_replaced_and_another_of_its_key_stays() {
    let world = World::new();
    world.export("x.sampan");
    let here = world.import("x.sampan").unwrap().bundle;
    fs::remove_file(here.layout.kernel()).unwrap();
    assert!(!world.import("x.sampan").unwrap().was_here);
    let entries = world.with_manifest(|manifest| {
        let name = manifest.files.remove("addons/a/addon.toml").unwrap();
        manifest.files.insert("addons/b/addon.toml".into(), name);
    });
    world.pack("y.sampan", &entries);
    let imported = world.import("y.sampan").unwrap();
    assert!(imported.was_here && imported.differs);
}

/// A source that never ends, and says when it is asked.
struct Endless;

impl Read for Endless {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(std::time::Duration::from_secs(3600));
        Ok(0)
    }
}

#[test]
fn an_interrupt_ends_an_import_whose_source_hangs() {
    let world = World::new();
    let cancel = Cancel::default();
    let result = std::thread::scope(|scope| {
        let open = scope.spawn(|| stream::Stream::open(Box::new(Endless), "it", &cancel).map(drop));
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        open.join().unwrap()
    });
    assert_eq!(result.unwrap_err().kind(), Kind::Interrupted);
    world.export("x.sampan");
    let path = world.file("x.sampan");
    let error = import(&world.other(), Input::File(&path), &Silent, &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    world.nothing_is_left();
}

#[test]
fn a_source_that_cannot_be_read_says_why() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.0, true) {
                buffer[..4].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
                return Ok(4);
            }
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let mut stream = stream::Stream::open(Box::new(Broken(false)), "/media/x", &Cancel::default()).unwrap();
    let mut bytes = Vec::new();
    assert!(stream.read_to_end(&mut bytes).is_err());
    assert_eq!(
        stream.explain("/media/x", "").to_string(),
        "/media/x: input/output error"
    );
}
