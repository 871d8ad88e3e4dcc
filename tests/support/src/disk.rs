//! Full disks: file systems of a test's own, in a mount namespace that nobody else sees.

use std::path::Path;
use std::process::Command;

/// Set in the copy of a test program that may mount.
const INSIDE: &str = "SAMPAN_TEST_INSIDE_NAMESPACE";

/// Whether this process may mount file systems that nobody else sees. One that may not runs the test of this name again as one that
/// may, and gives false; where the system does not allow that, it says so.
#[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
pub fn may_mount(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let flags = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let allowed = Command::new("unshare").args([flags, "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {test}: this system does not let this user make a mount namespace");
        return false;
    }
    let output = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Mounts a file system in memory, with these options of `mount` (`size=64m`).
pub fn mount(options: &str, dir: &Path) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "sampan-test"])
        .arg(dir)
        .status()
        .unwrap();
    assert!(status.success(), "mount -o {options} {}", dir.display());
}

/// Makes a mounted disk just so large that this much is free on it.
pub fn leave_kib(dir: &Path, free: u64) {
    let disk = rustix::fs::statvfs(dir).unwrap();
    let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize / 1024;
    mount(&format!("remount,size={}k", used + free), dir);
}
