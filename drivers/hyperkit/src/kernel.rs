//! Which kernel hyperkit can boot. Its `kexec` wants the file that Linux distributions ship: a compressed image with a setup header,
//! version 2.10 of the boot protocol or later. An unpacked kernel (ELF), which QEMU starts faster, makes hyperkit abort.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sampan_driver::{DirectBoot, DriverError, MachineSpec, Result};

/// The compressed kernel beside an unpacked one.
const COMPRESSED: &str = "bzimage";

/// How the machine boots: with its kernel, or with the compressed one beside it.
///
/// # Errors
/// [`DriverError::Unsupported`] when there is none that hyperkit could boot; when a file cannot be read.
pub(crate) fn choose(spec: &MachineSpec) -> Result<DirectBoot> {
    let Some(boot) = &spec.boot else {
        return Err(DriverError::Unsupported {
            what: "hyperkit boots kernels only, not disks".to_owned(),
            hint: "use the qemu driver".to_owned(),
        });
    };
    File::open(&boot.initrd).map_err(DriverError::io(&boot.initrd))?;
    if is_compressed(&boot.kernel)? {
        return Ok(boot.clone());
    }
    let beside: PathBuf = boot.kernel.with_file_name(COMPRESSED);
    if beside.is_file() && is_compressed(&beside)? {
        return Ok(DirectBoot {
            kernel: beside,
            ..boot.clone()
        });
    }
    Err(DriverError::Unsupported {
        what: format!(
            "hyperkit boots compressed kernels only: {} is none, and there is no {COMPRESSED} beside it",
            boot.kernel.display()
        ),
        hint: "bundles have one now: `sampan bundle build`, then a new cluster; or use the qemu driver"
            .to_owned(),
    })
}

/// What hyperkit looks at (`kexec.c`): offsets are those of the kernel's `Documentation/arch/x86/boot.rst`.
fn is_compressed(kernel: &Path) -> Result<bool> {
    let mut header = Vec::new();
    File::open(kernel)
        .and_then(|file| file.take(0x212).read_to_end(&mut header))
        .map_err(DriverError::io(kernel))?;
    let at = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
    let version = match at(0x206, 0x208) {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let loads_high = at(0x211, 0x212).first().is_some_and(|flags| flags & 1 == 1);
    let has_setup = at(0x1f1, 0x1f2).first().is_some_and(|sectors| *sectors != 0);
    let magic = at(0x1fe, 0x200) == b"\x55\xaa" && at(0x202, 0x206) == b"HdrS";
    Ok(magic && version >= 0x020a && loads_high && has_setup)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sampan_driver::Disk;

    use super::*;

    /// A compressed kernel, as far as its header goes.
    fn header() -> Vec<u8> {
        let mut header = vec![0; 1024];
        header[0x1f1] = 1;
        header[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
        header[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        header[0x211] = 1;
        header
    }

    fn spec(dir: &Path) -> MachineSpec {
        fs::write(dir.join("initrd"), "").unwrap();
        MachineSpec {
            name: "test".into(),
            dir: dir.to_owned(),
            cpus: 1,
            memory_mib: 64,
            disk: Disk {
                base: dir.join("base"),
                size_mib: 8,
            },
            extra_disks: Vec::new(),
            boot: Some(DirectBoot {
                kernel: dir.join("vmlinuz"),
                initrd: dir.join("initrd"),
                cmdline: String::new(),
            }),
            forwards: Vec::new(),
        }
    }

    #[test]
    fn headers_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        let is = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            is_compressed(&path).unwrap()
        };
        assert!(is(&header()));
        assert!(!is(b"\x7fELF\x02\x01\x01") && !is(b""));
        for (place, byte) in [(0x1fe, 0), (0x202, b'h'), (0x207, 1), (0x211, 0), (0x1f1, 0)] {
            let mut other = header();
            other[place] = byte;
            assert!(!is(&other), "byte {place:#x}");
        }
        assert!(!is(&header()[..0x211]), "a file that ends early");
    }

    #[test]
    fn an_unpacked_kernel_needs_a_compressed_one_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let error = choose(&spec).unwrap_err().to_string();
        assert!(error.contains("vmlinuz: No such file"), "{error}");
        fs::write(dir.path().join("vmlinuz"), b"\x7fELF").unwrap();
        let error = choose(&spec).unwrap_err();
        assert!(
            matches!(&error, DriverError::Unsupported { hint, .. } if hint.contains("qemu")),
            "{error}"
        );
        fs::write(dir.path().join("bzimage"), header()).unwrap();
        assert_eq!(choose(&spec).unwrap().kernel, dir.path().join("bzimage"));
        fs::write(dir.path().join("vmlinuz"), header()).unwrap();
        assert_eq!(Some(choose(&spec).unwrap()), spec.boot);
        let from_disk = MachineSpec { boot: None, ..spec };
        assert!(matches!(choose(&from_disk), Err(DriverError::Unsupported { .. })));
    }
}
