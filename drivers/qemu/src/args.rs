//! QEMU's command line as data: one struct per switch, fields named as QEMU names them, and one pure function that
//! turns a machine into arguments. QEMU runs with the machine's directory as its working directory, so all files of
//! the machine have relative names here (a socket's path may have 104 bytes at most); only the pidfile is absolute,
//! since it also tells later which process belongs to which machine.

use std::path::{Path, PathBuf};

use sampan_driver::{DirectBoot, Forward, MachineSpec};
use serde::{Deserialize, Serialize};

use crate::board::{Arch, Board};
use crate::files;
use crate::forwards::rule;
pub(crate) use crate::memory::{Memory, MemoryBackend, Start};

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux's own virtualization.
    Kvm,
    /// macOS's own virtualization.
    Hvf,
    /// Emulation.
    Tcg,
}

impl Accelerator {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

/// What of the host and of QEMU decides the arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Platform<'a> {
    pub(crate) arch: Arch,
    pub(crate) accelerator: Accelerator,
    /// For boards that come without, if there is one.
    pub(crate) firmware: Option<&'a Path>,
}

/// `-accel`.
#[derive(Debug, Clone)]
pub(crate) struct Accel {
    pub(crate) accelerator: Accelerator,
    pub(crate) options: &'static str,
}

/// `-drive` without an interface, and the `-device virtio-blk-pci` in front of it.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    pub(crate) id: String,
    pub(crate) file: String,
    pub(crate) format: &'static str,
    pub(crate) readonly: bool,
    pub(crate) serial: String,
}

/// `-netdev user` and its `-device virtio-net-pci`.
#[derive(Debug, Clone)]
pub(crate) struct Netdev {
    pub(crate) id: &'static str,
    pub(crate) hostfwd: Vec<Forward>,
}

/// Everything QEMU is started with.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) name: String,
    pub(crate) board: &'static Board,
    pub(crate) accel: Accel,
    pub(crate) cpu: &'static str,
    pub(crate) smp: u32,
    pub(crate) memory: Memory,
    pub(crate) boot: Boot,
    pub(crate) drives: Vec<Drive>,
    pub(crate) netdev: Netdev,
    pub(crate) serial: &'static str,
    pub(crate) qmp: [&'static str; 2],
    pub(crate) pidfile: String,
    /// `-incoming defer`: wait for saved devices instead of booting.
    pub(crate) incoming: bool,
}

/// What the machine boots.
#[derive(Debug, Clone)]
pub(crate) enum Boot {
    /// `-kernel`, `-initrd`, `-append`.
    Direct(DirectBoot),
    /// The disk, by the board's own firmware.
    Disk,
    /// The disk, by firmware in the board's flash (`-drive if=pflash`), for boards that come without. What the firmware wants to keep
    /// is forgotten: our disks boot without.
    Flash(PathBuf),
}

/// The id of the only network device.
pub(crate) const NETDEV: &str = "net0";

/// Whether the guest's memory is a file in the machine's directory: on macOS, the only host of HVF and one without memfd.
pub(crate) fn memory_is_a_file(accelerator: Accelerator) -> bool {
    accelerator == Accelerator::Hvf || cfg!(target_os = "macos")
}

impl Arguments {
    /// The arguments of a machine on this kind of host. `pidfile` is absolute.
    pub(crate) fn new(spec: &MachineSpec, platform: Platform<'_>, pidfile: &Path, start: &Start) -> Self {
        let Platform {
            arch,
            accelerator,
            firmware,
        } = platform;
        let board = arch.board();
        let boot = match (&spec.boot, firmware) {
            (Some(direct), _) => Boot::Direct(direct.clone()),
            (None, Some(firmware)) => Boot::Flash(firmware.to_owned()),
            (None, None) => Boot::Disk,
        };
        Self {
            name: format!("sampan-{}", spec.name),
            board,
            accel: Accel::new(accelerator),
            cpu: match accelerator {
                Accelerator::Kvm | Accelerator::Hvf => "host",
                Accelerator::Tcg => board.emulated_cpu,
            },
            smp: spec.cpus,
            memory: Memory {
                id: "mem",
                size_mib: spec.memory_mib,
                backend: match start {
                    Start::View(path) => MemoryBackend::View(path.clone()),
                    Start::File => MemoryBackend::File(files::RAM.into()),
                    _ if memory_is_a_file(accelerator) => MemoryBackend::File(files::RAM.into()),
                    _ => MemoryBackend::Memfd,
                },
            },
            boot,
            drives: drives(spec),
            netdev: Netdev {
                id: NETDEV,
                hostfwd: spec.forwards.clone(),
            },
            serial: files::SERIAL_LOG,
            qmp: [files::QMP, files::QUERY],
            pidfile: pidfile.to_string_lossy().into_owned(),
            incoming: *start != Start::Boot,
        }
    }

