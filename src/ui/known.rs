//! Known problems: pieces of text that errors have, and what helps. Asked when an error brings no hint of its own.

/// One known problem: an error that has all of these texts (in any case) gets this advice.
struct Known {
    texts: &'static [&'static str],
    advice: &'static str,
}

const fn known(texts: &'static [&'static str], advice: &'static str) -> Known {
    Known { texts, advice }
}

/// The first match wins: narrow ones stand before wide ones.
const KNOWN: &[Known] = &[
    known(
        &["no space left on device"],
        "free some space on the host, or set SAMPAN_HOME to a directory on a larger disk",
    ),
    known(
        &["disk quota exceeded"],
        "free some of your quota, or set SAMPAN_HOME to a directory elsewhere",
    ),
    known(
        &["cannot allocate memory"],
        "end other programs, or give the machine less: `sampan delete`, then `sampan start --memory 3g`",
    ),
    known(
        &["/dev/kvm", "permission denied"],
        "add yourself to the group kvm (`sudo usermod -aG kvm $USER`), then log in anew",
    ),
    known(
        &["could not open", "qcow2", "lock"],
        "another QEMU uses this disk; `sampan stop` ends the one that sampan knows of",
    ),
    known(
        &["address already in use"],
        "see what listens there with `ss -ltnp`, end it, then start again",
    ),
    known(
        &["cannot assign requested address"],
        "sampan needs the loopback addresses 127.77.0.0/16; see that the interface lo is up",
    ),
    known(
        &["too many open files"],
        "allow more open files in this shell (`ulimit -n 8192`), then run the command again",
    ),
    known(
        &["file name too long", "socket"],
        "the path of the profile's sockets is too long; set SAMPAN_HOME to a shorter one",
    ),
    known(
        &["certificate", "not yet valid"],
        "the guest's clock is behind; `sampan stop` and `sampan start` set it",
    ),
    known(
        &["certificate", "expired"],
        "check the host's clock; if it is right, `sampan delete` and `sampan start` make new certificates",
    ),
    known(
        &["certificate signed by unknown authority"],
        "the kubeconfig is of another cluster of that name; run `sampan update-context`",
    ),
    known(
        &["connection refused", ":8443"],
        "the apiserver does not answer; see `sampan status` and `sampan logs`",
    ),
    known(
        &["connection refused", ":22"],
        "the guest does not answer yet; see `sampan logs` for its console",
    ),
    known(
        &["bad permissions", "id_ed25519"],
        "the key must be yours alone: run `chmod 600 \"$(sampan ssh-key)\"`",
    ),
    known(
        &["seccomp", "not supported"],
        "runc in this bundle was built without seccomp; install libseccomp-dev and run `sampan bundle build`",
    ),
    known(
        &["preflight", "port-"],
        "something in the guest holds a port that Kubernetes needs; `sampan logs` shows what runs there",
    ),
    known(
        &["context deadline exceeded"],
        "the machine is slow or overloaded; close other work, then run `sampan start` again: it goes on where it stopped",
    ),
    known(
        &["temporary failure in name resolution"],
        "the host cannot look names up; check the network, or use a bundle that is there already (`sampan bundle list`)",
    ),
    known(
        &["network is unreachable"],
        "the host is offline; what is in a bundle works without network (`sampan bundle list`)",
    ),
    known(&["proxyconnect"], "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"),
    known(
        &["qemu-system-", "cannot set up guest memory"],
        "the host has not enough memory for the machine: `sampan delete`, then `sampan start --memory 3g`",
    ),
    known(
        &["operation not permitted", "unshare"],
        "this host does not let users make namespaces; build the bundle as root, or bring one from elsewhere",
    ),
    known(
        &["read-only file system"],
        "set SAMPAN_HOME to a directory that can be written",
    ),
    known(
        &["input/output error"],
        "the disk or the file system has errors; look at `dmesg`",
    ),
];

/// What helps against an error with this text.
pub(super) fn advice(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    KNOWN
        .iter()
        .find(|known| known.texts.iter().all(|part| text.contains(part)))
        .map(|known| known.advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_text_gets_its_advice() {
        assert!(
            advice("write: No space left on device (os error 28)")
                .unwrap()
                .contains("SAMPAN_HOME")
        );
        assert!(
            advice("open /dev/kvm: Permission denied")
                .unwrap()
                .contains("group kvm")
        );
        assert_eq!(advice("something else"), None);
    }

    #[test]
    fn every_entry_can_be_reached() {
        for known in KNOWN {
            assert!(
                known.texts.iter().all(|text| *text == text.to_lowercase()),
                "{:?}",
                known.texts
            );
            let text = known.texts.join(" ");
            assert_eq!(
                advice(&text),
                Some(known.advice),
                "hidden by an earlier entry: {text}"
            );
        }
    }
}
