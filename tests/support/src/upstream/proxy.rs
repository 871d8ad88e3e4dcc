//! A proxy that leads every host to one address, or refuses.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;

use super::http::{Head, Request};

/// A proxy, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Where all hosts are; or the status of a refusal.
    to: Result<SocketAddr, u16>,
    login: Option<String>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Proxy {
    /// A proxy by which every host is at this address.
    pub fn to(address: SocketAddr) -> Self {
        Self::begin(Ok(address), None)
    }

    /// The same, for those who show this user and password (`USER:PASSWORD`).
    pub fn to_those_with(login: &str, address: SocketAddr) -> Self {
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        Self::begin(Ok(address), Some(format!("Basic {login}")))
    }

    /// A proxy that answers everything with this status.
    pub fn refusing(status: u16) -> Self {
        Self::begin(Err(status), None)
    }

    fn begin(to: Result<SocketAddr, u16>, login: Option<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            to,
            login,
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || stream.and_then(|stream| connection(&state, stream)));
            }
        });
        Self { address, state }
    }

    /// As it stands in `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked for: `CONNECT HOST:PORT`, `GET http://HOST/PATH`.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn connection(state: &State, mut client: TcpStream) -> io::Result<()> {
    let mut left = Vec::new();
    let Some(request) = Request::read(&mut client, &mut left)? else {
        return Ok(());
    };
    let line = format!("{} {}", request.method, request.target);
    state.asked.lock().unwrap().push(line);
    let refuse = |client: &mut TcpStream, status| {
        let mut head = Head::new(status);
        head.set("Content-Length", "0");
        head.set("Connection", "close");
        head.write(client)
    };
    if state.login.is_some() && state.login.as_deref() != request.header("proxy-authorization") {
        return refuse(&mut client, 407);
    }
    let to = match state.to {
        Ok(to) => to,
        Err(status) => return refuse(&mut client, status),
    };
    let mut server = TcpStream::connect(to)?;
    if request.method == "CONNECT" {
        Head::new(200).write(&mut client)?;
    } else {
        server.write_all(&request.raw)?;
    }
    server.write_all(&left)?;
    let (mut upward, mut downward) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass_on(&mut upward, &mut downward));
    pass_on(&mut server, &mut client);
    Ok(())
}

fn pass_on(from: &mut TcpStream, to: &mut TcpStream) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
