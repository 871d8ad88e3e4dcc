//! QEMU's command line as data: one struct per switch, fields named as QEMU names them, and one pure function that
//! turns a machine into arguments. QEMU runs with the machine's directory as its working directory, so all files of
//! the machine have relative names here (a socket's path may have 104 bytes at most); only the pidfile is absolute,
//! since it also tells later which process belongs to which machine.

use std::path::Path;

use sampan_driver::{DirectBoot, Forward, MachineSpec};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::forwards::rule;
pub(crate) use crate::memory::{Memory, MemoryBackend, Start};

/// What the guest's CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit PC.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The architecture this program runs on, where QEMU is used on it.
    pub fn of_host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The emulator's program name.
    pub fn program(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The first serial port as a Linux guest names it.
    pub fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}

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

/// `-machine`.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) kind: &'static str,
    pub(crate) memory_backend: &'static str,
    /// What nobody needs: devices of the board, each of which costs the guest probing time, and guest memory (which holds
    /// secrets) in core dumps of QEMU.
    pub(crate) off: &'static [&'static str],
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
    pub(crate) machine: Machine,
    pub(crate) accel: Accel,
    pub(crate) cpu: &'static str,
    pub(crate) smp: u32,
    pub(crate) memory: Memory,
    pub(crate) boot: Boot,
    pub(crate) drives: Vec<Drive>,
    pub(crate) netdev: Netdev,
    /// Further devices, as `-device` takes them.
    pub(crate) devices: &'static [&'static str],
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
    /// The machine's own firmware.
    Firmware,
    /// `-bios`, for machine types that come without firmware.
    Bios(&'static str),
}

/// The id of the only network device.
pub(crate) const NETDEV: &str = "net0";

/// Whether the guest's memory is a file in the machine's directory: on macOS, the only host of HVF and one without memfd.
pub(crate) fn memory_is_a_file(accelerator: Accelerator) -> bool {
    accelerator == Accelerator::Hvf || cfg!(target_os = "macos")
}

impl Arguments {
    /// The arguments of a machine on this kind of host. `pidfile` is absolute.
    pub(crate) fn new(
        spec: &MachineSpec,
        arch: Arch,
        accelerator: Accelerator,
        pidfile: &Path,
        start: &Start,
    ) -> Self {
        let boot = match (&spec.boot, arch) {
            (Some(direct), _) => Boot::Direct(direct.clone()),
            (None, Arch::X86_64) => Boot::Firmware,
            (None, Arch::Aarch64) => Boot::Bios("edk2-aarch64-code.fd"),
        };
        Self {
            name: format!("sampan-{}", spec.name),
            machine: Machine::new(arch),
            accel: Accel::new(accelerator),
            cpu: cpu(arch, accelerator),
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
            devices: match arch {
                // vmgenid tells a guest that was forked or restored to draw fresh randomness; QEMU has it on PCs.
                Arch::X86_64 => &["virtio-rng-pci,rng=rng0", "vmgenid,guid=auto"],
                Arch::Aarch64 => &["virtio-rng-pci,rng=rng0"],
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
        if let Boot::Direct(direct) = &mut self.boot {
            direct.kernel.clear();
            direct.initrd.clear();
            direct.cmdline.clear();
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
        line.switch("machine", self.machine.render());
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
        for device in self.devices {
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

/// The CPU model. Under emulation, features that only make it slower are off.
fn cpu(arch: Arch, accelerator: Accelerator) -> &'static str {
    match (accelerator, arch) {
        (Accelerator::Kvm | Accelerator::Hvf, _) => "host",
        (Accelerator::Tcg, Arch::X86_64) => "max,la57=off",
        // The architected pointer authentication algorithm is very slow in software.
        (Accelerator::Tcg, Arch::Aarch64) => "max,pauth-impdef=on",
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

impl Machine {
    fn new(arch: Arch) -> Self {
        let (kind, off): (_, &[_]) = match arch {
            Arch::X86_64 => (
                "q35",
                &[
                    "hpet",
                    "smm",
                    "vmport",
                    "usb",
                    "sata",
                    "smbus",
                    "i8042",
                    "dump-guest-core",
                ],
            ),
            Arch::Aarch64 => ("virt", &["dump-guest-core"]),
        };
        Self {
            kind,
            memory_backend: "mem",
            off,
        }
    }

    fn render(&self) -> String {
        let off: String = self.off.iter().map(|device| format!(",{device}=off")).collect();
        format!(
            "{},memory-backend={}{off},suppress-vmdesc=on",
            self.kind, self.memory_backend
        )
    }
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
            Self::Firmware => {}
            Self::Bios(file) => {
                line.switch("bios", *file);
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
