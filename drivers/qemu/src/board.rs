//! The kinds of machine that QEMU emulates for sampan, as data: one board for each architecture, and the processors a guest may have.

use std::path::{Path, PathBuf};

/// What the guest's CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit PC.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// A kind of machine, in QEMU's words.
#[derive(Debug)]
pub(crate) struct Board {
    /// The emulator's program name.
    pub(crate) program: &'static str,
    /// `-machine`, with what it cannot be without.
    pub(crate) machine: &'static str,
    /// What nobody needs: devices of the board, each of which costs the guest probing time, and guest memory (which holds
    /// secrets) in core dumps of QEMU.
    pub(crate) off: &'static [&'static str],
    /// `-cpu` under emulation. Features that only make it slower are off.
    pub(crate) emulated_cpu: &'static str,
    /// Devices that every machine has, as `-device` takes them.
    pub(crate) devices: &'static [&'static str],
    /// The first serial port as a Linux guest names it.
    pub(crate) console: &'static str,
    /// Where firmware may be, for a board that comes without. Names without a folder are looked for where QEMU keeps its own.
    pub(crate) firmware: &'static [&'static str],
}

const PC: Board = Board {
    program: "qemu-system-x86_64",
    machine: "q35",
    off: &[
        "hpet",
        "smm",
        "vmport",
        "usb",
        "sata",
        "smbus",
        "i8042",
        "dump-guest-core",
    ],
    emulated_cpu: "max,la57=off",
    // vmgenid tells a guest that was forked or restored to draw fresh randomness.
    devices: &["virtio-rng-pci,rng=rng0", "vmgenid,guid=auto"],
    console: "ttyS0",
    firmware: &[],
};

const VIRT: Board = Board {
    program: "qemu-system-aarch64",
    // The default interrupt controller, version 2, serves eight processors at most, and many hosts cannot virtualize it.
    machine: "virt,gic-version=max",
    off: &["dump-guest-core"],
    // The architected algorithm of pointer authentication is very slow in software, and addresses of 52 bits cost a fifth level of
    // page tables.
    emulated_cpu: "max,pauth-impdef=on,lpa2=off",
    // QEMU has vmgenid on PCs only.
    devices: &["virtio-rng-pci,rng=rng0"],
    console: "ttyAMA0",
    // QEMU's own, Debian's, Fedora's; all padded to the size of the board's flash.
    firmware: &[
        "edk2-aarch64-code.fd",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
        "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
    ],
};

impl Arch {
    /// The architecture this program runs on, where QEMU is used on it.
    pub fn of_host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Its board.
    pub(crate) fn board(self) -> &'static Board {
        match self {
            Self::X86_64 => &PC,
            Self::Aarch64 => &VIRT,
        }
    }
}

impl Board {
    /// The firmware of a board that needs some, if it is there; `program` is the emulator.
    pub(crate) fn find_firmware(&self, program: &Path) -> Option<PathBuf> {
        let own = program.parent()?.parent()?.join("share/qemu");
        let mut places = self.firmware.iter().map(|name| own.join(name));
        places.find(|path| path.is_file())
    }
}
