//! What is not taken: files that are damaged, cut short, made for others, or meant to do harm.

use super::*;

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
