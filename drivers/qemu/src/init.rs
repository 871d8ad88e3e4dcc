//! The smallest guest that proves something: an initial RAM disk whose only file is a program that prints one line.
//!
//! The program is a static ELF file of one loadable segment, assembled here byte by byte, because no compiler for guests
//! can be expected on the host. It calls `write(1, line, length)` and then `exit(0)`; as it is process 1, the kernel then
//! panics, and with `panic=-1` and `-no-reboot` that ends QEMU.

use crate::board::Arch;

/// What the program prints.
pub(crate) const MARKER: &str = "sampan: an ordinary kernel runs a program\n";

const LOAD_ADDRESS: u32 = 0x40_0000;
const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// The initial RAM disk: a cpio archive ("newc") with `/init`.
pub(crate) fn initrd(arch: Arch) -> Vec<u8> {
    let mut archive = Vec::new();
    entry(&mut archive, "init", 0o100_755, &program(arch));
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

/// One file: thirteen numbers of eight hexadecimal digits, name and contents, both padded to four bytes.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let (length, name_length) = (contents.len(), name.len() + 1);
    let header = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{length:08x}{:08x}{:08x}{:08x}{:08x}{name_length:08x}{:08x}",
        0, 0, 0, 1, 0, 0, 0, 0, 0, 0
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn program(arch: Arch) -> Vec<u8> {
    let (machine, code) = match arch {
        Arch::X86_64 => (62_u16, code_x86_64()),
        Arch::Aarch64 => (183, code_aarch64()),
    };
    let start = u32::from(ELF_HEADER + PROGRAM_HEADER);
    let size = start as usize + code.len() + MARKER.len();
    let mut file = Vec::with_capacity(size);
    // ELF header: 64 bit, little-endian, version 1; executable.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut file, &[2, machine]);
    word(&mut file, &[1]);
    // Entry point, offset of the program headers, no section headers.
    wide(
        &mut file,
        &[u64::from(LOAD_ADDRESS + start), u64::from(ELF_HEADER), 0],
    );
    word(&mut file, &[0]);
    half(&mut file, &[ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0]);
    // The one segment: the whole file, readable and executable.
    word(&mut file, &[1, 5]);
    wide(
        &mut file,
        &[
            0,
            u64::from(LOAD_ADDRESS),
            u64::from(LOAD_ADDRESS),
            size as u64,
            size as u64,
            0x1000,
        ],
    );
    file.extend_from_slice(&code);
    file.extend_from_slice(MARKER.as_bytes());
    file
}

fn code_x86_64() -> Vec<u8> {
    const LENGTH: u32 = 31;
    let text = LOAD_ADDRESS + u32::from(ELF_HEADER + PROGRAM_HEADER) + LENGTH;
    let mut code = Vec::new();
    let mut load = |opcode: u8, value: u32| {
        code.push(opcode);
        code.extend_from_slice(&value.to_le_bytes());
    };
    load(0xb8, 1); // mov eax, write
    load(0xbf, 1); // mov edi, stdout
    load(0xbe, text); // mov esi, text
    load(0xba, MARKER.len() as u32); // mov edx, length
    code.extend_from_slice(&[0x0f, 0x05]); // syscall
    code.extend_from_slice(&[0xb8, 60, 0, 0, 0]); // mov eax, exit
    code.extend_from_slice(&[0x31, 0xff]); // xor edi, edi
    code.extend_from_slice(&[0x0f, 0x05]); // syscall
    code
}

fn code_aarch64() -> Vec<u8> {
    let length = MARKER.len() as u32;
    let mut code = Vec::new();
    word(
        &mut code,
        &[
            0xd280_0020,                 // mov x0, stdout
            0x1000_00e1,                 // adr x1, text (28 bytes on)
            0xd280_0002 | (length << 5), // mov x2, length
            0xd280_0808,                 // mov x8, write
            0xd400_0001,                 // svc 0
            0xd280_0000,                 // mov x0, 0
            0xd280_0ba8,                 // mov x8, exit
            0xd400_0001,                 // svc 0
        ],
    );
    code
}

fn half(file: &mut Vec<u8>, values: &[u16]) {
    values
        .iter()
        .for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
}

fn word(file: &mut Vec<u8>, values: &[u32]) {
    values
        .iter()
        .for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
}

fn wide(file: &mut Vec<u8>, values: &[u64]) {
    values
        .iter()
        .for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    const ARCH: Arch = Arch::X86_64;
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    const ARCH: Arch = Arch::Aarch64;

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_program_runs_on_a_kernel_of_its_kind() {
        use sampan_driver::{Command, Host, Runner};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init").to_string_lossy().into_owned();
        Host.write_file(&path, 0o755, &program(ARCH)).unwrap();
        let output = Host.run(&Command::new(path)).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), MARKER);
    }

    #[test]
    fn both_programs_have_their_text_where_the_code_looks_for_it() {
        let x86 = program(Arch::X86_64);
        let text = u32::from_le_bytes(x86[131..135].try_into().unwrap()) - LOAD_ADDRESS;
        assert_eq!(&x86[text as usize..], MARKER.as_bytes());
        let arm = program(Arch::Aarch64);
        assert_eq!(
            &arm[124 + 28..],
            MARKER.as_bytes(),
            "adr at 124 looks 28 bytes on"
        );
    }

    #[test]
    fn the_archive_is_aligned_and_ends_with_its_trailer() {
        let archive = initrd(Arch::Aarch64);
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.starts_with(b"070701"));
        assert!(archive.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
