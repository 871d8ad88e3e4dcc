//! Output of real VBoxManages, shortened where nothing is read.

use super::*;

/// VBoxManage 7.2.22, with the warnings its wrapper prints where the kernel module is missing.
const SEVEN: &str = r#"WARNING: The character device /dev/vboxdrv does not exist.
	 Please install the virtualbox-dkms package and the appropriate
	 headers, most likely linux-headers-amd64.

name="sampan-x"
encryption="disabled"
ostype="Debian (64-bit)"
UUID="abcdef01-2345-8444-8123-555555555555"
CfgFile="/m/vm/sampan-x/sampan-x.vbox"
memory=4096
VMState="poweroff"
VMStateChangeTime="2026-11-21T18:47:43.746000000"
storagecontrollername0="disks"
storagecontrollertype0="VirtioSCSI"
storagecontrollerportcount0="4"
"disks-0-0"="/m/disk.vdi"
"disks-ImageUUID-0-0"="aa4402b4-0a04-4789-8c78-aa40e300bdd7"
"disks-nonrotational-0-0"="off"
"disks-1-0"="/m/vm/sampan-x/Snapshots/{988e4081-23c3-401f-850d-2c6b88aa01fc}.vmdk"
"disks-2-0"="none"
natnet1="nat"
Forwarding(0)="tcp-127.77.0.2-2222,tcp,127.77.0.2,2222,10.0.2.15,22"
Forwarding(1)="tcp-127.77.0.2-6443,tcp,127.77.0.2,6443,10.0.2.15,8443"
Forwarding(2)="mine,udp,127.0.0.1,5353,,53"
Forwarding(3)="everywhere,tcp,,8080,,80"
nic2="none"
description="one line
VMState of another"
 rec_screen0
rec_screen_enabled="on"
"#;

#[test]
fn a_machine_is_read_behind_warnings() {
    let vm = Vm::parse(SEVEN).unwrap();
    assert_eq!(vm.state, "poweroff");
    assert_eq!(vm.settings, PathBuf::from("/m/vm/sampan-x/sampan-x.vbox"));
    assert_eq!(vm.controllers, ["disks"]);
    assert_eq!(vm.attached("disks", 0), Some(Path::new("/m/disk.vdi")));
    assert!(vm.attached("disks", 1).is_some() && vm.attached("disks", 2).is_none());
    assert_eq!(vm.attached("disks", 7), None);
    let names: Vec<&str> = vm.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["tcp-127.77.0.2-2222", "tcp-127.77.0.2-6443", "mine"]);
}

#[test]
fn forwards_come_in_the_order_they_were_asked_for() {
    let vm = Vm::parse(SEVEN).unwrap();
    let at = |text: &str, port| Forward::tcp(text.parse().unwrap(), port);
    let wanted = [at("127.77.0.2:6443", 8443), at("127.77.0.2:0", 22)];
    let got = vm.forwards(&wanted);
    let udp = Forward::udp("127.0.0.1:5353".parse().unwrap(), 53);
    assert_eq!(got, [wanted[0], at("127.77.0.2:2222", 22), udp]);
}

#[test]
fn what_is_no_machine_is_none() {
    assert_eq!(Vm::parse(""), None);
    assert_eq!(Vm::parse("VBoxManage: error: what?\nname=\"x\"\n"), None);
    assert_eq!(Vm::parse("\u{fffd}=\"\n=\n\"=\"=\"\"\n"), None);
}

#[test]
fn states_are_few() {
    let state = |word: &str| {
        Vm {
            state: word.to_owned(),
            ..Vm::default()
        }
        .state()
    };
    for (word, seen) in [
        ("poweroff", MachineState::Stopped),
        ("aborted", MachineState::Stopped),
        ("aborted-saved", MachineState::Stopped),
        ("saved", MachineState::Stopped),
        ("", MachineState::Stopped),
        ("running", MachineState::Running),
        ("starting", MachineState::Running),
        ("stopping", MachineState::Running),
        ("saving", MachineState::Running),
        ("paused", MachineState::Paused),
        ("gurumeditation", MachineState::Paused),
    ] {
        assert_eq!(state(word), seen, "{word}");
    }
}

#[test]
fn disks_in_the_books_are_read() {
    let text = "UUID:           75a93d63-d40c-4cc6-afb4-79869f815223\nParent UUID:    base\nState:          created\n\
                Type:           normal (base)\nLocation:       /a/my disks/base.vmdk\nStorage format: VMDK\n\n\
                UUID:           063531f2-122d-42ca-9ef7-0a2dc38d08b3\n\
                Parent UUID:    75a93d63-d40c-4cc6-afb4-79869f815223\nLocation:       /a/disk.vdi\n";
    let found = media(text);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].location, PathBuf::from("/a/my disks/base.vmdk"));
    assert_eq!(found[1].uuid, "063531f2-122d-42ca-9ef7-0a2dc38d08b3");
    assert_eq!(media("WARNING: none\n"), []);
}
