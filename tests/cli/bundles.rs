//! Bundles that are carried from one machine to another, and where new clusters get theirs from. The bundle is the stand-in that the
//! test driver can start.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sampan::bundle::{self, Manifest};
use sampan::layout::BundleLayout;
use sampan::progress::{Cancel, Silent};
use sampan_test_support::disk::{leave_kib, may_mount, mount};
use serde_json::Value;

use crate::disk::assert_full;
use crate::faults::{signal, until};
use crate::life::alone;
use crate::support::TestEnvironment;

/// Text without keys, sizes and sums.
fn plain(env: &TestEnvironment, text: &str) -> String {
    let text = env.filtered(text).replace(&bundle::current_key().unwrap(), "KEY");
    let word = |word: &str| match word {
        _ if word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit()) => "SUM".to_owned(),
        _ if word.parse::<u64>().is_ok() => "N".to_owned(),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn run(env: &TestEnvironment, line: &str) -> String {
    plain(env, &env.run(line))
}

/// The bundle file of the stand-in, on a stick of its own.
fn stick() -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::with_bundle();
    env.ok("bundle export k8s.sampan");
    let file = env.cwd().join("k8s.sampan");
    (env, file)
}

/// Nothing of an import is left: no bundle, no half of one.
fn nothing_is_left(env: &TestEnvironment) {
    let left = fs::read_dir(env.layout().bundles()).map_or(0, Iterator::count);
    assert_eq!(
        left,
        0,
        "something is left in {}",
        env.layout().bundles().display()
    );
}

