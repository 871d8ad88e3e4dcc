//! What VirtualBox says when something of the host is wrong, and what to do about it.
//!
//! The codes are those of VirtualBox's `include/VBox/err.h` and `include/iprt/err.h`, which are the same in every language it
//! speaks; the words are those of its installer's scripts and of its dialogs.

use sampan_driver::{CommandError, DriverError, Failure};

/// Words, and what they mean. The first row that has one of its words in what was said counts.
const TABLE: &[Known] = &[
    Known {
        words: &[
            "/dev/vboxdrv does not exist",
            "vboxdrv kernel module is not loaded",
            "VERR_VM_DRIVER_NOT_INSTALLED",
            "Kernel driver not installed",
            "rc=-1908",
        ],
        what: "VirtualBox's kernel module is not loaded",
        hint: "load it: `sudo modprobe vboxdrv`; where there is none, `sudo /sbin/vboxconfig` builds it, or on Debian and Ubuntu \
               `sudo apt install virtualbox-dkms linux-headers-$(uname -r)`; with Secure Boot it has to be signed",
    },
    Known {
        words: &["VERR_VM_DRIVER_VERSION_MISMATCH", "rc=-1912"],
        what: "VirtualBox's kernel module is of another version than VirtualBox",
        hint: "build it anew: `sudo /sbin/vboxconfig`, or restart the host after an upgrade",
    },
    Known {
        words: &[
            "VERR_VM_DRIVER_NOT_ACCESSIBLE",
            "VERR_VM_DRIVER_OPEN_ERROR",
            "rc=-1909",
            "rc=-1910",
        ],
        what: "this user may not use VirtualBox's kernel module",
        hint: "join its group and log in again: `sudo usermod -aG vboxusers $USER`",
    },
    Known {
        words: &[
            "VERR_VMX_IN_VMX_ROOT_MODE",
            "VERR_SVM_IN_USE",
            "VT-x is being used by another hypervisor",
            "AMD-V is being used by another hypervisor",
        ],
        what: "another hypervisor holds the processor's virtualization (VT-x, AMD-V)",
        hint: "stop machines of KVM and unload it: `sudo modprobe -r kvm_intel kvm_amd` (from Linux 6.12 on also with \
               kvm.enable_virt_at_load=0 on the kernel's command line); or use `--driver qemu`",
    },
    Known {
        words: &[
            "VERR_VMX_MSR_ALL_VMX_DISABLED",
            "VERR_VMX_MSR_VMX_DISABLED",
            "VERR_VMX_MSR_LOCKED_OR_DISABLED",
            "VERR_SVM_DISABLED",
        ],
        what: "the processor's virtualization (VT-x, AMD-V) is switched off in the firmware",
        hint: "switch it on in the setup of the BIOS or UEFI; or use `--driver qemu`, which emulates",
    },
    Known {
        words: &[
            "VERR_VMX_NO_VMX",
            "VERR_SVM_NO_SVM",
            "VERR_NEM_NOT_AVAILABLE",
            "VT-x is not available",
            "AMD-V is not available",
        ],
        what: "the processor offers no virtualization (VT-x, AMD-V) here",
        hint: "in a virtual machine, let its host pass it on (nested virtualization); or use `--driver qemu`, which emulates",
    },
    Known {
        words: &[
            "already locked by a session",
            "already locked for a session",
            "being locked or unlocked",
        ],
        what: "somebody else holds the virtual machine",
        hint: "close VirtualBox's windows that show it, then try again",
    },
    Known {
        words: &["The object functionality is limited", "E_ACCESSDENIED"],
        what: "VirtualBox cannot read the settings of the virtual machine",
        hint: "check who owns the files of the profile; `sampan delete` removes a machine whose files are gone",
    },
    Known {
        words: &[
            "Failed to create the VirtualBox object",
            "NS_ERROR_ABORT",
            "NS_ERROR_SOCKET_FAIL",
            "Failed to initialize COM",
        ],
        what: "VirtualBox's server process (VBoxSVC) cannot be reached",
        hint: "end it (`pkill -u $USER VBoxSVC`) when no virtual machine runs, check who owns ~/.config/VirtualBox, then try again",
    },
    Known {
        words: &["VERR_DISK_FULL", "No space left on device"],
        what: "No space left on device",
        hint: "free some space, or set SAMPAN_HOME to a directory on a larger disk",
    },
    Known {
        words: &[
            "VERR_NO_MEMORY",
            "VERR_NO_LOW_MEMORY",
            "VERR_GMM_HIT_GLOBAL_LIMIT",
        ],
        what: "the host has too little free memory for the virtual machine",
        hint: "end other programs, or make a cluster with less: --memory 3g",
    },
];

