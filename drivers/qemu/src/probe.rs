//! Finds out what runs guests on this host: hardware virtualization if it really works, else emulation.
//!
//! That `/dev/kvm` opens says little: on some hosts (nested virtualization, mostly) firmware runs on it and an ordinary
//! kernel then hangs. So a kernel is booted once, with a program that prints a line. The verdict is remembered for this
//! boot of the host, this QEMU and this kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sampan_driver::{Command, CommandError, DriverError, Failure, Host, Result, Runner};
use serde::{Deserialize, Serialize};

use crate::args::Accelerator;
use crate::board::Arch;
use crate::init;

/// How long the kernel may take to its first program. With working KVM it takes well under a second; all of the check has
/// to end within five.
const BOOT_LIMIT: Duration = Duration::from_millis(3500);

/// The file in the driver's cache directory that holds the verdict.
const VERDICT_FILE: &str = "accelerator.json";

/// What guests run on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The choice.
    pub(crate) accelerator: Accelerator,
    /// Why nothing better; empty when there is nothing better.
    pub(crate) reason: String,
}

impl Verdict {
    fn good(accelerator: Accelerator) -> Self {
        Self {
            accelerator,
            reason: String::new(),
        }
    }

    fn emulate(reason: impl Into<String>) -> Self {
        Self {
            accelerator: Accelerator::Tcg,
            reason: reason.into(),
        }
    }
}

/// What can be seen without trying.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// "linux", "macos", …
    pub(crate) os: &'static str,
    /// The host's processor, if it is of a kind that guests have.
    pub(crate) arch: Option<Arch>,
    /// Linux: what opening `/dev/kvm` came to.
    pub(crate) kvm: Result<(), ErrorKind>,
    /// macOS: what `sysctl -n kern.hv_support` says.
    pub(crate) hv_support: String,
    /// What `-accel help` lists.
    pub(crate) accel_help: String,
}

/// What to do about the facts.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Settled(Verdict),
    BootWithKvm,
}

impl Facts {
    /// Looks at this host.
    pub(crate) fn of_host(program: &Path) -> Self {
        let text = |command: Command| Host.run(&command).map(|output| output.text()).unwrap_or_default();
        let os = std::env::consts::OS;
        let brief = |command: Command| command.deadline(Duration::from_secs(2));
        Self {
            os,
            arch: Arch::of_host(),
            kvm: OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .map(drop)
                .map_err(|e| e.kind()),
            hv_support: match os {
                "macos" => text(brief(Command::new("sysctl").args(["-n", "kern.hv_support"]))),
                _ => String::new(),
            },
            accel_help: text(brief(
                Command::new(program.to_string_lossy()).args(["-accel", "help"]),
            )),
        }
    }

    fn plan(&self, guest: Arch) -> Plan {
        let built_in = |name: &str| self.accel_help.split_whitespace().any(|word| word == name);
        let verdict = match (self.os, self.kvm) {
            _ if self.arch != Some(guest) => Verdict::emulate("the guest's architecture is not this host's"),
            ("macos", _) if self.hv_support != "1" => {
                Verdict::emulate("this Mac has no Hypervisor framework (kern.hv_support is not 1)")
            }
            ("macos", _) if !built_in("hvf") => Verdict::emulate("this qemu was built without hvf"),
            ("macos", _) => Verdict::good(Accelerator::Hvf),
            ("linux", Ok(())) if !built_in("kvm") => Verdict::emulate("this qemu was built without kvm"),
            ("linux", Ok(())) => return Plan::BootWithKvm,
            ("linux", Err(ErrorKind::NotFound)) => Verdict::emulate(
                "there is no /dev/kvm: virtualization is off in the firmware, or this host is itself a virtual machine",
            ),
            ("linux", Err(ErrorKind::PermissionDenied)) => Verdict::emulate(
                "no permission to use /dev/kvm: add yourself to its group (`sudo usermod -aG kvm $USER`), then log in again",
            ),
            ("linux", Err(kind)) => Verdict::emulate(format!("/dev/kvm cannot be opened: {kind}")),
            (os, _) => Verdict::emulate(format!("no hardware virtualization is known for {os}")),
        };
        Plan::Settled(verdict)
    }
}

/// Which program and kernel a verdict is about, and when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    boot_id: String,
    qemu: Stamp,
    version: String,
    kernel: Stamp,
}

/// Tells whether a file is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified_ns: modified.as_nanos(),
        })
    }
}

/// A remembered verdict.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    subject: Subject,
    verdict: Verdict,
}