#[test]
fn a_bundle_is_carried_to_another_machine_and_a_cluster_starts_there() {
    let _alone = alone();
    let here = TestEnvironment::with_bundle();
    insta::assert_snapshot!(run(&here, "bundle export k8s.sampan"), @r"
    status: N
    --- stdout
    ✓ exporting the bundle (TIME)
    bundle KEY is in k8s.sampan: N bytes, sha256 SUM
    --- stderr
    ");
    let file = here.cwd().join("k8s.sampan");
    insta::assert_snapshot!(run(&here, "bundle export k8s.sampan"), @r"
    status: N
    --- stdout
    ✗ exporting the bundle (TIME)
    --- stderr
    X Exiting due to GUEST_EXISTS: k8s.sampan: there is a file of this name already
    hint: choose another name, or replace it with --force
    ");
    assert_eq!(here.status("bundle export k8s.sampan"), 81);
    here.ok("bundle export k8s.sampan --force");

    let there = TestEnvironment::new();
    let import = format!("bundle import {}", file.display());
    insta::assert_snapshot!(run(&there, &import), @r"
    status: N
    --- stdout
    ✓ importing the bundle (TIME)
    bundle KEY with Kubernetes v1.36.3 is here now, N MB on the disk
    --- stderr
    ");
    insta::assert_snapshot!(run(&there, &import), @r"
    status: N
    --- stdout
    ✓ importing the bundle (TIME)
    bundle KEY with Kubernetes v1.36.3 is here already
    --- stderr
    ");
    insta::assert_snapshot!(run(&there, "bundle verify"), @r"
    status: N
    --- stdout
    ✓ checking the bundle (TIME)
    bundle KEY is whole: N files, N MB
    --- stderr
    ");
    let said = there.ok("start --fresh --driver fake --memory 3g");
    assert!(
        said.contains("taking the bundle that is here, built from source"),
        "{said}"
    );
    assert_eq!(there.status("status"), 0);
}

#[test]
fn a_bundle_goes_through_a_pipe() {
    let (here, file) = stick();
    let mut export = here.command(&["bundle", "export", "-"]);
    let mut export = export
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let there = TestEnvironment::new();
    let mut import = there.command(&["bundle", "import", "-"]);
    let output = import.stdin(export.stdout.take().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", there.seen(&output));
    assert!(export.wait().unwrap().success());
    there.ok("bundle verify");
    // Standard output has the bundle file and nothing else.
    let output = here.output("bundle export -");
    assert!(output.stdout == fs::read(file).unwrap() && output.stderr.is_empty());
}

#[test]
fn new_clusters_get_their_bundle_from_where_they_are_told() {
    let _alone = alone();
    let (here, file) = stick();
    let there = TestEnvironment::new();
    let start = "start --fresh --driver fake --memory 3g --source";
    let said = there.ok(&format!(
        "start --driver fake --memory 3g --download-only --source {}",
        file.display()
    ));
    assert!(
        said.contains("importing the bundle from") && said.contains("k8s.sampan, as asked"),
        "{said}"
    );
    assert!(
        said.ends_with("everything that a start needs is here\n"),
        "{said}"
    );
    let again = there.ok("start --driver fake --memory 3g --download-only");
    assert!(again.contains("taking the bundle that is here"), "{again}");
    assert!(!there.layout().profile("sampan").dir.exists());

    // A directory with bundle files, named in the environment; then an unpacked bundle.
    let mut there = TestEnvironment::new();
    fs::write(here.cwd().join("other.sampan"), "something else").unwrap();
    there.set("SAMPAN_SOURCE", &here.cwd().display().to_string());
    let said = there.ok("start --fresh --driver fake --memory 3g");
    assert!(
        said.contains("importing the bundle from") && said.contains("k8s.sampan, as asked"),
        "{said}"
    );
    assert_eq!(there.status("status"), 0);
    there.ok("delete");
    let unpacked = here.layout().bundles().join(bundle::current_key().unwrap());
    let there = TestEnvironment::new();
    there.ok(&format!("{start} {}", unpacked.display()));
    there.ok("delete");
    // By its key, as its file may be elsewhere by now.
    let key = bundle::current_key().unwrap();
    there.ok(&format!("{start} {}", &key[..8]));
}

#[test]
fn what_is_no_source_is_told() {
    let env = TestEnvironment::with_bundle();
    insta::assert_snapshot!(env.run("start --source upsteam"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--source upsteam` is no source: there is no such file, directory or bundle
    hint: did you mean `upstream`?
    ");
    env.ok("config set source relative/path");
    let seen = env.run("start");
    assert!(
        seen.starts_with("status: 14\n") && seen.contains("is a relative path"),
        "{seen}"
    );
}

#[test]
fn a_bundle_file_that_cannot_be_used_is_30_and_leaves_nothing() {
    let (_here, file) = stick();
    let env = TestEnvironment::new();
    let bad = env.cwd().join("bad.sampan");
    let whole = fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (bytes, told) in [
        (whole[..whole.len() / 2].to_vec(), "cut short"),
        (changed, ""),
        (b"something else".to_vec(), "it is no bundle file"),
    ] {
        fs::write(&bad, bytes).unwrap();
        for line in [
            "bundle import bad.sampan",
            "start --driver fake --memory 3g --source bad.sampan",
        ] {
            let seen = env.run(line);
            assert!(
                seen.starts_with("status: 30\n")
                    && seen.contains("X Exiting due to HOST_BUNDLE: ")
                    && seen.contains("bad.sampan: ")
                    && seen.contains(told)
                    && seen.contains("hint: "),
                "{line}: {seen}"
            );
            nothing_is_left(&env);
        }
    }
    assert!(!env.layout().profile("sampan").dir.exists());
    assert_eq!(env.status("bundle import none.sampan"), 35);
}

#[test]
fn an_import_onto_a_full_disk_is_26_and_leaves_nothing() {
    if !may_mount("bundles::an_import_onto_a_full_disk_is_26_and_leaves_nothing") {
        return;
    }
    let (here, file) = stick();
    let env = TestEnvironment::new();
    let home = env.sampan_home();
    fs::create_dir(&home).unwrap();
    mount("size=64m", &home);
    leave_kib(&home, 128);
    let seen = env.run(&format!("bundle import {}", file.display()));
    assert_full(&seen, "[DIR]/sampan/cache/bundles/");
    nothing_is_left(&env);
    leave_kib(&home, 8 * 1024);
    env.ok(&format!("bundle import {}", file.display()));
    // And a stick that is full.
    let disk = here.cwd().join("disk");
    fs::create_dir(&disk).unwrap();
    mount("size=64m", &disk);
    leave_kib(&disk, 16);
    let seen = here.run("bundle export disk/k8s.sampan");
    assert_full(&seen, "disk/k8s.sampan: no space left on device");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
}

/// Bytes that do not pack.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let here = TestEnvironment::with_bundle();
    let files = BundleLayout(here.layout().bundles().join(bundle::current_key().unwrap()));
    let mut manifest = Manifest::read(&files).unwrap().unwrap();
    fs::remove_file(files.manifest()).unwrap();
    fs::write(files.parts(), noise(40 << 20)).unwrap();
    manifest.files = Manifest::sums(&files.0, &Cancel::default(), &Silent).unwrap();
    manifest.write(&files).unwrap();
    here.ok("bundle export k8s.sampan");
    let whole = fs::read(here.cwd().join("k8s.sampan")).unwrap();

    let env = TestEnvironment::new();
    let mut import = env.command(&["bundle", "import", "-"]);
    let mut import = import
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The rest never comes.
    let mut input = import.stdin.take().unwrap();
    input.write_all(&whole[..whole.len() * 3 / 4]).unwrap();
    let begun = || {
        let mut entries = fs::read_dir(env.layout().bundles())
            .into_iter()
            .flatten()
            .flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().starts_with(".new-"))
    };
    until("the import", begun);
    signal(&import, "-INT");
    let output = import.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(11), "{}", env.seen(&output));
    nothing_is_left(&env);
    drop(input);
}

#[test]
fn a_bundle_that_is_damaged_is_told_and_replaced_by_an_import() {
    let (here, file) = stick();
    let kernel = |env: &TestEnvironment| -> PathBuf {
        env.layout()
            .bundles()
            .join(bundle::current_key().unwrap())
            .join("vmlinuz")
    };
    let damage = |path: &Path| {
        let modified = path.metadata().unwrap().modified().unwrap();
        fs::write(path, "NOTHING").unwrap();
        fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
    };
    damage(&kernel(&here));
    for line in [
        "bundle verify",
        "bundle show --verify",
        "bundle export again.sampan",
    ] {
        let seen = here.run(line);
        assert!(
            seen.starts_with("status: 30\n") && seen.contains("vmlinuz has another content"),
            "{line}: {seen}"
        );
    }
    assert!(!here.cwd().join("again.sampan").exists());
    fs::remove_file(kernel(&here)).unwrap();
    let output = here.output(&format!("bundle import {}", file.display()));
    let seen = here.seen(&output);
    assert!(
        seen.starts_with("status: 0\n") && seen.contains("is damaged (vmlinuz is missing); making it again"),
        "{seen}"
    );
    here.ok("bundle verify");
}

#[test]
fn prune_takes_what_nobody_uses() {
    let _alone = alone();
    let (env, file) = stick();
    let own = bundle::current_key().unwrap();
    let bundles = env.layout().bundles();
    // An old bundle: the same under another key.
    let old = bundles.join("00000000deadbeef");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("bundle.toml"), "format = 1").unwrap();
    env.write(&bundles.join(".new-x-1/disk.raw"), "half");
    env.write(&env.layout().downloads().join("parts/ab.part"), "half");
    env.write(&env.layout().downloads().join("sha256/cd"), "whole");
    env.write(&env.layout().build().join("components/.new-runc-1/x"), "half");
    env.write(&env.layout().build().join("components/runc/x"), "whole");
    let there = |path: &str| env.layout().cache.join(path).exists();
    let told = env.ok("bundle prune --dry-run");
    assert!(
        told.contains("bundle 00000000deadbeef would go") && old.exists(),
        "{told}"
    );
    let told = env.ok("bundle prune");
    for gone in [
        "bundles/00000000deadbeef",
        "bundles/.new-x-1",
        "downloads/parts/ab.part",
        "build/components/.new-runc-1",
    ] {
        assert!(!there(gone), "{gone} is still there: {told}");
    }
    for stays in [
        &*format!("bundles/{own}"),
        "downloads/sha256/cd",
        "build/components/runc",
    ] {
        assert!(there(stays), "{stays} is gone: {told}");
    }
    assert_eq!(env.ok("bundle prune"), "there is nothing to remove\n");
    env.ok("start --fresh --driver fake --memory 3g");
    env.ok("bundle prune --all");
    assert!(there(&format!("bundles/{own}")), "a cluster stands on it");
    assert!(!there("downloads/sha256/cd") && !there("build/components"));
    env.ok("delete");
    env.ok("bundle prune --all");
    let list: Vec<Value> = serde_json::from_str(&env.ok("bundle list -o json")).unwrap();
    assert!(list.is_empty(), "{list:?}");
    env.ok(&format!("bundle import {}", file.display()));
}
