use std::path::PathBuf;

use sampan_driver::{DirectBoot, Disk, ExtraDisk, Forward, MachineSpec};

use super::*;

fn spec() -> MachineSpec {
    MachineSpec {
        name: "demo".into(),
        dir: PathBuf::from("/data/demo"),
        cpus: 2,
        memory_mib: 4096,
        disk: Disk {
            base: PathBuf::from("/cache/disk.raw"),
            size_mib: 20480,
        },
        extra_disks: vec![
            ExtraDisk {
                path: PathBuf::from("/cache/parts.img"),
                serial: "sampan-parts".into(),
            },
            ExtraDisk {
                path: PathBuf::from("/data/a,b/seed.img"),
                serial: "sampan-seed".into(),
            },
        ],
        boot: Some(DirectBoot {
            kernel: PathBuf::from("/cache/vmlinuz"),
            initrd: PathBuf::from("/cache/initrd.img"),
            cmdline: "root=LABEL=sampan-root ro console=ttyS0\n".into(),
        }),
        forwards: vec![
            Forward::tcp("127.77.0.1:8443".parse().unwrap(), 8443),
            Forward::tcp("127.77.0.1:2222".parse().unwrap(), 22),
        ],
    }
}

fn line(spec: &MachineSpec, arch: Arch, accelerator: Accelerator) -> String {
    let platform = Platform {
        arch,
        accelerator,
        firmware: None,
    };
    render(spec, platform)
}

fn render(spec: &MachineSpec, platform: Platform<'_>) -> String {
    let line = Arguments::new(spec, platform, Path::new("/data/demo/qemu.pid"), &Start::Boot).render();
    // One switch per line reads better than one long line.
    line.join(" ").replace(" -", "\n-")
}

const COMMON: &str = "\
-object memory-backend-memfd,id=mem,size=4096M,share=on
-kernel /cache/vmlinuz
-initrd /cache/initrd.img
-append root=LABEL=sampan-root ro console=ttyS0
-drive if=none,id=disk0,file=disk.qcow2,format=qcow2,cache=writeback,discard=unmap,detect-zeroes=unmap
-device virtio-blk-pci,drive=disk0,serial=sampan-system
-drive if=none,id=disk1,file=/cache/parts.img,format=raw,readonly=on
-device virtio-blk-pci,drive=disk1,serial=sampan-parts
-drive if=none,id=disk2,file=/data/a,,b/seed.img,format=raw,readonly=on
-device virtio-blk-pci,drive=disk2,serial=sampan-seed
-netdev user,id=net0,ipv6=off,hostfwd=tcp:127.77.0.1:8443-:8443,hostfwd=tcp:127.77.0.1:2222-:22
-device virtio-net-pci,netdev=net0,romfile=
-object rng-builtin,id=rng0
-device virtio-rng-pci,rng=rng0
";

const END: &str = "\
-rtc base=utc
-chardev file,id=serial0,path=serial.log
-serial chardev:serial0
-qmp unix:qmp.sock,server=on,wait=off
-qmp unix:query.sock,server=on,wait=off
-msg timestamp=on
-pidfile /data/demo/qemu.pid
-global migration.send-configuration=off";

const Q35: &str = "\
-name sampan-demo,debug-threads=on
-no-user-config
-nodefaults
-display none
-machine q35,memory-backend=mem,hpet=off,smm=off,vmport=off,usb=off,sata=off,smbus=off,i8042=off,dump-guest-core=off,suppress-vmdesc=on
";

const SIZES: &str = "-smp cpus=2,sockets=1,cores=2,threads=1\n-m size=4096M\n";

#[test]
fn emulated_pc() {
    let cpu = "-accel tcg,thread=multi,tb-size=1024\n-cpu max,la57=off\n";
    let expected = format!("{Q35}{cpu}{SIZES}{COMMON}-device vmgenid,guid=auto\n{END}");
    assert_eq!(line(&spec(), Arch::X86_64, Accelerator::Tcg), expected);
}

