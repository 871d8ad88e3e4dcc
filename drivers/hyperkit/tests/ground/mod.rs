//! A machine for these tests, on a host that is made to look like an Intel Mac.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use sampan_driver::{DirectBoot, Disk, Driver, ExtraDisk, Forward, Host, MachineSpec, Runner};
use sampan_driver_hyperkit::{Hyperkit, HyperkitConfig, Platform};

pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) spec: MachineSpec,
    pub(crate) leases: PathBuf,
    /// What the guest gets from the "DHCP server".
    pub(crate) address: Ipv4Addr,
}

/// Of the machines of one test program.
static NEXT: AtomicU8 = AtomicU8::new(1);

impl Ground {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = dir.path().join(name);
            fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
            path
        };
        fs::write(dir.path().join("kernel"), kernel()).unwrap();
        fs::write(dir.path().join("initrd"), "none").unwrap();
        let forward = |port| Forward::tcp(SocketAddr::from(([127, 0, 0, 1], port)), port);
        let spec = MachineSpec {
            name: name.into(),
            dir: dir.path().join("machine"),
            cpus: 1,
            memory_mib: 64,
            disk: Disk {
                base: image("base.raw"),
                size_mib: 8,
            },
            extra_disks: vec![ExtraDisk {
                path: image("parts.img"),
                serial: "sampan-parts".into(),
            }],
            boot: Some(DirectBoot {
                kernel: dir.path().join("kernel"),
                initrd: dir.path().join("initrd"),
                cmdline: "console=ttyS0,115200".into(),
            }),
            forwards: vec![forward(8443), forward(2376)],
        };
        let [_, .., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed));
        let ground = Self {
            leases: dir.path().join("dhcpd_leases"),
            address,
            dir,
            spec,
        };
        ground.stand_in();
        ground
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.dir.path().join("hyperkit")
    }

    /// Makes the stand-in for the ports of the specification.
    pub(crate) fn stand_in(&self) {
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in.sh");
        let ports: Vec<String> = self
            .spec
            .forwards
            .iter()
            .map(|forward| forward.guest_port.to_string())
            .collect();
        self.script(&format!(
            "leases='{}' name='{}' address={} ports='{}'\n. '{}'",
            self.leases.display(),
            self.spec.name,
            self.address,
            ports.join(" "),
            stand_in.display()
        ));
    }

    /// Makes `hyperkit` a script.
    pub(crate) fn script(&self, text: &str) {
        // Not written by this process: a file another thread's child still has open for writing cannot be run.
        let text = format!("#!/bin/sh\n{text}\n");
        Host.write_file(self.program().to_str().unwrap(), 0o755, text.as_bytes())
            .unwrap();
    }

    pub(crate) fn hyperkit(&self) -> Hyperkit {
        Hyperkit::new(HyperkitConfig {
            program: Some(self.program()),
            leases: Some(self.leases.clone()),
            platform: Some(Platform {
                os: "macos".into(),
                arch: "x86_64".into(),
                root: true,
            }),
            ..HyperkitConfig::default()
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed half-way leaves its machine running.
        self.hyperkit().remove(&self.spec).unwrap();
    }
}

/// A kernel with the header of a compressed one (Linux's boot protocol 2.15). Its setup code, in real mode, writes "B" and a line feed to the
/// serial port and halts:
///     mov $0x3f8,%dx; mov $'B',%al; out %al,%dx; mov $'\n',%al; out %al,%dx; 1: cli; hlt; jmp 1b
fn kernel() -> Vec<u8> {
    const CODE: [u8; 13] = [
        0xba, 0xf8, 0x03, 0xb0, b'B', 0xee, 0xb0, b'\n', 0xee, 0xfa, 0xf4, 0xeb, 0xfc,
    ];
    let mut kernel = vec![0; 4096];
    kernel[0x1f1] = 1;
    // The boot flag, a jump over the header to 0x270, the magic number, the version.
    kernel[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x6eHdrS\x0f\x02");
    kernel[0x211] = 1;
    // Where initrds may lie at most, and how long a command line may be.
    kernel[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    kernel[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    kernel[0x270..0x270 + CODE.len()].copy_from_slice(&CODE);
    kernel
}
