//! The machines of these tests, their guest of one sector, and what its console tells.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Disk, Driver, Forward, MachineSpec, Snapshot, Started};
use sampan_driver_qemu::{Accelerator, Qemu, QemuConfig};

/// The program in `guest.s`.
const GUEST: [u8; 246] = [
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x70, 0x88, 0x16, 0x04, 0x80, 0xb0, 0x42, 0xe8, 0xc0,
    0x00, 0x66, 0xc7, 0x06, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x66, 0xff, 0x06, 0x00, 0x80, 0xe8, 0x8a,
    0x00, 0x74, 0xf6, 0x66, 0xff, 0x0e, 0x00, 0x80, 0x66, 0xa1, 0x00, 0x80, 0x66, 0xa3, 0x08, 0x80, 0x66,
    0x85, 0xc0, 0x74, 0x2f, 0xa8, 0x0f, 0x75, 0x09, 0x66, 0xc7, 0x06, 0x00, 0x80, 0x01, 0x00, 0x00, 0x00,
    0xe8, 0x66, 0x00, 0x74, 0x05, 0xb0, 0x58, 0xe8, 0x84, 0x00, 0x66, 0xff, 0x06, 0x00, 0x80, 0x66, 0xa1,
    0x00, 0x80, 0x66, 0x39, 0x06, 0x08, 0x80, 0x73, 0xe6, 0x66, 0xa1, 0x08, 0x80, 0x66, 0xa3, 0x00, 0x80,
    0x66, 0xff, 0x06, 0x00, 0x80, 0x66, 0xa1, 0x00, 0x80, 0x66, 0xa3, 0x00, 0x90, 0xb4, 0x43, 0xe8, 0x44,
    0x00, 0x73, 0x0c, 0xb0, 0x45, 0xe8, 0x53, 0x00, 0x66, 0xff, 0x0e, 0x00, 0x80, 0xeb, 0x22, 0x66, 0x8b,
    0x1e, 0x00, 0x80, 0xb9, 0x08, 0x00, 0x66, 0xc1, 0xc3, 0x04, 0x88, 0xd8, 0x24, 0x0f, 0x04, 0x30, 0x3c,
    0x39, 0x76, 0x02, 0x04, 0x27, 0xe8, 0x36, 0x00, 0xe2, 0xeb, 0xb0, 0x0a, 0xe8, 0x2f, 0x00, 0xfb, 0xf4,
    0xe9, 0x7d, 0xff, 0xb4, 0x42, 0xe8, 0x0a, 0x00, 0x66, 0xa1, 0x00, 0x80, 0x66, 0x39, 0x06, 0x00, 0x90,
    0xc3, 0x66, 0x8b, 0x1e, 0x00, 0x80, 0x66, 0x89, 0x1e, 0xee, 0x7c, 0xbe, 0xe6, 0x7c, 0x8a, 0x16, 0x04,
    0x80, 0xb0, 0x00, 0xcd, 0x13, 0xc3, 0xe8, 0x02, 0x00, 0xb0, 0x0a, 0x50, 0xba, 0xfd, 0x03, 0xec, 0xa8,
    0x20, 0x74, 0xfb, 0x58, 0xba, 0xf8, 0x03, 0xee, 0xc3, 0x10, 0x00, 0x01, 0x00, 0x00, 0x90, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
pub(crate) const SOON: Duration = Duration::from_secs(120);

pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) qemu: Qemu,
    pub(crate) specs: Vec<MachineSpec>,
}