#[test]
fn pc_with_kvm() {
    let expected = format!("{Q35}-accel kvm\n-cpu host\n{SIZES}{COMMON}-device vmgenid,guid=auto\n{END}");
    assert_eq!(line(&spec(), Arch::X86_64, Accelerator::Kvm), expected);
}

/// macOS has no memfd: the guest's memory is a file in the machine's directory.
fn on_mac(common: &str) -> String {
    common.replace("memory-backend-memfd", "memory-backend-file,mem-path=ram.img")
}

#[test]
fn mac_on_intel() {
    let common = on_mac(COMMON);
    let expected = format!("{Q35}-accel hvf\n-cpu host\n{SIZES}{common}-device vmgenid,guid=auto\n{END}");
    assert_eq!(line(&spec(), Arch::X86_64, Accelerator::Hvf), expected);
}

/// What an Arm machine is called with, whole: nothing of it is put together from pieces that others share.
const VIRT: &str = "\
-name sampan-demo,debug-threads=on
-no-user-config
-nodefaults
-display none
-machine virt,gic-version=max,memory-backend=mem,dump-guest-core=off,suppress-vmdesc=on
-accel ACCEL
-cpu CPU
-smp cpus=2,sockets=1,cores=2,threads=1
-m size=4096M
-object memory-backend-memfd,id=mem,size=4096M,share=on
-kernel /cache/vmlinuz
-initrd /cache/initrd.img
-append root=LABEL=sampan-root ro console=ttyAMA0
-drive if=none,id=disk0,file=disk.qcow2,format=qcow2,cache=writeback,discard=unmap,detect-zeroes=unmap
-device virtio-blk-pci,drive=disk0,serial=sampan-system
-drive if=none,id=disk1,file=/cache/parts.img,format=raw,readonly=on
-device virtio-blk-pci,drive=disk1,serial=sampan-parts
-drive if=none,id=disk2,file=/data/a,,b/seed.img,format=raw,readonly=on
-device virtio-blk-pci,drive=disk2,serial=sampan-seed
-netdev user,id=net0,ipv6=off,hostfwd=tcp:127.77.0.1:8443-:8443,hostfwd=tcp:127.77.0.1:2222-:22
-device virtio-net-pci,netdev=net0,romfile=
-object rng-builtin,id=rng0
-device virtio-rng-pci,rng=rng0
-rtc base=utc
-chardev file,id=serial0,path=serial.log
-serial chardev:serial0
-qmp unix:qmp.sock,server=on,wait=off
-qmp unix:query.sock,server=on,wait=off
-msg timestamp=on
-pidfile /data/demo/qemu.pid
-global migration.send-configuration=off";

#[test]
fn arm_emulated_and_with_kvm_and_hvf() {
    let mut spec = spec();
    spec.boot.as_mut().unwrap().cmdline = "root=LABEL=sampan-root ro console=ttyAMA0\n".into();
    let expected = |accel: &str, cpu: &str| VIRT.replace("ACCEL", accel).replace("CPU", cpu);
    assert_eq!(
        line(&spec, Arch::Aarch64, Accelerator::Tcg),
        expected("tcg,thread=multi,tb-size=1024", "max,pauth-impdef=on,lpa2=off")
    );
    assert_eq!(
        line(&spec, Arch::Aarch64, Accelerator::Kvm),
        expected("kvm", "host")
    );
    assert_eq!(
        line(&spec, Arch::Aarch64, Accelerator::Hvf),
        on_mac(&expected("hvf", "host"))
    );
}