    /// What the guest sees of it: the arguments without names, files and addresses on the host. Saved devices can only be
    /// loaded into a machine of the same.
    pub(crate) fn guest_visible(mut self) -> Vec<String> {
        self.name.clear();
        self.pidfile.clear();
        self.incoming = false;
        self.memory.backend = MemoryBackend::Memfd;
        self.netdev.hostfwd.clear();
        self.drives.iter_mut().for_each(|drive| drive.file.clear());
        match &mut self.boot {
            Boot::Direct(direct) => {
                direct.kernel.clear();
                direct.initrd.clear();
                direct.cmdline.clear();
            }
            Boot::Flash(firmware) => firmware.clear(),
            Boot::Disk => {}
        }
        self.render()
    }

    /// The command line, without the program.
    pub(crate) fn render(&self) -> Vec<String> {
        let mut line = Line::default();
        line.switch("name", format!("{},debug-threads=on", escape(&self.name)));
        line.flag("no-user-config")
            .flag("nodefaults")
            .switch("display", "none");
        let off = self.board.off.iter().map(|device| format!(",{device}=off"));
        line.switch(
            "machine",
            format!(
                "{},memory-backend={}{},suppress-vmdesc=on",
                self.board.machine,
                self.memory.id,
                off.collect::<String>()
            ),
        );
        line.switch("accel", self.accel.render());
        line.switch("cpu", self.cpu);
        line.switch(
            "smp",
            format!("cpus={n},sockets=1,cores={n},threads=1", n = self.smp),
        );
        line.switch("m", format!("size={}M", self.memory.size_mib));
        line.switch("object", self.memory.render());
        self.boot.render(&mut line);
        self.drives.iter().for_each(|drive| drive.render(&mut line));
        self.netdev.render(&mut line);
        line.switch("object", "rng-builtin,id=rng0");
        for device in self.board.devices {
            line.switch("device", *device);
        }
        line.switch("rtc", "base=utc");
        line.switch("chardev", format!("file,id=serial0,path={}", self.serial));
        line.switch("serial", "chardev:serial0");
        for socket in self.qmp {
            line.switch("qmp", format!("unix:{socket},server=on,wait=off"));
        }
        line.switch("msg", "timestamp=on");
        line.switch("pidfile", self.pidfile.as_str());
        // Device states are written with and without memory, by two commands; this is the form both have.
        line.switch("global", "migration.send-configuration=off");
        if self.incoming {
            line.switch("incoming", "defer");
        }
        line.0
    }
}

fn drives(spec: &MachineSpec) -> Vec<Drive> {
    let system = Drive {
        id: "disk0".to_owned(),
        file: files::DISK.to_owned(),
        format: "qcow2",
        readonly: false,
        serial: "sampan-system".to_owned(),
    };
    let extra = spec.extra_disks.iter().enumerate().map(|(index, disk)| Drive {
        id: format!("disk{}", index + 1),
        file: disk.path.to_string_lossy().into_owned(),
        format: "raw",
        readonly: true,
        serial: disk.serial.clone(),
    });
    std::iter::once(system).chain(extra).collect()
}

impl Accel {
    fn new(accelerator: Accelerator) -> Self {
        let options = match accelerator {
            // One thread per virtual CPU; a cache of translated code large enough for all of Kubernetes.
            Accelerator::Tcg => ",thread=multi,tb-size=1024",
            Accelerator::Kvm | Accelerator::Hvf => "",
        };
        Self { accelerator, options }
    }

    fn render(&self) -> String {
        format!("{}{}", self.accelerator.name(), self.options)
    }
}

impl Boot {
    fn render(&self, line: &mut Line) {
        match self {
            Self::Direct(DirectBoot {
                kernel,
                initrd,
                cmdline,
            }) => {
                line.switch("kernel", kernel.to_string_lossy());
                line.switch("initrd", initrd.to_string_lossy());
                line.switch("append", cmdline.trim());
            }
            Self::Disk => {}
            Self::Flash(file) => {
                let file = escape(&file.to_string_lossy());
                line.switch(
                    "drive",
                    format!("if=pflash,unit=0,format=raw,readonly=on,file={file}"),
                );
            }
        }
    }
}

impl Drive {
    fn render(&self, line: &mut Line) {
        let Self { id, file, format, .. } = self;
        let how = if self.readonly {
            "readonly=on"
        } else {
            "cache=writeback,discard=unmap,detect-zeroes=unmap"
        };
        line.switch(
            "drive",
            format!("if=none,id={id},file={},format={format},{how}", escape(file)),
        );
        line.switch(
            "device",
            format!("virtio-blk-pci,drive={id},serial={}", escape(&self.serial)),
        );
    }
}

impl Netdev {
    fn render(&self, line: &mut Line) {
        let forwards: String = self
            .hostfwd
            .iter()
            .map(|forward| format!(",hostfwd={}", rule(forward)))
            .collect();
        line.switch("netdev", format!("user,id={},ipv6=off{forwards}", self.id));
        // No option ROM: nobody boots from the network.
        line.switch("device", format!("virtio-net-pci,netdev={},romfile=", self.id));
    }
}

/// A command line under construction.
#[derive(Debug, Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(format!("-{name}"));
        self
    }

    fn switch(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(format!("-{name}"));
        self.0.push(value.into());
        self
    }
}

/// A value within a comma-separated list: QEMU takes two commas for one.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
