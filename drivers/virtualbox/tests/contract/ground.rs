//! Where a test's machine lives.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use sampan_driver::{Disk, Driver, ExtraDisk, Forward, MachineSpec};
use sampan_driver_virtualbox::{VirtualBox, VirtualBoxConfig};

use crate::books::Knobs;

pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) spec: MachineSpec,
}

impl Ground {
    /// A machine, and a stand-in for VirtualBox.
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["VBoxManage", "VBoxHeadless"] {
            symlink(std::env::current_exe().unwrap(), bin.join(name)).unwrap();
        }
        let image = |name: &str, size: u64| {
            let path = dir.path().join(name);
            fs::File::create(&path).unwrap().set_len(size).unwrap();
            path
        };
        let spec = MachineSpec {
            name: name.into(),
            dir: dir.path().join("machine"),
            cpus: 1,
            memory_mib: 64,
            disk: Disk {
                base: image("base, with comma.raw", 1 << 20),
                size_mib: 8,
            },
            extra_disks: vec![
                ExtraDisk {
                    path: image("seed.img", 1 << 20),
                    serial: "sampan-seed".into(),
                },
                ExtraDisk {
                    path: image("parts.img", 2 << 20),
                    serial: "sampan-parts".into(),
                },
            ],
            boot: None,
            forwards: vec![Forward::tcp(free_port(), 8443), Forward::tcp(free_port(), 22)],
        };
        Self { dir, spec }
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    pub(crate) fn driver(&self) -> VirtualBox {
        VirtualBox::new(VirtualBoxConfig {
            search_path: Some(self.bin().into()),
            program: None,
        })
    }

    /// A driver with a machine that runs.
    pub(crate) fn started(&self) -> VirtualBox {
        let driver = self.driver();
        driver.create(&self.spec).unwrap();
        driver.start(&self.spec).unwrap();
        driver
    }

    pub(crate) fn set(&self, knobs: &Knobs) {
        let text = serde_json::to_string(knobs).unwrap();
        fs::write(self.bin().join("knobs.json"), text).unwrap();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed half-way leaves its machine running; without its books it ends by itself.
        self.set(&Knobs::default());
        let removed = self.driver().remove(&self.spec);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
