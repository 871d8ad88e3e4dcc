//! VBoxManage's command lines: pure functions from a machine to arguments. Options are those that 6.1 and 7.2 both know; where
//! they differ, the version decides.
//!
//! Sources: chapter "VBoxManage" of the user manuals of VirtualBox 6.1 and 7.2.

use std::path::Path;

use sampan_driver::{Forward, MachineSpec};
use sha2::{Digest, Sha256};

use crate::info::Rule;
use crate::version::Version;

/// The disk controller, and which ports of it are used: the system disk, then the others.
pub(crate) const CONTROLLER: &str = "disks";

/// The guest's address in VirtualBox's NAT network; it is the first that its DHCP server gives away. Without it in a rule the
/// port would be the first lease's, whoever has that.
const GUEST: &str = "10.0.2.15";

/// The first version that keeps guests from the host's loopback interface, and names audio in another way.
const SEVEN: Version = Version { major: 7, minor: 0 };

/// How VirtualBox knows a machine: by a UUID that depends on the machine's directory alone. So it is found after somebody renamed
/// it, and two homes may have profiles of one name.
pub(crate) fn uuid(what: &str, dir: &Path) -> String {
    let hash = Sha256::new()
        .chain_update("sampan ")
        .chain_update(what)
        .chain_update("\0")
        .chain_update(dir.as_os_str().as_encoded_bytes())
        .finalize();
    let mut hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Version 8, "made by the application's own rule", and the usual variant (RFC 9562).
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "8");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The name people see in VirtualBox's lists.
pub(crate) fn vm_name(spec: &MachineSpec) -> String {
    let id = uuid("machine", &spec.dir);
    format!("sampan-{}-{}", spec.name, &id[..8])
}

/// A command line: the words of `pattern`, with a value in place of each `{}`.
fn line(pattern: &str, values: &[&str]) -> Vec<String> {
    let mut values = values.iter();
    let mut word = |word: &str| match word {
        "{}" => values.next().copied().unwrap_or_default().to_owned(),
        word => word.to_owned(),
    };
    pattern.split(' ').map(&mut word).collect()
}

/// Makes the machine's settings file in `folder`.
pub(crate) fn create(name: &str, uuid: &str, folder: &Path) -> Vec<String> {
    line(
        "createvm --name {} --uuid {} --basefolder {} --ostype Debian_64 --register",
        &[name, uuid, &folder.to_string_lossy()],
    )
}

/// What the machine is, but for its disks and its forwards. Nothing that a server has no use for; the clock in UTC, as the guest
/// expects it; KVM's interface, whose clock Linux knows.
pub(crate) fn modify(uuid: &str, spec: &MachineSpec, serial_log: &Path, version: Version) -> Vec<String> {
    let (cpus, memory) = (spec.cpus.to_string(), spec.memory_mib.to_string());
    let mut args = line(
        "modifyvm {} --cpus {} --memory {} --ioapic on --rtcuseutc on --paravirtprovider kvm \
         --graphicscontroller vmsvga --vram 16 --boot1 disk --boot2 none --boot3 none --boot4 none \
         --nic1 nat --nictype1 virtio --natdnsproxy1 on --uart1 0x3F8 4 --uartmode1 file {}",
        &[uuid, &cpus, &memory, &serial_log.to_string_lossy()],
    );
    args.extend(if version >= SEVEN {
        line("--nat-localhostreachable1 on --audio-enabled off", &[])
    } else {
        line("--audio none", &[])
    });
    args
}

/// Gives the machine these forwards and no others; none when it has them.
pub(crate) fn forwards(uuid: &str, has: &[Rule], wanted: &[Forward]) -> Option<Vec<String>> {
    let mut args = line("modifyvm {}", &[uuid]);
    for rule in has {
        if !wanted.contains(&rule.forward) {
            args.extend(line("--natpf1 delete {}", &[&rule.name]));
        }
    }
    for forward in wanted {
        if !has.iter().any(|rule| rule.forward == *forward) {
            args.extend(line("--natpf1 {}", &[&rule(forward)]));
        }
    }
    (args.len() > 2).then_some(args)
}

/// Adds a forward to a running machine.
pub(crate) fn publish(uuid: &str, forward: &Forward) -> Vec<String> {
    line("controlvm {} natpf1 {}", &[uuid, &rule(forward)])
}

/// Takes a forward from a running machine.
pub(crate) fn unpublish(uuid: &str, rule: &str) -> Vec<String> {
    line("controlvm {} natpf1 delete {}", &[uuid, rule])
}

/// A forward as VirtualBox writes it. Its name says where it listens, so no two of them are alike.
fn rule(forward: &Forward) -> String {
    let Forward {
        host,
        guest_port,
        protocol,
    } = forward;
    let (ip, port) = (host.ip(), host.port());
    format!("{protocol}-{ip}-{port},{protocol},{ip},{port},{GUEST},{guest_port}")
}

/// The only controller: virtio, for which the guest's first programs have a driver.
pub(crate) fn controller(uuid: &str) -> Vec<String> {
    line(
        "storagectl {} --name {} --add virtio --controller VirtIO --portcount 8 --bootable on",
        &[uuid, CONTROLLER],
    )
}

/// Puts a disk on a port.
pub(crate) fn attach(uuid: &str, port: usize, medium: &Path, kind: Option<&str>) -> Vec<String> {
    let medium = medium.to_string_lossy();
    let mut args = on_port(uuid, port);
    args.extend(line("--type hdd --medium {}", &[&medium]));
    args.extend(kind.into_iter().flat_map(|kind| line("--mtype {}", &[kind])));
    args
}

/// Takes the disk from a port.
pub(crate) fn detach(uuid: &str, port: usize) -> Vec<String> {
    let mut args = on_port(uuid, port);
    args.extend(line("--medium none", &[]));
    args
}

fn on_port(uuid: &str, port: usize) -> Vec<String> {
    let port = port.to_string();
    line(
        "storageattach {} --storagectl {} --port {} --device 0",
        &[uuid, CONTROLLER, &port],
    )
}

/// Makes an empty disk over another one.
pub(crate) fn layer(disk: &Path, base: &Path) -> Vec<String> {
    line(
        "createmedium disk --filename {} --diffparent {} --format VDI",
        &[&disk.to_string_lossy(), &base.to_string_lossy()],
    )
}

/// Starts without a window.
pub(crate) fn start(uuid: &str) -> Vec<String> {
    line("startvm {} --type headless", &[uuid])
}

/// Takes the machine out of VirtualBox's books.
pub(crate) fn unregister(uuid: &str) -> Vec<String> {
    line("unregistervm {}", &[uuid])
}

/// Takes a disk out of them.
pub(crate) fn close(uuid: &str) -> Vec<String> {
    line("closemedium disk {}", &[uuid])
}

/// All disks in them.
pub(crate) fn disks() -> Vec<String> {
    line("list hdds", &[])
}

/// Asks what VirtualBox knows of the machine.
pub(crate) fn info(uuid: &str) -> Vec<String> {
    line("showvminfo {} --machinereadable", &[uuid])
}

/// "poweroff", "acpipowerbutton", "resume".
pub(crate) fn control(uuid: &str, what: &str) -> Vec<String> {
    line("controlvm {} {}", &[uuid, what])
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
