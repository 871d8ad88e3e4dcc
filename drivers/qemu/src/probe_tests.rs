use std::time::Instant;

use super::*;

const GOOD: Facts = Facts {
    os: "linux",
    arch: Some(Arch::X86_64),
    kvm: Ok(()),
    hv_support: String::new(),
    accel_help: String::new(),
};

fn facts(os: &'static str, kvm: Result<(), ErrorKind>, hv_support: &str, accel_help: &str) -> Facts {
    Facts {
        os,
        arch: Some(Arch::X86_64),
        kvm,
        hv_support: hv_support.into(),
        accel_help: accel_help.into(),
    }
}

const ALL: &str = "Accelerators supported in QEMU binary:\ntcg\nkvm\nhvf";

#[test]
fn what_can_be_seen_settles_most_cases() {
    let settled = |facts: Facts| match facts.plan(Arch::X86_64) {
        Plan::Settled(verdict) => verdict,
        Plan::BootWithKvm => panic!("{facts:?} needs no boot"),
    };
    let absent = settled(facts("linux", Err(ErrorKind::NotFound), "", ALL));
    assert_eq!(absent.accelerator, Accelerator::Tcg);
    assert!(absent.reason.starts_with("there is no /dev/kvm"));
    let denied = settled(facts("linux", Err(ErrorKind::PermissionDenied), "", ALL));
    assert!(denied.accelerator == Accelerator::Tcg && denied.reason.contains("usermod -aG kvm"));
    let lean = settled(facts("linux", Ok(()), "", "tcg"));
    assert!(lean.accelerator == Accelerator::Tcg && lean.reason.contains("without kvm"));
    let mac = facts("macos", Err(ErrorKind::NotFound), "1", ALL);
    assert_eq!(settled(mac.clone()), Verdict::good(Accelerator::Hvf));
    assert_eq!(
        settled(Facts {
            hv_support: "0".into(),
            ..mac.clone()
        })
        .accelerator,
        Accelerator::Tcg
    );
    assert_eq!(
        settled(Facts {
            accel_help: "tcg".into(),
            ..mac
        })
        .accelerator,
        Accelerator::Tcg
    );
    assert_eq!(
        settled(facts("freebsd", Ok(()), "", ALL)).accelerator,
        Accelerator::Tcg
    );
    assert_eq!(
        Facts {
            accel_help: ALL.into(),
            ..GOOD
        }
        .plan(Arch::X86_64),
        Plan::BootWithKvm
    );
}

#[test]
fn only_guests_of_the_hosts_kind_are_accelerated() {
    let arm = |os, kvm| Facts {
        arch: Some(Arch::Aarch64),
        ..facts(os, kvm, "1", ALL)
    };
    for host in [
        facts("linux", Ok(()), "", ALL),
        facts("macos", Err(ErrorKind::NotFound), "1", ALL),
    ] {
        match host.plan(Arch::Aarch64) {
            Plan::Settled(verdict) => {
                assert_eq!(verdict.accelerator, Accelerator::Tcg);
                assert!(verdict.reason.contains("architecture"), "{}", verdict.reason);
            }
            Plan::BootWithKvm => panic!("a foreign guest on {host:?}"),
        }
    }
    assert_eq!(arm("linux", Ok(())).plan(Arch::Aarch64), Plan::BootWithKvm);
    assert_eq!(
        arm("macos", Err(ErrorKind::NotFound)).plan(Arch::Aarch64),
        Plan::Settled(Verdict::good(Accelerator::Hvf))
    );
}