impl Ground {
    /// Machines of these names; none exists yet.
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::on(tempfile::tempdir().unwrap(), names)
    }

    /// The same, on this disk.
    pub(crate) fn on(dir: tempfile::TempDir, names: &[&str]) -> Self {
        let mut disk = vec![0; 1 << 20];
        disk[..GUEST.len()].copy_from_slice(&GUEST);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(dir.path().join("base.raw"), disk).unwrap();
        let qemu = driver(dir.path());
        let specs = names.iter().map(|name| spec(dir.path(), name, free_port()));
        let specs = specs.collect();
        Self { dir, qemu, specs }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn snapshots(&self) -> &dyn Snapshot {
        self.qemu.snapshots().unwrap()
    }

    /// Boots the first machine and lets it count.
    pub(crate) fn counting(&self) -> &MachineSpec {
        let spec = &self.specs[0];
        self.qemu.create(spec).unwrap();
        assert_eq!(self.snapshots().resume(spec).unwrap(), Started::Booted(None));
        counts_to(spec, 5);
        assert!(console(spec).contains("B\n"));
        spec
    }

    /// A layer of the first machine, and the last count seen before.
    pub(crate) fn frozen(&self) -> (PathBuf, u32) {
        let spec = self.counting();
        let (layer, count) = (self.path("layer"), count(spec));
        self.snapshots().freeze(spec, &layer).unwrap();
        (layer, count)
    }

    /// Saves it; returns the last count seen before.
    pub(crate) fn saved(&self, spec: &MachineSpec) -> u32 {
        let count = count(spec);
        self.snapshots().save(spec).unwrap();
        count
    }

    pub(crate) fn resumes(&self, spec: &MachineSpec, from: u32) {
        assert_eq!(self.snapshots().resume(spec).unwrap(), Started::Resumed);
        goes_on(spec, from);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed half-way leaves its machines running.
        self.specs.iter().for_each(|spec| self.qemu.remove(spec).unwrap());
    }
}

pub(crate) fn driver(dir: &Path) -> Qemu {
    Qemu::new(QemuConfig {
        cache_dir: dir.join("cache"),
        accelerator: Some(Accelerator::Tcg),
        ..QemuConfig::default()
    })
}

pub(crate) fn spec(dir: &Path, name: &str, host: SocketAddr) -> MachineSpec {
    MachineSpec {
        name: name.into(),
        dir: dir.join(name),
        cpus: 1,
        memory_mib: 64,
        disk: Disk {
            base: dir.join("base.raw"),
            size_mib: 8,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: vec![Forward::tcp(host, 22)],
    }
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn console(spec: &MachineSpec) -> String {
    text(&spec.dir.join("serial.log"))
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

pub(crate) fn counts(spec: &MachineSpec) -> Vec<u32> {
    counts_in(&spec.dir.join("serial.log"))
}

pub(crate) fn counts_in(console: &Path) -> Vec<u32> {
    let console = text(console);
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| line.len() == 8)
        .filter_map(|line| u32::from_str_radix(line, 16).ok())
        .collect()
}

pub(crate) fn count(spec: &MachineSpec) -> u32 {
    counts(spec).last().copied().unwrap_or(0)
}

pub(crate) fn counts_to(spec: &MachineSpec, wanted: u32) {
    let end = Instant::now() + SOON;
    while count(spec) < wanted {
        assert!(
            Instant::now() < end,
            "{} counts no further than {}",
            spec.name,
            count(spec)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// The guest did not boot, and counts on from `from` without a gap (but for what it wrote after `from` was read).
pub(crate) fn goes_on(spec: &MachineSpec, from: u32) {
    let end = Instant::now() + SOON;
    while counts(spec).len() < 3 {
        assert!(Instant::now() < end, "{} does not go on", spec.name);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!console(spec).contains('B'), "{} booted", spec.name);
    whole(spec);
    let counts = counts(spec);
    assert!(
        counts[0] > from && counts[0] < from + 200,
        "{} after {from}",
        counts[0]
    );
    assert!(counts.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counts:?}");
}

/// Its disk and its memory are of one moment, and the disk takes what is written.
pub(crate) fn whole(spec: &MachineSpec) {
    let console = console(spec);
    assert!(!console.contains(['X', 'E']), "{}: {console}", spec.name);
}

pub(crate) fn boots_instead(ground: &Ground, spec: &MachineSpec, words: &str) {
    match ground.snapshots().resume(spec).unwrap() {
        Started::Booted(Some(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
    counts_to(spec, 1);
    assert!(console(spec).contains("B\n"));
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
}

pub(crate) fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
}
