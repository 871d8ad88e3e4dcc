//! A cloud image as the node's base: waits until cloud-init is done with its first boot, says what went wrong there, then brings what
//! sampan's own base has and the image lacks, files from this program and packages from the parts disk. From then on both are the same;
//! cloud-init is off.

use std::collections::BTreeMap;
use std::time::Duration;

use sampan_driver::Command;
use serde::Deserialize;

use super::guest::{self, Entry, Stamp};
use super::{Node, last_words, render};
use crate::error::{Error, Kind, Result};

/// The name of the stamp.
const ID: &str = "cloud";

/// From the first answer of sshd to cloud-init's end; a minute under emulation, several on a busy host.
const CLOUD_INIT_DEADLINE: Duration = Duration::from_secs(600);
const SETUP_DEADLINE: Duration = Duration::from_secs(300);

/// Files of the base that are not brought here: the image knows its own disk, and other steps bring theirs and look whether they changed.
const NOT_OURS: &[&str] = &[
    "etc/fstab",
    "etc/containerd/config.toml",
    "etc/modules-load.d/sampan.conf",
    "etc/sysctl.d/60-sampan.conf",
    "etc/systemd/system/containerd.service",
    "etc/systemd/system/kubelet.service",
];
/// systemd's generators that have nothing to find in a node; each runs at every reload.
const IDLE_GENERATORS: &[&str] = &[
    "debug",
    "getty",
    "gpt-auto",
    "hibernate-resume",
    "rc-local",
    "run",
    "ssh",
    "system-update",
    "sysv",
    "tpm2",
];
/// Units of the base, and what wants them: what `systemctl enable` made there.
const UNITS: &[(&str, &str)] = &[
    ("ssh.service", "sysinit.target"),
    ("ssh.service", "multi-user.target"),
    ("sampan-seed.service", "sysinit.target"),
    ("sampan-grow.service", "multi-user.target"),
];

/// Nothing is to be done on a base of sampan's own.
pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    if !node.parts.cloud {
        return Ok(true);
    }
    Stamp::new(node, ID).is(&digest(&entries()?)?)
}

/// The parts disk is mounted.
pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    node.reporter.detail("waiting for cloud-init");
    wait(node, CLOUD_INIT_DEADLINE)?;
    node.reporter.detail("making the cloud image a node");
    let entries = entries()?;
    guest::install(node, &entries)?;
    let setup = Command::new("sh")
        .args(["-s", "--", fstab_line()?])
        .stdin(render::file("cloud/setup")?)
        .deadline(SETUP_DEADLINE);
    guest::run(node, &setup)?;
    Stamp::new(node, ID).write(&digest(&entries)?)
}

/// All files of the base, its links and enabled units.
fn entries() -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (path, text) in render::base_files()? {
        if NOT_OURS.contains(&path) {
            continue;
        }
        let mode = if path.starts_with("usr/local/lib/sampan/") {
            0o755
        } else {
            0o644
        };
        entries.push(Entry::File(path, mode, text.to_owned()));
    }
    for (target, path) in render::base_links() {
        entries.push(Entry::Link(path.to_owned(), target.to_owned()));
    }
    entries.extend(IDLE_GENERATORS.iter().map(|name| {
        let generator = format!("/etc/systemd/system-generators/systemd-{name}-generator");
        Entry::Link(generator, "/dev/null".to_owned())
    }));
    entries.extend(UNITS.iter().map(|(unit, wanted_by)| {
        Entry::Link(
            format!("/etc/systemd/system/{wanted_by}.wants/{unit}"),
            format!("/etc/systemd/system/{unit}"),
        )
    }));
    Ok(entries)
}

fn digest(entries: &[Entry]) -> Result<String> {
    let texts = [
        guest::digest(entries),
        fstab_line()?.to_owned(),
        render::file("cloud/setup")?.to_owned(),
    ];
    Ok(super::digest(texts.iter().map(String::as_bytes)))
}

/// The base's own line for the parts disk.
fn fstab_line() -> Result<&'static str> {
    let lines = render::base("etc/fstab")?.lines();
    lines
        .into_iter()
        .find(|line| line.contains("SAMPAN-PARTS"))
        .ok_or_else(|| Error::new(Kind::Internal, "the base's fstab has no parts disk"))
}

