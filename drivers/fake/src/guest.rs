//! The guest: a directory, and what the commands that sampan runs in it would do to it. Commands nobody waits for anything of
//! succeed with nothing to say.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use sampan_driver::{Command, CommandError, Failure, Output, Runner, Stream};

use crate::FakeConfig;
use crate::files::{self, Files};
use crate::process::Process;

/// The apiserver's certificate and key in the guest.
const KUBELET_CERT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
pub(crate) const API_CERT: &str = "/etc/kubernetes/pki/apiserver.crt";
pub(crate) const API_KEY: &str = "/etc/kubernetes/pki/apiserver.key";
/// Changes with every boot.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What kubeadm leaves for kubelet.
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// What the provisioner has told the guest about registries.
const REGISTRIES: &str = "/var/lib/sampan/done/registries";
/// Static pods.
const MANIFESTS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];
/// Units that are active have a file here.
const UNITS: &str = "/run/units";

/// Answers commands in one machine's guest.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    dir: PathBuf,
    files: Files,
    name: String,
    cache: PathBuf,
}

impl Guest {
    pub(crate) fn new(dir: &Path, name: &str, cache: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            files: Files::new(dir),
            name: name.to_owned(),
            cache: cache.to_owned(),
        }
    }

    /// What a boot does: forgets what runs, starts what is enabled.
    pub(crate) fn boot(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.files.guest("/run")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let id = fs::read("/proc/sys/kernel/random/uuid")
            .unwrap_or_else(|_| format!("{:?}\n", Instant::now()).into());
        files::write(&self.files.guest(BOOT_ID), &id)?;
        self.unit("start", "containerd.service")?;
        self.unit("start", "kubelet.service")
    }

    /// Whether the apiserver would be running.
    pub(crate) fn has_api(&self) -> bool {
        self.is_active("kubelet.service") && self.files.guest(API_KEY).exists()
    }

    /// What a command prints, or its exit status and why.
    fn answer(&self, command: &Command) -> Result<Vec<u8>, (i32, String)> {
        let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
        let failed = |error: io::Error| (1, error.to_string());
        match command.program.rsplit('/').next().unwrap_or_default() {
            "cat" => self.cat(&args).map_err(failed),
            "false" => Err((1, String::new())),
            "echo" => Ok(format!("{}\n", args.join(" ")).into_bytes()),
            "hostname" if args.is_empty() => Ok(self.hostname()),
            "ctr" if args.contains(&"list") => self.images().map_err(failed),
            "kubeadm" => self.kubeadm(&args).map(|()| Vec::new()).map_err(failed),
            "ls" => Ok(self.ls(&args)),
            "rm" => self.rm(&args).map(|()| Vec::new()).map_err(failed),
            // The scripts that are sent to a guest print its certificates at their end, and what it was told about registries.
            "sh" if args.first() == Some(&"-s") => {
                let all = [API_CERT, KUBELET_CERT];
                let there = all.into_iter().filter(|path| self.files.guest(path).exists());
                let shown = self.cat(&there.collect::<Vec<_>>()).map_err(failed)?;
                Ok([shown, self.registries()].concat())
            }
            "sh" => self.shell(args.last().copied().unwrap_or_default()),
            // Sums of no file: everything is to be written.
            "sha256sum" => Err((1, String::new())),
            "systemctl" => self.systemctl(&args),
            "tar" => self
                .untar(command.stdin.as_deref().unwrap_or_default())
                .map(|()| Vec::new())
                .map_err(failed),
            "journalctl" => Ok(b"nothing ever happens here\n".to_vec()),
            _ => Ok(Vec::new()),
        }
    }

    fn registries(&self) -> Vec<u8> {
        let told = fs::read_to_string(self.files.guest(REGISTRIES));
        told.map_or_else(|_| Vec::new(), |told| format!("registries {told}").into_bytes())
    }

    /// What the disk says; a fork has its source's until it is told another one.
    fn hostname(&self) -> Vec<u8> {
        let own = || format!("{}\n", self.name).into_bytes();
        fs::read(self.files.guest("/etc/hostname")).unwrap_or_else(|_| own())
    }

    fn cat(&self, paths: &[&str]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(
                fs::read(self.files.guest(path))
                    .map_err(|error| io::Error::other(format!("{path}: {error}")))?,
            );
        }
        Ok(all)
    }

    /// Names of the images on the parts disk.
    fn images(&self) -> io::Result<Vec<u8>> {
        let machine = self.files.load().map_err(io::Error::other)?;
        machine.parts.map_or(Ok(Vec::new()), fs::read)
    }

    /// Names in directories, as far as they are there.
    fn ls(&self, dirs: &[&str]) -> Vec<u8> {
        let entries = dirs
            .iter()
            .filter_map(|dir| fs::read_dir(self.files.guest(dir)).ok());
        let names = entries.flatten().flatten().map(|entry| entry.file_name());
        let lines = names.map(|name| format!("{}\n", name.to_string_lossy()));
        lines.collect::<String>().into_bytes()
    }

    fn rm(&self, args: &[&str]) -> io::Result<()> {
        for path in args.iter().filter(|arg| !arg.starts_with('-')) {
            fs::remove_file(self.files.guest(path)).or_else(crate::absent)?;
        }
        Ok(())
    }

    /// `exit N`, or one plain command.
    fn shell(&self, script: &str) -> Result<Vec<u8>, (i32, String)> {
        let mut words = script.split_whitespace();
        match words.next() {
            Some("exit") => match words.next().and_then(|word| word.parse().ok()) {
                Some(0) | None => Ok(Vec::new()),
                Some(status) => Err((status, String::new())),
            },
            Some("sh") | None => Ok(Vec::new()),
            Some(program) => self.answer(&Command::new(program).args(words)),
        }
    }

    fn systemctl(&self, args: &[&str]) -> Result<Vec<u8>, (i32, String)> {
        let mut words = args.iter().copied().filter(|arg| !arg.starts_with('-'));
        let verb = words.next().unwrap_or_default();
        for unit in words {
            let unit = if unit.contains('.') {
                unit.to_owned()
            } else {
                format!("{unit}.service")
            };
            if verb == "is-active" && !self.is_active(&unit) {
                return Err((3, "inactive".to_owned()));
            }
            self.unit(verb, &unit).map_err(|error| (1, error.to_string()))?;
        }
        Ok(Vec::new())
    }

    fn is_active(&self, unit: &str) -> bool {
        self.files.guest(UNITS).join(unit).exists()
    }

    fn unit(&self, verb: &str, unit: &str) -> io::Result<()> {
        let mark = self.files.guest(UNITS).join(unit);
        match verb {
            // As the real unit: it does not start before kubeadm wrote its configuration.
            "start" | "restart"
                if unit == "kubelet.service" && !self.files.guest(KUBELET_CONFIG).exists() =>
            {
                Ok(())
            }
            "start" | "restart" | "reload-or-restart" => files::write(&mark, b""),
            "stop" => fs::remove_file(&mark).or_else(crate::absent),
            _ => Ok(()),
        }
    }

    fn kubeadm(&self, args: &[&str]) -> io::Result<()> {
        if let ["init", ..] | ["upgrade", "apply", ..] = args
            && args.get(1) != Some(&"phase")
        {
            self.write_manifests(args)?;
        }
        if !matches!(args, ["init" | "certs", ..]) {
            return Ok(());
        }
        if args[0] == "certs" || !self.files.guest(API_KEY).exists() {
            self.certify()?;
        }
        if args[0] == "init" && !self.files.node().exists() {
            let node = self.node_of(args).unwrap_or_else(|| self.name.clone());
            files::write(&self.files.node(), node.as_bytes())?;
        }
        files::write(&self.files.guest(KUBELET_CONFIG), b"kind: KubeletConfiguration\n")?;
        self.unit("start", "kubelet.service")
    }

    /// Manifests of the version in kubeadm's configuration.
    fn write_manifests(&self, args: &[&str]) -> io::Result<()> {
        let config = self.config_of(args).unwrap_or_default();
        let version = config
            .lines()
            .find_map(|line| line.trim().strip_prefix("kubernetesVersion: "))
            .unwrap_or_default();
        for name in MANIFESTS {
            let path = format!("/etc/kubernetes/manifests/{name}.yaml");
            let text = format!("    image: registry.k8s.io/{name}:{version}\n");
            files::write(&self.files.guest(&path), text.as_bytes())?;
        }
        Ok(())
    }

    /// kubeadm's configuration.
    fn config_of(&self, args: &[&str]) -> Option<String> {
        let at = args.iter().position(|arg| *arg == "--config")?;
        fs::read_to_string(self.files.guest(args.get(at + 1)?)).ok()
    }

    /// The node's name in kubeadm's configuration.
    fn node_of(&self, args: &[&str]) -> Option<String> {
        let text = self.config_of(args)?;
        let mut lines = text.lines().skip_while(|line| *line != "nodeRegistration:");
        let name = lines.find_map(|line| line.strip_prefix("  name: "))?;
        Some(name.trim_matches('"').to_owned())
    }

    /// A certificate for the apiserver by the cluster's own authority, which the provisioner has put here.
    fn certify(&self) -> io::Result<()> {
        let read = |path: &str| fs::read_to_string(self.files.guest(path));
        let (ca, ca_key) = (
            read("/etc/kubernetes/pki/ca.crt")?,
            read("/etc/kubernetes/pki/ca.key")?,
        );
        let (cert, key) = server_certificate(&ca, &ca_key).map_err(io::Error::other)?;
        files::write(&self.files.guest(API_CERT), cert.as_bytes())?;
        files::write(&self.files.guest(API_KEY), key.as_bytes())
    }

    fn untar(&self, archive: &[u8]) -> io::Result<()> {
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let target = self.files.guest(&entry.path()?.to_string_lossy());
            // Links lead to places that only a real guest has.
            if entry.header().entry_type().is_file() {
                let mut contents = Vec::new();
                io::Read::read_to_end(&mut entry, &mut contents)?;
                files::write(&target, &contents)?;
            }
        }
        Ok(())
    }

    fn error(&self, command: &Command, failure: Failure) -> CommandError {
        CommandError {
            command: command.to_string(),
            place: self.name.clone(),
            failure,
            output: Output::default(),
        }
    }

    /// A machine that does not run answers nothing; one that is told to hang or fail does.
    fn trouble(&self, command: &Command) -> Result<(), Failure> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "the machine does not run");
        let config = FakeConfig::load(&self.cache).map_err(io::Error::other)?;
        if Process::find(&self.dir).is_none() {
            return Err(gone().into());
        }
        thread::sleep(Duration::from_millis(config.delay).min(command.deadline));
        let end = Instant::now() + command.deadline;
        let hangs = || FakeConfig::load(&self.cache).is_ok_and(|config| config.hangs_at(&command.program));
        let held = || Process::find(&self.dir).is_some_and(|process| process.is_held());
        while hangs() || held() {
            if Instant::now() >= end {
                return Err(Failure::Deadline(command.deadline));
            }
            if Process::find(&self.dir).is_none() {
                return Err(gone().into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        if config.fails_at(&command.program) {
            Err(Failure::Status(70))
        } else {
            Ok(())
        }
    }
}

impl Runner for Guest {
    fn place(&self) -> String {
        self.name.clone()
    }

    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError> {
        tracing::debug!(%command, "run in the fake guest");
        if let Err(failure) = self.trouble(command) {
            on_output(Stream::Stderr, b"told to fail here\n");
            return Err(self.error(command, failure));
        }
        match self.answer(command) {
            Ok(text) => {
                on_output(Stream::Stdout, &text);
                Ok(())
            }
            Err((status, text)) => {
                on_output(Stream::Stderr, text.as_bytes());
                Err(self.error(command, Failure::Status(status)))
            }
        }
    }

    fn write_file(&self, path: &str, _: u32, contents: &[u8]) -> Result<(), CommandError> {
        let command = Command::new("write").arg(path);
        self.trouble(&command)
            .and_then(|()| Ok(files::write(&self.files.guest(path), contents)?))
            .map_err(|failure| self.error(&command, failure))
    }
}

/// PEM of a certificate and its key.
fn server_certificate(ca: &str, ca_key: &str) -> Result<(String, String), rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let names = ["sampan.internal", "localhost", "kubernetes"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    params
        .subject_alt_names
        .push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &issuer)?;
    Ok((cert.pem(), key.serialize_pem()))
}