#[test]
fn without_a_kernel_the_firmware_boots_the_disk() {
    let spec = MachineSpec { boot: None, ..spec() };
    let pc = line(&spec, Arch::X86_64, Accelerator::Tcg);
    assert!(!pc.contains("-kernel") && !pc.contains("pflash"), "{pc}");
    let platform = Platform {
        arch: Arch::Aarch64,
        accelerator: Accelerator::Kvm,
        firmware: Some(Path::new("/opt/a,b/edk2-aarch64-code.fd")),
    };
    let kernel = "-kernel /cache/vmlinuz\n-initrd /cache/initrd.img\n-append root=LABEL=sampan-root ro console=ttyAMA0\n";
    let flash = "-drive if=pflash,unit=0,format=raw,readonly=on,file=/opt/a,,b/edk2-aarch64-code.fd\n";
    let expected = VIRT
        .replace(kernel, flash)
        .replace("ACCEL", "kvm")
        .replace("CPU", "host");
    assert_eq!(render(&spec, platform), expected);
}

#[test]
fn firmware_is_looked_for_beside_the_emulator_first() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("bin/qemu-system-aarch64");
    assert_eq!(Arch::X86_64.board().find_firmware(&program), None);
    let own = dir.path().join("share/qemu/edk2-aarch64-code.fd");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "firmware").unwrap();
    assert_eq!(Arch::Aarch64.board().find_firmware(&program), Some(own));
}

#[test]
fn nothing_listens_beyond_loopback_and_nothing_is_named_outside_the_directory() {
    let spec = MachineSpec {
        forwards: Vec::new(),
        extra_disks: Vec::new(),
        boot: None,
        ..spec()
    };
    let line = line(&spec, Arch::X86_64, Accelerator::Tcg);
    assert!(!line.contains("hostfwd") && !line.contains("tcp:"), "{line}");
    let absolute: Vec<&str> = line
        .split([' ', '=', '\n'])
        .filter(|word| word.starts_with('/'))
        .collect();
    assert_eq!(absolute, ["/data/demo/qemu.pid"]);
}

fn started(spec: &MachineSpec, start: &Start) -> Arguments {
    let platform = Platform {
        arch: Arch::X86_64,
        accelerator: Accelerator::Tcg,
        firmware: None,
    };
    Arguments::new(spec, platform, Path::new("/data/demo/qemu.pid"), start)
}

#[test]
fn a_saved_machine_starts_from_a_private_view_of_its_memory() {
    let path = PathBuf::from("/cache/layers/a,b/ram.img");
    let fork = started(&spec(), &Start::View(path.clone())).render();
    let memory = "memory-backend-file,mem-path=/cache/layers/a,,b/ram.img,id=mem,size=4096M,share=off,readonly=on,rom=off";
    assert!(fork.iter().any(|argument| argument == memory), "{fork:?}");
    assert_eq!(fork[fork.len() - 2..], ["-incoming", "defer"]);
    let backend = |start: &Start| MemoryBackend::of_process(&started(&spec(), start).render().join("\0"));
    assert_eq!(
        backend(&Start::View(path.clone())),
        Some(MemoryBackend::View(path))
    );
    assert_eq!(backend(&Start::File), Some(MemoryBackend::File("ram.img".into())));
    assert_eq!(backend(&Start::Boot), Some(MemoryBackend::Memfd));
    assert_eq!(MemoryBackend::of_process("qemu\0-m\0size=64M"), None);
}

#[test]
fn the_guest_sees_sizes_and_devices_and_neither_files_nor_ports() {
    let seen = |spec: &MachineSpec, start: &Start| started(spec, start).guest_visible();
    let plain = seen(&spec(), &Start::Boot);
    let mut other = spec();
    other.name = "other".into();
    other.forwards.clear();
    other.extra_disks[0].path = "/elsewhere/parts.img".into();
    assert_eq!(seen(&other, &Start::View("/layer/ram.img".into())), plain);
    let changes: [fn(&mut MachineSpec); 5] = [
        |spec| spec.cpus = 4,
        |spec| spec.memory_mib = 2048,
        |spec| spec.boot = None,
        |spec| spec.extra_disks[0].serial = "other".into(),
        |spec| spec.extra_disks.truncate(1),
    ];
    for change in changes {
        let mut changed = spec();
        change(&mut changed);
        assert_ne!(seen(&changed, &Start::Boot), plain);
    }
}