/// Waits until cloud-init has ended; its errors are ours, what it could do without is a warning.
fn wait(node: &Node<'_>, deadline: Duration) -> Result<()> {
    let finished = Command::new("sh")
        .arg("-s")
        .stdin(render::file("cloud/finished")?);
    guest::poll(
        node,
        deadline,
        || Ok(node.runner.succeeds(&finished)?),
        || {
            let words = last_words::journal(node, &["cloud-init-local.service", "cloud-final.service"], 12);
            let seconds = deadline.as_secs();
            failed(&format!("is not done within {seconds}s{words}"))
        },
    )?;
    let status = Command::new("sh")
        .arg("-s")
        .stdin(render::file("cloud/status")?)
        .deadline(Duration::from_secs(120));
    // Its status says the same as its output: 1 is an error, 2 one that it could do without.
    let output = match node.runner.run(&status) {
        Ok(output) => output.text(),
        Err(error) if error.status().is_some() && !error.output.stdout.is_empty() => error.output.text(),
        Err(error) => return Err(error.into()),
    };
    let warnings = judge(&output).map_err(|why| failed(&why))?;
    for warning in warnings {
        node.reporter.warn(&format!("cloud-init in the guest: {warning}"));
    }
    Ok(())
}

fn failed(why: &str) -> Error {
    Error::new(Kind::Provision, format!("cloud-init in the guest {why}"))
        .hint("`sampan delete` and start again: a cloud image is set up by its first boot")
}

/// What `cloud-init status --format=json` prints, as far as it matters.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<String>,
    /// By log level. Not in old versions.
    #[serde(default)]
    recoverable_errors: BTreeMap<String, Vec<String>>,
}

