//! A real guest through the driver and the stand-in for hyperkit: the bundle's disk, initrd and compressed kernel, a
//! seed with keys. It is reached by SSH at the address of its lease, powers off when asked to, and keeps its disk.
//!
//! Needs a bundle with `bzimage` (`sampan bundle build`; in SAMPAN_CACHE or the user's cache directory) and port 22 of a loopback address (root). Without
//! them it says so and ends. `./dev test drivers` runs it where both are there.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod ground;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sampan_driver::{DirectBoot, Driver, ExtraDisk, Forward, MachineState};

use ground::Ground;

/// Under emulation, beside other work.
const BOOT: Duration = Duration::from_secs(300);

#[test]
fn a_real_guest_answers_by_ssh_powers_off_and_keeps_its_disk() {
    let Some(bundle) = bundle() else {
        eprintln!("there is no bundle with a compressed kernel: nothing was tried");
        return;
    };
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, 22))
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        eprintln!("this user may not listen on port 22: nothing was tried");
        return;
    }
    let ground = of_bundle(&bundle);
    let (spec, hyperkit) = (&ground.spec, ground.hyperkit());
    let begin = Instant::now();
    hyperkit.create(spec).unwrap();
    let created = begin.elapsed();
    hyperkit.start(spec).unwrap();
    wait_for_ssh(&ground);
    println!("created in {created:?}, answers after {:?}", begin.elapsed());
    // What hyperkit was told is what the guest got.
    let seen = ssh(
        &ground,
        "hostname; nproc; ls /dev/vd?; cat /proc/cmdline; cat /sys/class/dmi/id/product_uuid; echo kept >~root/kept; sync",
    );
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(&lines[..4], ["ssh", "2", "/dev/vda", "/dev/vdb"], "{seen}");
    assert!(lines[4].starts_with("root=LABEL=sampan-root"), "{seen}");
    let uuid = fs::read_to_string(spec.dir.join("uuid")).unwrap();
    assert!(lines.contains(&uuid.as_str()), "{seen} {uuid}");

    // As `sampan stop` does: the base has nobody who listens to the power button.
    ssh(&ground, "systemctl poweroff --no-block");
    let begin = Instant::now();
    hyperkit.stop(spec, Duration::from_secs(90)).unwrap();
    let took = begin.elapsed();
    println!("powered off in {took:?}");
    assert!(took < Duration::from_secs(85), "it was killed");
    assert_eq!(hyperkit.state(spec).unwrap(), MachineState::Stopped);
    hyperkit.start(spec).unwrap();
    wait_for_ssh(&ground);
    let kept = ssh(&ground, "cat ~root/kept");
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), "kept");
}

/// The newest bundle of this user that has a kernel for hyperkit: older ones have none.
fn bundle() -> Option<PathBuf> {
    let from = |name: &str, below: &str| std::env::var_os(name).map(|dir| Path::new(&dir).join(below));
    let cache = from("SAMPAN_CACHE", "")
        .or_else(|| from("XDG_CACHE_HOME", "sampan"))
        .or_else(|| from("HOME", ".cache/sampan"))?;
    let complete = cache.join("bundles").read_dir().ok()?.filter_map(|entry| {
        let dir = entry.ok()?.path();
        let time = dir.join("bundle.toml").metadata().ok()?.modified().ok()?;
        dir.join("bzimage").is_file().then_some((time, dir))
    });
    complete.max().map(|(_, dir)| dir)
}

fn of_bundle(bundle: &Path) -> Ground {
    let mut ground = Ground::new("ssh");
    let dir = ground.dir.path().to_owned();
    ground.spec.disk.base = bundle.join("disk.raw");
    ground.spec.disk.size_mib = 3072;
    (ground.spec.cpus, ground.spec.memory_mib) = (2, 1024);
    ground.spec.boot = Some(DirectBoot {
        kernel: bundle.join("vmlinuz"),
        initrd: bundle.join("initrd.img"),
        cmdline: fs::read_to_string(bundle.join("cmdline")).unwrap(),
    });
    ground.spec.extra_disks = vec![ExtraDisk {
        path: seed(&dir),
        serial: "sampan-seed".into(),
    }];
    ground.spec.forwards = vec![Forward::tcp("127.0.0.1:2222".parse().unwrap(), 22)];
    ground.stand_in();
    ground
}

/// A seed as sampan makes it: keys, and the host's name.
fn seed(dir: &Path) -> PathBuf {
    let (image, files) = (dir.join("seed.img"), dir.join("sampan"));
    fs::create_dir(&files).unwrap();
    for key in ["key", "sampan/ssh_host_ed25519_key"] {
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.join(key)));
    }
    fs::copy(dir.join("key.pub"), files.join("authorized_keys")).unwrap();
    fs::write(files.join("hostname"), "ssh\n").unwrap();
    let mtools = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-i").arg(&image);
        command
    };
    run(mtools("mformat").args(["-C", "-T", "1024", "-h", "1", "-s", "32", "-v", "CIDATA", "::"]));
    run(mtools("mcopy").arg("-s").arg(&files).arg("::/"));
    image
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn wait_for_ssh(ground: &Ground) {
    let end = Instant::now() + BOOT;
    loop {
        let last = ssh(ground, "true");
        if last.status.success() {
            return;
        }
        let console = ground
            .hyperkit()
            .endpoint(&ground.spec)
            .ok()
            .and_then(|endpoint| fs::read_to_string(endpoint.serial_log?).ok());
        assert!(Instant::now() < end, "no SSH: {last:?}\n{console:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Runs a command in the guest, whose host key has to be the seed's.
fn ssh(ground: &Ground, command: &str) -> Output {
    let dir = ground.dir.path();
    let endpoint = ground.hyperkit().endpoint(&ground.spec).unwrap();
    let address = endpoint.reach(22).unwrap();
    let key = fs::read_to_string(dir.join("sampan/ssh_host_ed25519_key.pub")).unwrap();
    let known = dir.join("known_hosts");
    fs::write(&known, format!("{} {key}", address.ip())).unwrap();
    Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
        ])
        .args(["-o", "ConnectTimeout=20", "-p", &address.port().to_string()])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(dir.join("key"))
        .arg(format!("root@{}", address.ip()))
        .arg(command)
        .output()
        .unwrap()
}
