//! A home of its own for the stories, the programs a user has, and patience with a deadline.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The profile that most stories use.
pub(crate) const PROFILE: &str = "first";

/// The node of every cluster that is forked from a ready snapshot.
pub(crate) const NODE: &str = "sampan";

/// A kubeconfig with somebody else's content, which must survive everything.
const FOREIGN: &str = "apiVersion: v1
kind: Config
clusters:
- name: elsewhere
  cluster: {server: https://elsewhere.example:6443}
contexts:
- name: elsewhere
  context: {cluster: elsewhere, user: somebody}
users:
- name: somebody
  user: {token: abc}
current-context: elsewhere
x-own-field: kept
";

/// What the stories share.
pub(crate) struct World {
    home: TempDir,
    /// The cluster that the stories stand on came up.
    stands: AtomicBool,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("sampan-vm-")
            .tempdir()
            .expect("a temporary directory");
        let world = Self {
            home,
            stands: AtomicBool::new(false),
        };
        fs::write(world.kubeconfig(), FOREIGN).expect("a kubeconfig");
        // Read-only layers are the machine's.
        fs::create_dir_all(world.cache()).expect("a cache");
        for shared in ["bundles", "build", "drivers", "layers", "locks", "used"] {
            let target = shared_cache().join(shared);
            fs::create_dir_all(&target).expect("the shared cache");
            std::os::unix::fs::symlink(target, world.cache().join(shared)).expect("a link");
        }
        world
    }

    /// Runs a story. The first one makes the cluster; without it the others would all tell the same.
    pub(crate) fn tell(&self, first: bool, story: fn(&Self)) -> Result<(), String> {
        if !first && !self.stands.load(Ordering::Relaxed) {
            return Err("there is no cluster: the first story failed or was not asked for".to_owned());
        }
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| story(self)));
        eprintln!("    took {:.1} s", began.elapsed().as_secs_f64());
        if first && result.is_ok() {
            self.stands.store(true, Ordering::Relaxed);
        }
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "panicked".to_owned())
        })
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().join("home")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// `sampan ARGS` in this home; the bundle comes from the user's own cache.
    pub(crate) fn sampan(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sampan"));
        command
            .args(args)
            .env("SAMPAN_HOME", self.home())
            .env("KUBECONFIG", self.kubeconfig());
        command
            .env("SAMPAN_CACHE", self.cache())
            .env_remove("SAMPAN_PROFILE")
            .stdin(Stdio::null());
        command
    }

    /// Runs `sampan ARGS`, which must succeed, and returns its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.sampan(args).output().expect("sampan runs");
        assert!(
            output.status.success(),
            "sampan {}: {}",
            args.join(" "),
            shown(&output)
        );
        text(&output.stdout)
    }

    /// Runs the user's own `kubectl ARGS`, which must succeed, and returns its standard output.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_with(args, "");
        assert!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            shown(&output)
        );
        text(&output.stdout)
    }

    /// Runs the user's own `kubectl ARGS` with something on standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is installed");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes())
            .expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// `kubectl apply -f -`, which must succeed.
    pub(crate) fn apply(&self, manifest: &str) {
        let output = self.kubectl_with(&["apply", "-f", "-"], manifest);
        assert!(output.status.success(), "kubectl apply: {}", shown(&output));
    }

    /// What `status -o json` says of a profile, whatever its exit status.
    pub(crate) fn status(&self, profile: &str) -> Value {
        let output = self
            .sampan(&["status", "-p", profile, "-o", "json"])
            .output()
            .expect("sampan runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("status: {}", shown(&output)))
    }

    /// Process id of a profile's QEMU: the one whose working directory is the machine's.
    pub(crate) fn qemu(&self, profile: &str) -> Option<i32> {
        let dir = self.home().join("data/profiles").join(profile).join("machine");
        let dir = dir.canonicalize().ok()?;
        running_in(|cwd| cwd == dir)
    }

    /// Process id of the QEMU that a ready snapshot is made with.
    pub(crate) fn template_qemu(&self) -> Option<i32> {
        let dir = self.cache().join("layers").canonicalize().ok()?;
        running_in(|cwd| cwd.starts_with(&dir))
    }

    /// Nothing of the stories outlives them.
    pub(crate) fn clean_up(&self) {
        let _ = self.sampan(&["delete", "--all"]).output();
    }
}

/// The process whose working directory is a certain one.
fn running_in(is_it: impl Fn(&std::path::Path) -> bool) -> Option<i32> {
    let processes = fs::read_dir("/proc").expect("a Linux host").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| is_it(&cwd)))
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// Waits until something holds; fails with its last answer when the deadline passes.
pub(crate) fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if Instant::now() > end => panic!("{what}: not after {}s: {why}", deadline.as_secs()),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// A child that is ended when the story is, however it ends.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

pub(crate) fn shown(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// The user's own cache, where `./dev` puts the bundle.
pub(crate) fn shared_cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("SAMPAN_CACHE") {
        return cache.into();
    }
    directories::ProjectDirs::from("", "", "sampan")
        .expect("a home directory")
        .cache_dir()
        .to_owned()
}
