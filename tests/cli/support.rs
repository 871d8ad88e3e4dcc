//! A world of its own for each test: home, settings, kubeconfig, and a bundle small enough to make on the spot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sampan::bundle::{self, ComponentRef, ImageRef, Manifest};
use sampan::layout::{BundleLayout, Layout};
use sampan::progress::{Cancel, Silent};
use tempfile::TempDir;

/// Whether permissions do not stop this user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The world of one test. Clusters that are left in it are deleted at its end.
pub(crate) struct TestEnvironment {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl TestEnvironment {
    /// A world without a bundle: for tests that start nothing.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["home", "cwd"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self {
            dir,
            variables: Vec::new(),
        }
    }

    /// A world in which the test driver can start clusters.
    pub(crate) fn with_bundle() -> Self {
        let env = Self::new();
        env.make_bundle();
        env
    }

    /// Sets a variable for all commands from here on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::under(&self.sampan_home())
    }

    /// Puts a bundle there; for a world that was made without one.
    pub(crate) fn make_bundle(&self) {
        let version = bundle::catalog().unwrap().bundle.kubernetes;
        make_bundle(&self.layout(), &bundle::current_key().unwrap(), &version);
    }

    /// Puts a bundle there that has another version of Kubernetes; `--source KEY` names it.
    pub(crate) fn make_bundle_of(&self, key: &str, version: &str) {
        make_bundle(&self.layout(), key, version);
    }

    /// Says of a bundle that it has one more component.
    pub(crate) fn add_component(&self, key: &str, name: &str) {
        let files = BundleLayout(self.layout().bundles().join(key));
        let mut manifest = Manifest::read(&files).unwrap().unwrap();
        manifest.components.push(ComponentRef {
            name: name.to_owned(),
            version: "1".to_owned(),
        });
        manifest.write(&files).unwrap();
    }

    pub(crate) fn sampan_home(&self) -> PathBuf {
        self.dir.path().join("sampan")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The directory commands run in.
    pub(crate) fn cwd(&self) -> PathBuf {
        self.dir.path().join("cwd")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Puts a file into our settings, data or cache directory, whichever `path` names.
    pub(crate) fn write(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// sampan, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sampan"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("SAMPAN_HOME", self.sampan_home())
            .env("KUBECONFIG", self.kubeconfig())
            .env("SAMPAN_ENABLE_FAKE_DRIVER", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.cwd())
            .stdin(Stdio::null());
        command
    }

    /// Runs a line as somebody whom permissions stop: as another user when this one is root. The world can then be read by all.
    pub(crate) fn unprivileged(&self, line: &str) -> Output {
        if !is_root() {
            return self.output(line);
        }
        // Where the program was built, others may not look.
        let program = self.dir.path().join("program");
        fs::copy(env!("CARGO_BIN_EXE_sampan"), &program).unwrap();
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let plain = self.command(&words);
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program)
            .args(plain.get_args())
            .env_clear()
            .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir("/")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Starts a command whose end somebody else waits for.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a line of words without blanks in them.
    pub(crate) fn output(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.command(&words).output().unwrap()
    }

    /// Runs a line and gives all that can be seen of it, without what differs from run to run.
    pub(crate) fn run(&self, line: &str) -> String {
        self.seen(&self.output(line))
    }

    /// Runs a line that must succeed, and gives its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", self.seen(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a line and gives its exit status.
    pub(crate) fn status(&self, line: &str) -> i32 {
        self.output(line).status.code().unwrap()
    }

    /// All that can be seen of a run.
    pub(crate) fn seen(&self, output: &Output) -> String {
        let text = format!(
            "status: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        self.filtered(&text)
    }

    /// Text without our paths, times, addresses and what a machine holds of memory.
    pub(crate) fn filtered(&self, text: &str) -> String {
        let text = text.replace(&*self.dir.path().to_string_lossy(), "[DIR]");
        without_memory(&without_addresses(&without_times(&text)))
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        if self.layout().profiles().exists() {
            let deleted = self.output("delete --all");
            if !deleted.status.success() && !std::thread::panicking() {
                panic!("clusters are left: {}", self.seen(&deleted));
            }
        }
    }
}

/// "(1.3s)" and "after 2m 05s" as "(TIME)" and "after TIME".
fn without_times(text: &str) -> String {
    let is_time = |text: &str| {
        let mut words = text.split(' ');
        words.all(|word| {
            let digits = word.trim_end_matches(['s', 'm', 'h']);
            !digits.is_empty()
                && digits.len() < word.len()
                && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        })
    };
    let line = |line: &str| {
        if let Some((before, time)) = line.rsplit_once(" (")
            && let Some(time) = time.strip_suffix(')')
            && is_time(time)
        {
            return format!("{before} (TIME)");
        }
        match line.rsplit_once("after ") {
            Some((before, time)) if is_time(time) => format!("{before}after TIME"),
            _ => line.to_owned(),
        }
    };
    let end = if text.ends_with('\n') { "\n" } else { "" };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + end
}

/// "127.77.0.5" as "ADDRESS".
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("127.77.");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str("ADDRESS");
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    }
    all
}

