//! For tests and benches: a server on loopback that has a tree laid out as upstream's hosts (`HOST/PATH` for `https://HOST/PATH`), and
//! every kind of bad day a server can have; a proxy in front of it; an authority for its certificates.
//!
//! A request for `/HOST/PATH` by a loopback address, as mirrors are asked, and one for `/PATH` of `HOST`, as it comes through a
//! [`Proxy`], give the same file. What a path is to do with its next requests is a queue of [`Plan`]s; without one it behaves.

mod answer;
mod http;
mod plan;
mod proxy;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub use http::Request;
pub use plan::{Gate, Plan};
pub use proxy::Proxy;
pub use tls::{Authority, Validity};

use http::Stream;

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    secure: bool,
    state: Arc<State>,
}

/// What all connections share.
#[derive(Debug)]
struct State {
    tree: PathBuf,
    plans: Mutex<HashMap<String, VecDeque<Plan>>>,
    served: Mutex<Vec<Served>>,
    over: AtomicBool,
}

/// A request with what came of it.
#[derive(Debug, Clone)]
pub struct Served {
    /// What was asked.
    pub request: Request,
    /// The path in the tree: `/HOST/PATH`.
    pub path: String,
    /// Of the answer.
    pub status: u16,
    /// Bytes of the body that were sent so far.
    pub sent: u64,
}

impl Upstream {
    /// Serves a directory in plain text.
    pub fn serve(tree: &Path) -> Self {
        Self::begin(tree, None)
    }

    /// Serves a directory over TLS, with a certificate (see [`Authority::identity`]).
    pub fn serve_tls(tree: &Path, identity: native_tls::Identity) -> Self {
        Self::begin(tree, Some(native_tls::TlsAcceptor::new(identity).unwrap()))
    }

    fn begin(tree: &Path, tls: Option<native_tls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            tree: tree.to_owned(),
            plans: Mutex::default(),
            served: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let (secure, shared) = (tls.is_some(), Arc::clone(&state));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                // A client that goes away in the middle is what many tests are about.
                thread::spawn(move || stream.map(|stream| connection(&state, stream, tls.as_ref())));
            }
        });
        Self {
            address,
            secure,
            state,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its own address, as a mirror is given: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What the next request for this path (`/HOST/PATH`) is to meet; the one after it meets what is said next.
    pub fn next(&self, path: &str, plan: Plan) {
        let mut plans = self.state.plans.lock().unwrap();
        plans.entry(path.to_owned()).or_default().push_back(plan);
    }

    /// What every request for this path is to meet, once what [`Self::next`] said is used up.
    pub fn always(&self, path: &str, plan: Plan) {
        self.next(path, Plan { stays: true, ..plan });
    }

    /// All requests so far, also those that are being answered.
    pub fn served(&self) -> Vec<Served> {
        self.state.served.lock().unwrap().clone()
    }

    /// The requests for one path.
    pub fn served_of(&self, path: &str) -> Vec<Served> {
        let mut served = self.served();
        served.retain(|served| served.path == path);
        served
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn connection(state: &State, stream: TcpStream, tls: Option<&native_tls::TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => match tls.accept(stream) {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let mut left = Vec::new();
    while let Ok(Some(request)) = Request::read(&mut *stream, &mut left) {
        match answer::answer(state, &request, &mut *stream) {
            Ok(true) => {}
            _ => return,
        }
    }
}
