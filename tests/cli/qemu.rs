//! A host whose QEMU is not there, or too old: known at once, and before anything long begins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::TestEnvironment;

/// The most that a user should wait for this.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Starts with nothing in PATH but what is in `bin`; what can be seen of it. The host may be busy, so the best of some tries counts.
fn start(env: &mut TestEnvironment) -> String {
    let bin = env.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    env.set("PATH", &bin.to_string_lossy());
    let mut times = Vec::new();
    let mut seen = String::new();
    while times.len() < 5 && !times.iter().any(|time| *time < AT_ONCE) {
        let began = Instant::now();
        seen = env.run("start --driver qemu --memory 3g");
        times.push(began.elapsed());
    }
    assert!(times.iter().any(|time| *time < AT_ONCE), "{times:?}");
    seen
}

fn nothing_was_begun(env: &TestEnvironment) {
    assert!(!env.layout().profile("sampan").dir.exists());
    assert!(!env.layout().bundles().exists() && !env.layout().build().exists());
    assert!(!env.kubeconfig().exists());
    assert_eq!(env.status("status"), 85);
}

#[test]
fn without_qemu_a_start_is_55_and_tells_how_to_install_it() {
    let mut env = TestEnvironment::new();
    let seen = start(&mut env);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        insta::assert_snapshot!(seen, @r#"
        status: 55
        --- stdout
        making cluster "sampan": qemu, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
        ✗ checking the driver (TIME)
        --- stderr
        X Exiting due to DRV_NOT_HEALTHY: qemu-system-x86_64 is not installed
        hint: install it: `apt install qemu-system-x86 qemu-utils` (Debian, Ubuntu), `dnf install qemu-kvm qemu-img` (Fedora), `pacman -S qemu-base` (Arch); on Arm `apt install qemu-system-arm qemu-utils`
        "#);
    }
    assert!(seen.starts_with("status: 55\n"), "{seen}");
    nothing_was_begun(&env);
}

#[test]
fn a_qemu_that_is_too_old_is_56_and_tells_how_to_upgrade() {
    let mut env = TestEnvironment::new();
    for arch in ["x86_64", "aarch64"] {
        let program = env.home().join("bin").join(format!("qemu-system-{arch}"));
        env.write(
            &program,
            "#!/bin/sh\necho 'QEMU emulator version 4.2.1 (Debian 1:4.2-3)'\n",
        );
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let seen = start(&mut env);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        insta::assert_snapshot!(seen, @r#"
        status: 56
        --- stdout
        making cluster "sampan": qemu, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
        ✗ checking the driver (TIME)
        --- stderr
        X Exiting due to DRV_UNSUPPORTED: [DIR]/home/bin/qemu-system-x86_64 is version 4.2.1, and at least 8.2.0 is needed
        hint: upgrade it; Debian 12 has a newer one in bookworm-backports: `apt install -t bookworm-backports qemu-system-x86 qemu-utils`
        "#);
    }
    assert!(seen.starts_with("status: 56\n"), "{seen}");
    nothing_was_begun(&env);
}
