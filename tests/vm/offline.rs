//! Story 10: a machine without a network gets its cluster from a bundle file, addons included.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{World, shared_cache, shown, text};

/// What a process needs to be cut off: no network, mounts that nobody else sees, and the end of all it started with its own.
const ALONE: [&str; 8] = [
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// Export here; import, start, addons and a pod there. The ready snapshot of the first story is shared, as its key is a hash of what
/// the bundle holds: had the import changed a byte of it, another one would be made, and the story would take minutes.
pub(crate) fn a_bundle_file_is_all_it_takes(world: &World) {
    let allowed = Command::new("unshare").args(ALONE).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: this system does not let this user make namespaces");
        return;
    }
    let dir = world.home().with_file_name("offline");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("k8s.sampan");
    let said = world.ok(&["bundle", "export", &file.to_string_lossy()]);
    println!("    {said}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/files/offline.sh");
    let output = Command::new("unshare")
        .args(ALONE)
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_sampan"))
        .args([&dir, &shared_cache(), &file])
        .env("SAMPAN_HOME", dir.join("home"))
        .env("SAMPAN_CACHE", world.cache())
        .env("KUBECONFIG", dir.join("kubeconfig"))
        .env_remove("SAMPAN_PROFILE")
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    let said = text(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", shown(&output));
    assert!(
        said.contains("is here now") && said.contains("taking the bundle that is here"),
        "{said}"
    );
    assert!(
        !said.contains("making the ready snapshot"),
        "the import changed the bundle:\n{said}"
    );
    fs::remove_dir_all(&dir).unwrap();
}