/// Whether cloud-init did its work: what it could do without, or why it did not.
fn judge(output: &str) -> Result<Vec<String>, String> {
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    let status: Status =
        serde_json::from_str(output).map_err(|error| format!("gives no status ({error}): {output}"))?;
    let warnings = status
        .recoverable_errors
        .into_iter()
        .flat_map(|(level, messages)| {
            let told = move |message| format!("{}: {message}", level.to_lowercase());
            messages.into_iter().map(told)
        });
    let mut warnings: Vec<String> = warnings.collect();
    // The same complaint comes from each of its stages.
    warnings.sort();
    warnings.dedup();
    match status.status.as_str() {
        "done" => Ok(warnings),
        "error" => {
            let mut all = status.errors;
            all.extend(warnings);
            all.extend((!status.detail.is_empty()).then_some(status.detail));
            Err(format!("failed: {}", all.join("; ")))
        }
        other => Err(format!("did not do its work: {other} {}", status.detail)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sampan_driver::{CommandError, Failure, Host, Runner, Stream};

    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn a_base_of_our_own_has_nothing_to_do() {
        let fixture = Fixture::new();
        assert!(is_done(&fixture.node()).unwrap());
    }

    #[test]
    fn all_of_the_base_but_its_fstab_comes_to_a_cloud_image() {
        let entries = entries().unwrap();
        let file = |path: &str| {
            entries
                .iter()
                .find(|entry| matches!(entry, Entry::File(name, ..) if *name == path))
        };
        let Some(Entry::File(_, mode, text)) = file("usr/local/lib/sampan/seed") else {
            panic!("{entries:?}")
        };
        assert_eq!(*mode, 0o755);
        assert!(text.contains("sampan-seed"));
        assert!(file("etc/systemd/system/ssh.service").is_some());
        for path in NOT_OURS {
            assert!(file(path).is_none() && render::base(path).is_ok(), "{path}");
        }
        let dockerd = Entry::Link(
            "/usr/local/bin/dockerd".into(),
            "/opt/sampan/parts/bin/dockerd".into(),
        );
        assert!(entries.contains(&dockerd));
        assert!(fstab_line().unwrap().starts_with("LABEL=SAMPAN-PARTS "));
        // Whatever the base enables is enabled here, too.
        for (unit, wanted_by) in UNITS {
            let text = render::base(&format!("etc/systemd/system/{unit}")).unwrap();
            let wanted = text
                .lines()
                .find_map(|line| line.strip_prefix("WantedBy="))
                .unwrap();
            assert!(wanted.split(' ').any(|one| one == *wanted_by), "{unit}");
        }
    }

    const DONE: &str = r#"{"boot_status_code": "enabled-by-generator", "datasource": "nocloud", "detail": "DataSourceNoCloud [seed=/dev/vdb]",
        "errors": [], "extended_status": "done", "recoverable_errors": {}, "status": "done", "init": {"errors": []}}"#;
    const DEGRADED: &str = r#"{"status": "done", "extended_status": "degraded done", "errors": [],
        "recoverable_errors": {"WARNING": ["no such module", "no such module"], "DEPRECATED": ["old key"]}}"#;
    const ERROR: &str = r#"{"status": "error", "extended_status": "error - done", "detail": "", "errors": ["('ssh', OSError('disk full'))"],
        "recoverable_errors": {}}"#;
    const DISABLED: &str =
        r#"{"status": "disabled", "detail": "Cloud-init disabled by cloud-init-generator", "errors": []}"#;

    #[test]
    fn what_cloud_init_says_is_told() {
        assert_eq!(judge(DONE).unwrap(), Vec::<String>::new());
        assert_eq!(
            judge(DEGRADED).unwrap(),
            ["deprecated: old key", "warning: no such module"]
        );
        // Switched off by ourselves, before an interruption.
        assert_eq!(judge("\n").unwrap(), Vec::<String>::new());
        assert_eq!(judge(ERROR).unwrap_err(), "failed: ('ssh', OSError('disk full'))");
        assert!(
            judge(DISABLED)
                .unwrap_err()
                .contains("disabled by cloud-init-generator")
        );
        assert!(judge("Traceback").unwrap_err().contains("Traceback"));
    }

    /// A guest where cloud-init ends as it is told, and which remembers what it was asked after that.
    struct Guest {
        status: &'static str,
        code: i32,
        asked: Mutex<Vec<String>>,
    }

    impl Runner for Guest {
        fn place(&self) -> String {
            "test".into()
        }

        fn run_streamed(
            &self,
            command: &Command,
            on_output: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            let stdin = String::from_utf8_lossy(command.stdin.as_deref().unwrap_or_default()).into_owned();
            let is_status = stdin.contains("cloud-init status --format");
            self.asked.lock().unwrap().push(format!("{command} {stdin}"));
            if !is_status {
                return Ok(());
            }
            on_output(Stream::Stdout, self.status.as_bytes());
            if self.code == 0 {
                return Ok(());
            }
            Err(Host::error(command, Failure::Status(self.code)))
        }
    }

    fn run_on(status: &'static str, code: i32) -> (Result<()>, Vec<String>) {
        let fixture = Fixture::new();
        let guest = Guest {
            status,
            code,
            asked: Mutex::default(),
        };
        let node = Node {
            runner: &guest,
            ..fixture.node()
        };
        let result = apply(&node);
        (result, guest.asked.into_inner().unwrap())
    }

    #[test]
    fn a_failed_cloud_init_ends_the_start_with_its_words() {
        let (result, asked) = run_on(ERROR, 1);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Provision);
        assert!(error.to_string().contains("disk full"), "{error}");
        assert!(!asked.iter().any(|command| command.contains("dpkg --install")));
    }

    #[test]
    fn one_that_ended_well_or_nearly_so_is_followed_by_the_set_up() {
        for (status, code) in [(DONE, 0), (DEGRADED, 2)] {
            let (result, asked) = run_on(status, code);
            result.unwrap();
            let last = &asked[asked.len() - 2];
            assert!(last.contains("dpkg --install") && last.contains("LABEL=SAMPAN-PARTS"));
            assert!(asked[asked.len() - 1].contains("/var/lib/sampan/done/cloud"));
        }
    }

    /// A guest where cloud-init goes on for ever.
    struct Busy;

    impl Runner for Busy {
        fn place(&self) -> String {
            "test".into()
        }

        fn run_streamed(
            &self,
            command: &Command,
            on_output: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            if command.program == "journalctl" {
                on_output(Stream::Stdout, b"waiting for Godot\n");
                return Ok(());
            }
            Err(Host::error(command, Failure::Status(1)))
        }
    }

    #[test]
    fn one_that_never_ends_is_given_up_with_its_last_words() {
        let fixture = Fixture::new();
        let node = Node {
            runner: &Busy,
            ..fixture.node()
        };
        let error = wait(&node, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), Kind::Provision);
        let text = error.to_string();
        assert!(
            text.contains("not done within 0s") && text.contains("waiting for Godot"),
            "{text}"
        );
    }
}