#[test]
fn the_trial_is_of_a_machine_like_the_real_ones() {
    let path = Path::new("/x");
    let line = |arch| {
        let probe = Probe {
            program: path,
            version: String::new(),
            arch,
            kernel: None,
            cache_dir: path,
        };
        probe
            .command(Path::new("/vmlinuz"), Path::new("/initrd"))
            .to_string()
    };
    let arm = line(Arch::Aarch64);
    assert!(
        arm.contains("-machine 'virt,gic-version=max' -accel kvm -cpu host"),
        "{arm}"
    );
    assert!(arm.contains("console=ttyAMA0 panic=-1"), "{arm}");
    let pc = line(Arch::X86_64);
    assert!(pc.contains("-machine q35 -accel kvm -cpu host"), "{pc}");
    assert!(pc.contains("console=ttyS0 panic=-1"), "{pc}");
}

/// A QEMU that is a shell script, and a kernel that is any file.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new(script: &str) -> Self {
        let ground = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        ground.qemu(script);
        fs::write(ground.path("kernel"), "kernel").unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn qemu(&self, script: &str) {
        let path = self.path("qemu");
        let count = self.path("boots").display().to_string();
        let script = format!("#!/bin/sh\necho boot >> {count}\n{script}\n");
        // Not written by this process: a file another thread's child still has open for writing cannot be run.
        Host.write_file(path.to_str().unwrap(), 0o755, script.as_bytes())
            .unwrap();
    }

    fn boots(&self) -> usize {
        fs::read_to_string(self.path("boots")).map_or(0, |text| text.lines().count())
    }

    fn verdict(&self, kernel: bool) -> Verdict {
        let (program, kernel_path, cache_dir) = (self.path("qemu"), self.path("kernel"), self.path("cache"));
        let probe = Probe {
            program: &program,
            version: "10.0.2".into(),
            arch: Arch::X86_64,
            kernel: kernel.then_some(&kernel_path),
            cache_dir: &cache_dir,
        };
        probe
            .verdict(&Facts {
                accel_help: ALL.into(),
                ..GOOD
            })
            .unwrap()
    }
}

#[test]
fn a_kernel_that_comes_up_is_proof_and_is_remembered() {
    let ground = Ground::new(&format!(
        "echo '[    0.5] Run /init'; echo '{}'",
        init::MARKER.trim()
    ));
    assert_eq!(ground.verdict(true), Verdict::good(Accelerator::Kvm));
    assert_eq!(ground.verdict(true), Verdict::good(Accelerator::Kvm));
    assert_eq!(ground.boots(), 1);
    // A damaged verdict, another kernel: tried again.
    fs::write(ground.path("cache").join(VERDICT_FILE), "{\"subject\":").unwrap();
    ground.verdict(true);
    assert_eq!(ground.boots(), 2);
    fs::write(ground.path("kernel"), "another kernel").unwrap();
    ground.verdict(true);
    assert_eq!(ground.boots(), 3);
    // Another QEMU.
    ground.qemu("echo failed to initialize kvm >&2; exit 1");
    let verdict = ground.verdict(true);
    assert_eq!(verdict.accelerator, Accelerator::Tcg);
    assert!(
        verdict
            .reason
            .contains("failed with exit status 1 (last words: failed to initialize kvm)"),
        "{}",
        verdict.reason
    );
    let left: Vec<_> = fs::read_dir(ground.path("cache"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [VERDICT_FILE]);
}

#[test]
fn a_kernel_that_hangs_costs_less_than_five_seconds_once() {
    let ground = Ground::new("printf 'Booting the kernel.\\r\\n\\n'; exec sleep 60");
    let start = Instant::now();
    let verdict = ground.verdict(true);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(verdict.accelerator, Accelerator::Tcg);
    assert!(
        verdict
            .reason
            .ends_with("hung: no program ran within 3.5 s (last words: Booting the kernel.)"),
        "{}",
        verdict.reason
    );
    assert_eq!(ground.verdict(true), verdict);
    assert_eq!(ground.boots(), 1);
}

#[test]
fn without_a_kernel_nothing_is_tried_and_nothing_remembered() {
    let ground = Ground::new("exit 1");
    assert!(ground.verdict(false).reason.contains("no kernel yet"));
    assert_eq!(ground.boots(), 0);
    assert!(!ground.path("cache").exists());
}
