//! An sshd of its own for each test: own keys, own port, ended with the test.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use sampan::progress::Cancel;
use sampan::remote::{self, Session, Target, keys};
use sampan_driver::{Command, Host, Runner};
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(30);
const SSHD: &str = "/usr/sbin/sshd";

/// Keys and a port; sshd listens there once [`Server::start`] was called.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) target: Target,
    sshd: Option<Child>,
}

impl Server {
    /// Everything but the process.
    pub(crate) fn prepared() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host_key = dir.path().join("server/host");
        let key = dir.path().join("client/id");
        keys::ensure(&host_key, "host").unwrap();
        let public = keys::ensure(&key, "user").unwrap();
        let authorized = dir.path().join("authorized_keys");
        fs::write(&authorized, public + "\n").unwrap();
        let address = free_port();
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PidFile none\nMaxStartups 100\nLogLevel ERROR\nSetEnv HOME={}\n",
            host_key.display(),
            authorized.display(),
            // The login shell is not to run what the user of this machine has in their profile.
            dir.path().display()
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        let target = Target {
            address,
            user: Host.run(&Command::new("id").arg("-un")).unwrap().text(),
            key,
            host_key: keys::public_path(&host_key),
            place: "the test guest".to_owned(),
        };
        Self {
            dir,
            target,
            sshd: None,
        }
    }

    pub(crate) fn start(&mut self) {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: these tests need OpenSSH's server (apt-get install openssh-server)"
        );
        if Host.run(&Command::new("id").arg("-u")).unwrap().text() == "0" {
            // Where sshd as root locks itself up before login; the package's own unit makes it otherwise.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = fs::File::create(self.dir.path().join("sshd.log")).unwrap();
        let child = Process::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.dir.path().join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.sshd = Some(child.unwrap());
    }

    /// Ends sshd with all its connections.
    pub(crate) fn stop(&mut self) {
        let Some(mut sshd) = self.sshd.take() else { return };
        let pid = rustix::process::Pid::from_child(&sshd);
        let sessions = std::process::Command::new("pgrep")
            .args(["-P", &sshd.id().to_string()])
            .output()
            .unwrap();
        for pid in String::from_utf8_lossy(&sessions.stdout).split_whitespace() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        sshd.wait().unwrap();
    }

    pub(crate) fn running() -> Self {
        let mut server = Self::prepared();
        server.start();
        server
    }

    pub(crate) fn session(&self) -> Session {
        self.session_until(&Cancel::default())
    }

    pub(crate) fn session_until(&self, cancel: &Cancel) -> Session {
        match remote::connect(&self.target, SOON, cancel) {
            Ok(session) => session,
            Err(error) => panic!("{error}\nsshd says: {}", self.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }

    /// A path of this test alone, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            sshd.kill().unwrap();
            sshd.wait().unwrap();
        }
    }
}

/// An address nobody listens on now.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Waits for something that happens elsewhere.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + SOON;
    while !happened() {
        assert!(
            std::time::Instant::now() < end,
            "{what} did not happen within {SOON:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