/// What a verdict needs to be found.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    /// QEMU.
    pub(crate) program: &'a Path,
    /// Its version, for the record.
    pub(crate) version: String,
    /// The guest's.
    pub(crate) arch: Arch,
    /// An ordinary kernel to try.
    pub(crate) kernel: Option<&'a Path>,
    /// Where the verdict is kept.
    pub(crate) cache_dir: &'a Path,
}

impl Probe<'_> {
    /// The verdict about these facts; boots a kernel when it has to and has not yet.
    pub(crate) fn verdict(&self, facts: &Facts) -> Result<Verdict> {
        let kernel = match (facts.plan(self.arch), self.kernel) {
            (Plan::Settled(verdict), _) => return Ok(verdict),
            (Plan::BootWithKvm, Some(kernel)) => kernel,
            (Plan::BootWithKvm, None) => {
                return Ok(Verdict::emulate("there is no kernel yet to try /dev/kvm with"));
            }
        };
        let subject = self.subject(kernel)?;
        if let Some(verdict) = self.remembered(&subject) {
            return Ok(verdict);
        }
        let verdict = self.boot(kernel)?;
        tracing::info!(?verdict, "probed /dev/kvm");
        self.remember(&Record {
            subject,
            verdict: verdict.clone(),
        });
        Ok(verdict)
    }

    fn subject(&self, kernel: &Path) -> Result<Subject> {
        Ok(Subject {
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            qemu: Stamp::of(self.program).map_err(DriverError::io(self.program))?,
            version: self.version.clone(),
            kernel: Stamp::of(kernel).map_err(DriverError::io(kernel))?,
        })
    }

    /// The verdict on file, if it is about the same things. A damaged file is as good as none.
    fn remembered(&self, subject: &Subject) -> Option<Verdict> {
        let text = fs::read_to_string(self.cache_dir.join(VERDICT_FILE)).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        (record.subject == *subject).then_some(record.verdict)
    }

    /// Keeps a verdict; when that fails, it is found again next time.
    fn remember(&self, record: &Record) {
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(self.cache_dir)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.as_file().sync_all()?;
            file.persist(self.cache_dir.join(VERDICT_FILE))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(%error, dir = %self.cache_dir.display(), "the verdict about kvm could not be kept");
        }
    }

    fn boot(&self, kernel: &Path) -> Result<Verdict> {
        fs::create_dir_all(self.cache_dir).map_err(DriverError::io(self.cache_dir))?;
        let initrd =
            tempfile::NamedTempFile::new_in(self.cache_dir).map_err(DriverError::io(self.cache_dir))?;
        let write = |mut file: &File| file.write_all(&init::initrd(self.arch));
        write(initrd.as_file()).map_err(DriverError::io(initrd.path()))?;
        let (output, how) = match Host.run(&self.command(kernel, initrd.path())) {
            Ok(output) => (output, "ended without running a program".to_owned()),
            Err(CommandError {
                output,
                failure: Failure::Deadline(limit),
                ..
            }) => (
                output,
                format!("hung: no program ran within {} s", limit.as_secs_f32()),
            ),
            Err(error) => (error.output, format!("failed with {}", error.failure)),
        };
        let console = String::from_utf8_lossy(&output.stdout);
        if console.contains(init::MARKER.trim()) {
            return Ok(Verdict::good(Accelerator::Kvm));
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = last_words(&errors)
            .or_else(|| last_words(&console))
            .unwrap_or_else(|| "nothing".to_owned());
        Ok(Verdict::emulate(format!(
            "/dev/kvm opens, but an ordinary kernel on it {how} (last words: {said})"
        )))
    }

    fn command(&self, kernel: &Path, initrd: &Path) -> Command {
        let board = self.arch.board();
        Command::new(self.program.to_string_lossy())
            .args([
                "-no-user-config",
                "-nodefaults",
                "-display",
                "none",
                "-no-reboot",
                "-machine",
                board.machine,
            ])
            .args([
                "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "512", "-serial", "stdio", "-kernel",
            ])
            .path(kernel)
            .arg("-initrd")
            .path(initrd)
            .args([
                "-append".to_owned(),
                format!("console={} panic=-1 rdinit=/init", board.console),
            ])
            .deadline(BOOT_LIMIT)
    }
}

/// The last line with something in it, at most 100 characters of it.
fn last_words(text: &str) -> Option<String> {
    let printable = |line: &str| {
        line.chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect::<String>()
    };
    text.lines()
        .rev()
        .map(|line| printable(line).trim().to_owned())
        .find(|line| !line.is_empty())
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
