//! Whole command lines, as VBoxManage 7.2.22 took them.

use super::*;
use sampan_driver::{Command, Disk};
use std::path::PathBuf;

fn spec() -> MachineSpec {
    MachineSpec {
        name: "work".into(),
        dir: PathBuf::from("/home/me/my clusters/team/machine"),
        cpus: 2,
        memory_mib: 4096,
        disk: Disk {
            base: PathBuf::from("/cache/disk.raw"),
            size_mib: 20_000,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: Vec::new(),
    }
}

fn shown(args: Vec<String>) -> String {
    Command::new("VBoxManage").args(args).to_string()
}

fn forward(text: &str, guest_port: u16) -> Forward {
    Forward::tcp(text.parse().unwrap(), guest_port)
}

#[test]
fn a_machine_is_known_by_its_directory() {
    let id = uuid("machine", Path::new("/a/machine"));
    assert_eq!(id, "cfcf35dc-1771-8c0d-8d6c-c0124a19d375");
    assert_ne!(id, uuid("machine", Path::new("/b/machine")));
    assert_ne!(id, uuid("base", Path::new("/a/machine")));
    assert_eq!(vm_name(&spec()), "sampan-work-d72b4d08");
}

#[test]
fn it_is_made_and_described() {
    assert_eq!(
        shown(create(
            "sampan-work-1",
            "u-1",
            Path::new("/home/me/my clusters/vm")
        )),
        "VBoxManage createvm --name sampan-work-1 --uuid u-1 --basefolder '/home/me/my clusters/vm' --ostype Debian_64 --register"
    );
    let seven = shown(modify(
        "u-1",
        &spec(),
        Path::new("/m/serial.log"),
        Version { major: 7, minor: 2 },
    ));
    let common = "VBoxManage modifyvm u-1 --cpus 2 --memory 4096 --ioapic on --rtcuseutc on --paravirtprovider kvm \
                  --graphicscontroller vmsvga --vram 16 --boot1 disk --boot2 none --boot3 none --boot4 none --nic1 nat \
                  --nictype1 virtio --natdnsproxy1 on --uart1 0x3F8 4 --uartmode1 file /m/serial.log";
    assert_eq!(
        seven,
        format!("{common} --nat-localhostreachable1 on --audio-enabled off")
    );
    let six = shown(modify(
        "u-1",
        &spec(),
        Path::new("/m/serial.log"),
        Version { major: 6, minor: 1 },
    ));
    assert_eq!(six, format!("{common} --audio none"));
}

#[test]
fn its_disks_are_on_one_virtio_controller() {
    assert_eq!(
        shown(controller("u-1")),
        "VBoxManage storagectl u-1 --name disks --add virtio --controller VirtIO --portcount 8 --bootable on"
    );
    assert_eq!(
        shown(layer(Path::new("/m/disk.vdi"), Path::new("/m/base.vmdk"))),
        "VBoxManage createmedium disk --filename /m/disk.vdi --diffparent /m/base.vmdk --format VDI"
    );
    assert_eq!(
        shown(attach("u-1", 2, Path::new("/m/extra-1.vmdk"), Some("immutable"))),
        "VBoxManage storageattach u-1 --storagectl disks --port 2 --device 0 --type hdd --medium /m/extra-1.vmdk \
         --mtype immutable"
    );
    assert_eq!(
        shown(detach("u-1", 0)),
        "VBoxManage storageattach u-1 --storagectl disks --port 0 --device 0 --medium none"
    );
}

#[test]
fn forwards_are_changed_in_one_call_and_only_where_they_differ() {
    let api = forward("127.77.0.2:6443", 8443);
    let old = Rule {
        name: "tcp-127.77.0.2-80".into(),
        forward: forward("127.77.0.2:80", 30_080),
    };
    assert_eq!(
        shown(super::forwards("u-1", std::slice::from_ref(&old), &[api]).unwrap()),
        "VBoxManage modifyvm u-1 --natpf1 delete tcp-127.77.0.2-80 --natpf1 \
         'tcp-127.77.0.2-6443,tcp,127.77.0.2,6443,10.0.2.15,8443'"
    );
    assert_eq!(
        super::forwards("u-1", std::slice::from_ref(&old), &[old.forward]),
        None
    );
}

#[test]
fn a_running_machine_takes_and_gives_up_forwards() {
    let dns = Forward::udp("127.77.0.2:53".parse().unwrap(), 30_053);
    assert_eq!(
        shown(publish("u-1", &dns)),
        "VBoxManage controlvm u-1 natpf1 'udp-127.77.0.2-53,udp,127.77.0.2,53,10.0.2.15,30053'"
    );
    assert_eq!(
        shown(unpublish("u-1", "udp-127.77.0.2-53")),
        "VBoxManage controlvm u-1 natpf1 delete udp-127.77.0.2-53"
    );
    assert_eq!(shown(start("u-1")), "VBoxManage startvm u-1 --type headless");
    assert_eq!(
        shown(control("u-1", "poweroff")),
        "VBoxManage controlvm u-1 poweroff"
    );
    assert_eq!(shown(unregister("u-1")), "VBoxManage unregistervm u-1");
}
