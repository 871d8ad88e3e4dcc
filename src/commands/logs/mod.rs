//! `logs`: what the node, its services and its pods say, in sections that scripts know from minikube.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sampan_driver::{Command, Runner};

use crate::cli::LogsArgs;
use crate::cluster::{self, Context};
use crate::error::{Error, Result};

use super::{App, ssh};

const PODS: &str = include_str!("pods.sh");

/// Words that lines about problems have.
const PROBLEMS: [&str; 10] = [
    "error",
    "fail",
    "fatal",
    "panic",
    "denied",
    "refused",
    "oom",
    "timed out",
    "timeout",
    "unable to",
];

/// Where sections go: a file, or standard output.
struct Output<'a> {
    app: &'a App,
    file: Option<Mutex<File>>,
    problems: bool,
}

pub(super) fn run(app: &App, args: &LogsArgs) -> Result<u8> {
    let name = app.profile()?;
    let ctx = app.context()?;
    cluster::load(&ctx.layout, &name)?;
    if args.follow {
        return follow(app, &name, args.length);
    }
    let file = match &args.file {
        Some(path) => Some(Mutex::new(File::create(path).map_err(Error::io(path))?)),
        None => None,
    };
    let output = Output {
        app,
        file,
        problems: args.problems,
    };
    console(&ctx, &name, args.length, &output)?;
    let access = cluster::access(&ctx, &name)?;
    let guest = access.runner()?;
    for (title, command) in sections(args.length) {
        output.section(title, &said(&*guest, &command))?;
    }
    let pods = Command::new("sh")
        .args(["-c", PODS, "sh", &args.length.to_string()])
        .deadline(SECTION_DEADLINE);
    output.text(&said(&*guest, &pods))?;
    Ok(0)
}

const SECTION_DEADLINE: Duration = Duration::from_secs(60);

/// The sections of the node, each with the command that makes it.
fn sections(length: u32) -> Vec<(&'static str, Command)> {
    let journal = |unit: &str| {
        let lines = length.to_string();
        Command::new("journalctl")
            .args(["--no-pager", "--lines", &lines, "--unit", unit])
            .deadline(SECTION_DEADLINE)
    };
    let kubectl = |words: &[&str]| {
        let command = Command::new("kubectl").arg("--kubeconfig=/etc/kubernetes/admin.conf");
        command
            .arg("--request-timeout=20s")
            .args(words.iter().copied())
            .deadline(SECTION_DEADLINE)
    };
    vec![
        ("kubelet", journal("kubelet")),
        ("containerd", journal("containerd")),
        ("describe nodes", kubectl(&["describe", "nodes"])),
        (
            "pods",
            kubectl(&["get", "pods", "--all-namespaces", "--output", "wide"]),
        ),
        (
            "kernel",
            Command::new("dmesg").args(["--level", "emerg,alert,crit,err,warn"]),
        ),
    ]
}

/// What a command said; one that fails says why, which belongs into the logs too.
fn said(guest: &dyn Runner, command: &Command) -> String {
    match guest.run(command) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("{}{error}\n", String::from_utf8_lossy(&error.output.stdout)),
    }
}

/// The end of the machine's console: there also when nothing else answers.
fn console(ctx: &Context, name: &str, length: u32, output: &Output<'_>) -> Result<()> {
    let text = match std::fs::read(ctx.layout.profile(name).machine().join("serial.log")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => return Ok(()),
    };
    let lines: Vec<&str> = text.lines().collect();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    output.section("console", &lines[lines.len().saturating_sub(length)..].join("\n"))
}

/// Follows the journal of the services until Ctrl-C.
fn follow(app: &App, name: &str, length: u32) -> Result<u8> {
    let line = format!("journalctl --follow --lines {length} --unit kubelet --unit containerd");
    ssh::command(app, name, &[line])
}

impl Output<'_> {
    fn section(&self, title: &str, text: &str) -> Result<()> {
        self.text(&format!("==> {title} <==\n{}\n\n", text.trim_end()))
    }

    fn text(&self, text: &str) -> Result<()> {
        let kept: String = text
            .lines()
            .filter(|line| !self.problems || is_problem(line))
            .map(|line| format!("{line}\n"))
            .collect();
        match &self.file {
            None => self.app.ui.bytes(kept.as_bytes()),
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.write_all(kept.as_bytes())
                    .map_err(Error::io(Path::new("--file")))?;
            }
        }
        Ok(())
    }
}

/// Whether a line is worth a look; titles stay.
fn is_problem(line: &str) -> bool {
    let lower = line.to_lowercase();
    line.starts_with("==>") || PROBLEMS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_found_by_their_words() {
        assert!(is_problem("E0101 connection refused"));
        assert!(is_problem("==> kubelet <=="));
        assert!(!is_problem("I0101 all is well"));
    }
}
