//! Disks that are full and directories that cannot be written: told with the path and a way out, and nothing is half-written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sampan_test_support::disk::{leave_kib, may_mount, mount};
use serde_json::Value;

use crate::life::alone;
use crate::support::{TestEnvironment, is_root};

/// A file that is read as a whole, or is not there.
fn whole(path: &Path, is_whole: impl Fn(&str) -> bool) {
    match fs::read_to_string(path) {
        Ok(text) => assert!(is_whole(&text), "{} is half-written:\n{text}", path.display()),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

fn is_profile(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key("spec"))
}

fn is_kubeconfig(text: &str) -> bool {
    yaml_serde::from_str::<Value>(text).is_ok_and(|value| value["kind"] == "Config")
}

/// The error of a full disk, with the place and a hint.
pub(crate) fn assert_full(seen: &str, place: &str) {
    let lines = seen.to_lowercase();
    assert!(
        seen.starts_with("status: 26\n")
            && seen.contains("X Exiting due to RSRC_INSUFFICIENT_STORAGE: ")
            && lines.contains("no space left on device")
            && seen.contains(place)
            && seen.contains("hint: free some space"),
        "{seen}"
    );
}

#[test]
fn a_start_on_a_full_disk_completes_when_there_is_space() {
    let _alone = alone();
    if !may_mount("disk::a_start_on_a_full_disk_completes_when_there_is_space") {
        return;
    }
    let env = TestEnvironment::new();
    let home = env.sampan_home();
    fs::create_dir(&home).unwrap();
    mount("size=64m", &home);
    env.make_bundle();
    let profile = env.layout().profile("sampan");
    // The space left doubles until a start comes further, and is none again then: everything a start writes meets a full disk.
    let (mut free, mut places) = (0, Vec::new());
    loop {
        leave_kib(&home, free);
        let seen = env.run("start --fresh --driver fake --memory 3g");
        whole(&profile.profile_toml(), is_profile);
        whole(&env.kubeconfig(), is_kubeconfig);
        if seen.starts_with("status: 0") {
            break;
        }
        assert_full(&seen, "[DIR]/sampan");
        assert!(free < 8 * 1024, "it never ends: {seen}");
        free = if places.contains(&seen) {
            (free * 2).max(4)
        } else {
            0
        };
        places.push(seen);
    }
    places.dedup();
    assert!(places.len() > 3, "{places:#?}");
    leave_kib(&home, 8 * 1024);
    assert_eq!(env.status("status"), 0);
    // Stopping and deleting need no space.
    leave_kib(&home, 0);
    env.ok("stop --shutdown");
    env.ok("delete");
    assert!(!profile.dir.exists());
}

#[test]
fn a_kubeconfig_on_a_full_disk_stays_as_it_was() {
    let _alone = alone();
    if !may_mount("disk::a_kubeconfig_on_a_full_disk_stays_as_it_was") {
        return;
    }
    let mut env = TestEnvironment::with_bundle();
    let disk = env.home().join("disk");
    fs::create_dir(&disk).unwrap();
    mount("size=1m", &disk);
    let kubeconfig = disk.join("config");
    env.set("KUBECONFIG", &kubeconfig.to_string_lossy());
    let foreign = "apiVersion: v1\nkind: Config\ncurrent-context: mine\n";
    fs::write(&kubeconfig, foreign).unwrap();
    leave_kib(&disk, 0);
    let seen = env.run("start --fresh --driver fake --memory 3g");
    assert_full(&seen, "[DIR]/home/disk/config: no space left on device");
    assert_eq!(fs::read_to_string(&kubeconfig).unwrap(), foreign);
    assert_eq!(
        fs::read_dir(&disk).unwrap().count(),
        1,
        "something is left beside it"
    );

    leave_kib(&disk, 256);
    env.ok("start");
    assert_eq!(env.status("status"), 0);
    leave_kib(&disk, 0);
    let seen = env.run("delete");
    assert_full(&seen, "[DIR]/home/disk/config");
    whole(&kubeconfig, is_kubeconfig);
    leave_kib(&disk, 256);
    env.ok("delete");
    let text = fs::read_to_string(&kubeconfig).unwrap();
    assert!(!text.contains("sampan"), "{text}");
}

#[test]
fn a_home_that_cannot_be_written_is_37() {
    let _alone = alone();
    let env = TestEnvironment::new();
    let home = env.sampan_home();
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o555)).unwrap();
    let output = env.unprivileged("start --fresh --driver fake --memory 3g");
    insta::assert_snapshot!(env.seen(&output), @r#"
    status: 37
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    --- stderr
    X Exiting due to HOST_HOME_PERMISSION: [DIR]/sampan/data/profiles: permission denied
    hint: make it writable for you, or set SAMPAN_HOME to a directory that is
    "#);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn somebody_elses_cluster_is_37_and_left_alone() {
    let _alone = alone();
    if !is_root() {
        eprintln!("skipped: only root can make files that are somebody else's");
        return;
    }
    let env = TestEnvironment::with_bundle();
    env.ok("start --fresh --driver fake --memory 3g");
    for verb in ["status", "start", "stop", "delete"] {
        let seen = env.seen(&env.unprivileged(verb));
        assert!(
            seen.starts_with("status: 37\n")
                && seen.contains("X Exiting due to HOST_HOME_PERMISSION: [DIR]/sampan/data/")
                && seen.contains(": permission denied\nhint: make it writable for you"),
            "{verb}: {seen}"
        );
    }
    assert_eq!(env.status("status"), 0);
}

#[test]
fn a_read_only_disk_is_37() {
    if !may_mount("disk::a_read_only_disk_is_37") {
        return;
    }
    let env = TestEnvironment::new();
    let home = env.sampan_home();
    fs::create_dir(&home).unwrap();
    mount("ro", &home);
    insta::assert_snapshot!(env.run("start --fresh --driver fake --memory 3g"), @r#"
    status: 37
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    --- stderr
    X Exiting due to HOST_HOME_PERMISSION: [DIR]/sampan/data/profiles: read-only file system
    hint: make it writable for you, or set SAMPAN_HOME to a directory that is
    "#);
}