/// `"Memory":10390528` as `"Memory":BYTES`, and a cell of "10 MiB" as one of "N MiB".
fn without_memory(text: &str) -> String {
    let bytes = |text: &str| {
        let mut parts = text.split("\"Memory\":");
        let mut all = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            all.push_str("\"Memory\":BYTES");
            all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        all
    };
    let cell = |cell: &str| match cell.trim().strip_suffix(" MiB") {
        Some(number) if number.parse::<u64>().is_ok() => " N MiB  ".to_owned(),
        _ => cell.to_owned(),
    };
    let cells = |text: &str| text.split('┆').map(cell).collect::<Vec<_>>().join("┆");
    cells(&bytes(text))
}

/// A bundle as small as the test driver needs it, with a kubectl that says how it was called.
fn make_bundle(layout: &Layout, key: &str, version: &str) {
    let files = BundleLayout(layout.bundles().join(key));
    fs::create_dir_all(files.0.join("bin")).unwrap();
    for path in [files.disk(), files.kernel(), files.initrd()] {
        fs::write(path, "nothing").unwrap();
    }
    // The test driver's guest finds its images here.
    let mut catalog = bundle::catalog().unwrap();
    for image in &mut catalog.images {
        if image.tag == catalog.bundle.kubernetes {
            version.clone_into(&mut image.tag);
        }
    }
    let names: String = catalog
        .images
        .iter()
        .map(|image| format!("{}:{}\n", image.name, image.tag))
        .collect();
    fs::write(files.parts(), names).unwrap();
    fs::write(files.cmdline(), "console=ttyS0\n").unwrap();
    fs::write(files.kubectl(), "#!/bin/sh\necho \"kubectl $*\"\nexit 7\n").unwrap();
    fs::set_permissions(files.kubectl(), fs::Permissions::from_mode(0o755)).unwrap();
    bundle::write_addons(&files.addons()).unwrap();
    let image = |image: &bundle::Image| ImageRef {
        name: image.name.clone(),
        tag: image.tag.clone(),
        digest: format!("sha256:{:064}", 0),
        archive: image.archive,
    };
    let manifest = Manifest {
        format: bundle::FORMAT,
        key: key.to_owned(),
        arch: bundle::arch().to_owned(),
        kubernetes: version.to_owned(),
        created: "2026-01-01T00:00:00Z".to_owned(),
        toolchain: "none".to_owned(),
        contract: bundle::CONTRACT,
        source: bundle::Origin::Build,
        base: catalog.bundle.base.clone(),
        components: Vec::new(),
        images: catalog.images.iter().map(image).collect(),
        files: Manifest::sums(&files.0, &Cancel::default(), &Silent).unwrap(),
    };
    manifest.write(&files).unwrap();
}
