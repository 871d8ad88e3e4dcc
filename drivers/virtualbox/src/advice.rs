//! What VirtualBox says when something of the host is wrong, and what to do about it.

use sampan_driver::{CommandError, DriverError, Failure};

/// See its first lines.
const TABLE: &str = include_str!("advice.txt");

/// All that a command said.
pub(crate) fn said(error: &CommandError) -> String {
    let output = &error.output;
    [&output.stderr, &output.stdout]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .join("\n")
}

/// What known words mean; none for unknown ones.
pub(crate) fn known(text: &str) -> Option<(&'static str, &'static str)> {
    let is_word = |line: &str| !line.is_empty() && !line.starts_with(['#', '=', '>']);
    let known = TABLE
        .split("\n\n")
        .find(|row| row.lines().any(|line| is_word(line) && text.contains(line)))?;
    let part = |mark: &str| known.lines().find_map(|line| line.strip_prefix(mark));
    Some((part("= ")?, part("> ")?))
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
    fn every_row_has_words_a_meaning_and_a_way_out() {
        for row in TABLE.split("\n\n").skip(1) {
            let words = row.lines().next().unwrap();
            let (what, hint) = known(words).unwrap();
            assert!(row.contains(what) && row.contains(hint), "{words} is in two rows");
            assert!(hint.len() > 10, "{hint}");
        }
        assert_eq!(known("all is well"), None);
        assert_eq!(known(""), None);
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
