//! The user's own OpenSSH client, described so that it trusts our key and nothing else.

use std::path::Path;
use std::time::Duration;

use sampan_driver::Command;

use super::{Target, keys};
use crate::error::{Error, Result};
use crate::store::atomic;

/// Describes an `ssh` into the guest: `program` is the client, `known_hosts` a file that is written with the guest's key,
/// `line` what the guest's shell is to run (none for a login), `tty` whether it gets a terminal. To be run with the caller's
/// own standard streams and without a deadline; its exit status is the guest's, or 255 when there is no connection.
///
/// The user's own configuration, agent and known hosts are left out: an entry there must neither break nor weaken this.
///
/// # Errors
/// When the host key cannot be read or `known_hosts` not be written.
pub fn openssh(
    target: &Target,
    program: &Path,
    known_hosts: &Path,
    line: Option<&str>,
    tty: bool,
) -> Result<Command> {
    keys::blob(&target.host_key)?;
    let public = std::fs::read_to_string(&target.host_key).map_err(Error::io(&target.host_key))?;
    atomic::write(
        known_hosts,
        0o600,
        format!("{ALIAS} {}\n", public.trim()).as_bytes(),
    )?;

    let mut command = Command::new(program.to_string_lossy())
        .deadline(Duration::MAX)
        .args(["-F", "none"]);
    let options = [
        format!("HostKeyAlias={ALIAS}"),
        format!("UserKnownHostsFile={}", escaped(known_hosts)),
        format!("IdentityFile={}", escaped(&target.key)),
    ];
    for option in options.iter().map(String::as_str).chain(FIXED) {
        command = command.args(["-o", option]);
    }
    let address = target.address;
    command = command
        .arg(if tty { "-tt" } else { "-T" })
        .args(["-p".to_owned(), address.port().to_string()])
        .args(["-l", &target.user])
        .arg(address.ip().to_string());
    Ok(match line {
        Some(line) => command.args(["--", line]),
        None => command,
    })
}

/// What the guest is called in `known_hosts`, whatever its address is; the file is about one guest only.
const ALIAS: &str = "sampan";

const FIXED: [&str; 10] = [
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "GlobalKnownHostsFile=/dev/null",
    "StrictHostKeyChecking=yes",
    "HostKeyAlgorithms=ssh-ed25519",
    "PreferredAuthentications=publickey",
    "Compression=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "LogLevel=ERROR",
];

/// A path as ssh's options want it: blanks quoted, and `%`, which would begin a token, doubled.
fn escaped(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_trusts_our_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host_key = dir.path().join("host");
        let public = keys::ensure(&host_key, "").unwrap();
        let target = Target {
            address: "127.77.0.2:2222".parse().unwrap(),
            user: "root".into(),
            key: "/my 100%/id".into(),
            host_key: keys::public_path(&host_key),
            place: "dev".into(),
        };
        let known_hosts = dir.path().join("known_hosts");
        let command = openssh(&target, Path::new("ssh"), &known_hosts, Some("ls | wc -l"), false).unwrap();
        let shown = command.to_string();
        assert!(shown.contains(r#"-o 'IdentityFile="/my 100%%/id"' "#), "{shown}");
        assert!(
            shown.ends_with(" -T -p 2222 -l root 127.77.0.2 -- 'ls | wc -l'"),
            "{shown}"
        );
        assert_eq!(
            std::fs::read_to_string(&known_hosts).unwrap().trim(),
            format!("sampan {}", public.trim())
        );
    }
}