struct Known {
    words: &'static [&'static str],
    what: &'static str,
    hint: &'static str,
}

/// All that a command said.
pub(crate) fn said(error: &CommandError) -> String {
    let output = &error.output;
    [&output.stderr, &output.stdout]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .join("\n")
}

/// What known words mean; none for unknown ones.
pub(crate) fn known(text: &str) -> Option<(&'static str, &'static str)> {
    let known = TABLE
        .iter()
        .find(|known| known.words.iter().any(|word| text.contains(word)))?;
    Some((known.what, known.hint))
}

/// A failed call of VBoxManage as what it means for the user.
pub(crate) fn explain(error: CommandError) -> DriverError {
    match &error.failure {
        Failure::NotFound => DriverError::NotInstalled {
            what: "VirtualBox".to_owned(),
            hint: "install it, or choose another driver with --driver".to_owned(),
        },
        Failure::Deadline(limit) => DriverError::Unhealthy {
            what: format!(
                "VirtualBox does not answer: `{}` was given up after {}s",
                error.command,
                limit.as_secs()
            ),
            hint: "end VBoxSVC (`pkill -u $USER VBoxSVC`) when no virtual machine runs, then try again"
                .to_owned(),
        },
        _ => match known(&said(&error)) {
            Some((what, hint)) => DriverError::Unhealthy {
                what: match last_words(&error) {
                    Some(words) => format!("{what}: {words}"),
                    None => what.to_owned(),
                },
                hint: hint.to_owned(),
            },
            None => DriverError::Command(error),
        },
    }
}

/// The first line in which VBoxManage says what is wrong.
fn last_words(error: &CommandError) -> Option<String> {
    said(error)
        .lines()
        .find_map(|line| line.strip_prefix("VBoxManage: error: "))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_driver::Output;
    use std::time::Duration;

    fn failed(text: &str) -> CommandError {
        CommandError {
            command: "VBoxManage startvm x".into(),
            place: "the host".into(),
            failure: Failure::Status(1),
            output: Output {
                stdout: Vec::new(),
                stderr: text.into(),
            },
        }
    }

    /// Words as VirtualBox 6.1 to 7.2 print them.
    #[test]
    fn known_words_become_advice() {
        for (words, what, hint) in [
            (
                "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install the virtualbox-dkms package",
                "kernel module is not loaded",
                "modprobe vboxdrv",
            ),
            (
                "VBoxManage: error: Kernel driver not installed (rc=-1908)",
                "kernel module is not loaded",
                "vboxconfig",
            ),
            (
                "VBoxManage: error: VT-x is being used by another hypervisor (VERR_VMX_IN_VMX_ROOT_MODE).",
                "another hypervisor holds",
                "modprobe -r kvm_intel",
            ),
            (
                "VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX)",
                "offers no virtualization",
                "nested",
            ),
            (
                "VBoxManage: error: VT-x is disabled in the BIOS for all CPU modes (VERR_VMX_MSR_ALL_VMX_DISABLED)",
                "switched off in the firmware",
                "BIOS",
            ),
            (
                "VBoxManage: error: The object functionality is limited\nVBoxManage: error: Details: code E_ACCESSDENIED (0x80070005)",
                "cannot read the settings",
                "sampan delete",
            ),
            (
                "VBoxManage: error: The machine 'x' is already locked by a session (or being locked or unlocked)\n\
                 VBoxManage: error: Details: code VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
                "somebody else holds",
                "close VirtualBox's windows",
            ),
            (
                "VBoxManage: error: Failed to create the VirtualBox object!\nVBoxManage: error: Code NS_ERROR_ABORT (0x80004004)",
                "server process",
                "VBoxSVC",
            ),
        ] {
            match explain(failed(words)) {
                DriverError::Unhealthy { what: got, hint: way } => {
                    assert!(got.contains(what), "{got}");
                    assert!(way.contains(hint), "{way}");
                }
                other => panic!("{words}: {other:?}"),
            }
        }
        let unknown = explain(failed("VBoxManage: error: something else"));
        assert!(matches!(unknown, DriverError::Command(_)), "{unknown:?}");
    }

    #[test]
    fn a_hang_says_how_long_and_what_to_do() {
        let error = CommandError {
            failure: Failure::Deadline(Duration::from_secs(60)),
            ..failed("")
        };
        match explain(error) {
            DriverError::Unhealthy { what, hint } => {
                assert!(
                    what.ends_with("`VBoxManage startvm x` was given up after 60s"),
                    "{what}"
                );
                assert!(hint.contains("VBoxSVC"), "{hint}");
            }
            other => panic!("{other:?}"),
        }
    }
}
