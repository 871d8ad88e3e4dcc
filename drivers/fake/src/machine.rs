//! The body of a machine's process: listens on all its forwards; behind the API's is a small cluster, behind sshd's and Docker's nobody,
//! behind all others somebody who answers every connection with a page that names the guest's port.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use native_tls::{Identity, TlsAcceptor};
use sampan_driver::Forward;

use crate::FakeConfig;
use crate::cluster::Cluster;
use crate::files::{self, Files};
use crate::forwards::Board;
use crate::guest::{API_CERT, API_KEY, BOOT_ID, Guest};
use crate::watch::Watch;
use crate::{http, saved};

/// The apiserver's port in the guest.
const API_PORT: u16 = 8443;

/// Ports of the guest behind which nobody is.
const SSH_PORT: u16 = 22;
const DOCKER_PORT: u16 = 2376;

/// How long a port that was in use a moment ago may take to become free.
const PORT_DEADLINE: Duration = Duration::from_millis(300);

/// Runs the machine in `dir` until it is ended by a signal. What goes wrong is written to standard error, which is the machine's
/// log.
pub fn run(dir: &Path) -> ExitCode {
    match boot(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can be told, nobody is.
            let _ = writeln!(io::stderr(), "{}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn boot(dir: &Path) -> io::Result<()> {
    let files = Files::new(dir);
    let machine = files.load().map_err(io::Error::other)?;
    let config = FakeConfig::load(&machine.cache).map_err(io::Error::other)?;
    let resumes = saved::is_there(&files.state());
    // Standard output is the console.
    let does = if resumes { "goes on" } else { "boots" };
    writeln!(io::stdout(), "{} {does} with {} CPUs", machine.name, machine.cpus)?;
    let mut listeners = Vec::new();
    for forward in &machine.forwards {
        match listen(forward.host) {
            Ok(listener) => listeners.push((*forward, listener)),
            Err(error) => {
                files::write(&files.listening(), forward.host.to_string().as_bytes())?;
                return Err(io::Error::new(error.kind(), format!("{}: {error}", forward.host)));
            }
        }
    }
    let guest = Guest::new(dir, &machine.name, &machine.cache);
    if resumes {
        // From here on disk and memory move on, and what was saved no longer fits.
        saved::forget(&files.state())?;
    } else {
        guest.boot()?;
    }
    if config.hangs_at("sshd") {
        writeln!(io::stdout(), "panic: told to hang before sshd")?;
    }
    let server = Server {
        files: files.clone(),
        guest,
        name: machine.name,
        cache: machine.cache,
        cluster: Arc::default(),
    };
    Arc::<Board>::default().open(server.clone(), &files)?;
    files::write(&files.listening(), b"ok")?;
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|(forward, listener)| {
            let server = server.clone();
            thread::spawn(move || server.accept(forward, &listener))
        })
        .collect();
    for thread in threads {
        // Listeners go on until the process is ended.
        let _ = thread.join();
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + PORT_DEADLINE;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Answers the first request, whatever it is.
fn page(guest_port: u16, mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    let text = format!("guest port {guest_port}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

#[derive(Clone)]
pub(crate) struct Server {
    files: Files,
    guest: Guest,
    name: String,
    cache: PathBuf,
    /// Opened when it is first asked for: only kubeadm gives the node its name.
    cluster: Arc<Mutex<Option<Cluster>>>,
}

impl Server {
    fn accept(&self, forward: Forward, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            self.welcome(forward.guest_port, stream);
        }
    }

    /// Somebody connected to a port of the guest.
    pub(crate) fn welcome(&self, guest_port: u16, stream: TcpStream) {
        let server = self.clone();
        // Answers are written in pieces: each would wait 40 ms for the client's delayed acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        // A client that goes away or speaks nonsense is its own problem.
        match guest_port {
            API_PORT => drop(thread::spawn(move || server.serve(stream))),
            SSH_PORT | DOCKER_PORT => {}
            _ => drop(thread::spawn(move || page(guest_port, stream))),
        }
    }

    /// Closes at once while there is no apiserver, as a machine does.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let config = FakeConfig::load(&self.cache).unwrap_or_default();
        if !self.guest.has_api() || config.hangs_at("api") || config.fails_at("api") {
            return Ok(());
        }
        let (cert, key) = (
            fs::read(self.files.guest(API_CERT))?,
            fs::read(self.files.guest(API_KEY))?,
        );
        let identity = Identity::from_pkcs8(&cert, &key).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::new(identity).map_err(io::Error::other)?;
        let stream = acceptor.accept(stream).map_err(io::Error::other)?;
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.is_none() {
            *cluster = Some(self.open()?);
        }
        drop(cluster);
        http::serve(
            stream,
            |request| Watch::wanted(self, request),
            |request| {
                self.answer(request)
                    .unwrap_or_else(|| http::Answer::Text(500, "there is no cluster".to_owned()))
            },
        )
    }

    /// The cluster's answer; none while there is no apiserver.
    pub(crate) fn answer(&self, request: &http::Request) -> Option<http::Answer> {
        let config = FakeConfig::load(&self.cache).unwrap_or_default();
        if !self.guest.has_api() || config.fails_at("api") {
            return None;
        }
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster.as_mut()?;
        // An object's status is a part of it here.
        Some(match request.path.strip_suffix("/status") {
            Some(path) => cluster.answer(&http::Request {
                path: path.to_owned(),
                ..request.clone()
            }),
            None => cluster.answer(request),
        })
    }

    fn open(&self) -> io::Result<Cluster> {
        let node = fs::read_to_string(self.files.node()).unwrap_or_else(|_| self.name.clone());
        let boot_id = fs::read_to_string(self.files.guest(BOOT_ID))?;
        Cluster::open(&self.files, node.trim(), boot_id.trim())
    }
}
