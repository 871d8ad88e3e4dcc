//! A registry for tests: it serves what it is given over HTTP, and misbehaves as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::store::hash;

/// Media type of a manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What was asked.
pub(super) struct Request {
    /// "GET", "POST".
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    /// By their names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// What came with it.
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Where a range begins.
    fn start(&self) -> Option<usize> {
        let range = self.header("range").strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// What is answered.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// Nothing more comes, and the connection stays.
    pub(super) stall: bool,
    /// As if the body were longer.
    pub(super) endless: bool,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            stall: false,
            endless: false,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What changes an answer: is asked before the usual one is given.
pub(super) type Mood = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

/// A registry on loopback; it ends with the value.
pub(super) struct Registry {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Bodies by path: manifests by tag and digest, blobs by digest.
    content: Mutex<BTreeMap<String, Vec<u8>>>,
    mood: Mutex<Box<Mood>>,
    /// What was asked for, as "GET PATH RANGE".
    asked: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Registry {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            content: Mutex::default(),
            mood: Mutex::new(Box::new(|_| None)),
            asked: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let address = listener.local_addr().unwrap();
        let theirs = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.ended.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&theirs);
                std::thread::spawn(move || state.serve(stream.unwrap()));
            }
        });
        Self { address, state }
    }

    /// From now on it behaves so.
    pub(super) fn moody(&self, mood: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        *self.state.mood.lock().unwrap() = Box::new(mood);
    }

    pub(super) fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.state
            .content
            .lock()
            .unwrap()
            .insert(path.to_owned(), body.into());
    }

    /// What was asked for since the last call, but for `/v2/`.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.state.asked.lock().unwrap());
        asked
            .into_iter()
            .filter(|asked| !asked.starts_with("GET /v2/ "))
            .collect()
    }

    /// Everything it has, by path.
    pub(super) fn content(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.content.lock().unwrap().clone()
    }

    fn blob(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", hash::bytes(bytes));
        self.put(&format!("/v2/{name}/blobs/{digest}"), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// An image of one architecture; returns its descriptor.
    pub(super) fn image(&self, name: &str, tag: &str, arch: &str, layers: &[&[u8]]) -> Value {
        let config =
            json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(name, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
            "layers": layers
                .iter()
                .map(|layer| self.blob(name, "application/vnd.oci.image.layer.v1.tar+gzip", layer))
                .collect::<Vec<_>>(),
        });
        self.manifest(name, tag, MANIFEST, &manifest)
    }

    /// An index of images by architecture.
    pub(super) fn index(&self, name: &str, tag: &str, images: &[(&str, Value)]) -> Value {
        let entries = images.iter().map(|(arch, image)| {
            let mut entry = image.clone();
            entry["platform"] = json!({ "os": "linux", "architecture": arch });
            entry
        });
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index =
            json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries.collect::<Vec<_>>() });
        self.manifest(name, tag, media_type, &index)
    }

    fn manifest(&self, name: &str, tag: &str, media_type: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let digest = format!("sha256:{}", hash::bytes(&bytes));
        for reference in [tag, &digest] {
            self.put(&format!("/v2/{name}/manifests/{reference}"), bytes.clone());
        }
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        let mut first = [0];
        // It speaks no TLS.
        if stream.peek(&mut first).is_ok() && first == [0x16] {
            return;
        }
        let mut reader = BufReader::new(stream);
        let Some(request) = read(&mut reader) else {
            return;
        };
        let line = format!("{} {} {}", request.method, request.path, request.header("range"));
        self.asked.lock().unwrap().push(line);
        let changed = (self.mood.lock().unwrap())(&request);
        let answer = changed.unwrap_or_else(|| self.usual(&request));
        let mut stream = reader.into_inner();
        let _ = send(&mut stream, &answer);
        if answer.stall {
            // Until the other side has had enough.
            let _ = stream.read(&mut [0]);
        }
    }

    fn usual(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        if path.ends_with("/v2/") {
            return Answer::new(200, "{}");
        }
        match self.content.lock().unwrap().get(path) {
            Some(body) => ranged(request, body),
            None => Answer::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#),
        }
    }
}

/// A body, from where it is asked for.
pub(super) fn ranged(request: &Request, body: &[u8]) -> Answer {
    match request.start() {
        Some(start) if start < body.len() => {
            let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            Answer::new(206, &body[start..]).with("Content-Range", range)
        }
        Some(_) => Answer::new(416, ""),
        None => Answer::new(200, body),
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}

fn send(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let length = if answer.endless {
        1 << 40
    } else {
        answer.body.len()
    };
    let mut head = format!(
        "HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {length}\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let end = answer.cut.unwrap_or(answer.body.len());
    stream.write_all(&answer.body[..end])?;
    if !answer.endless {
        return Ok(());
    }
    loop {
        stream.write_all(&[0; 1 << 16])?;
    }
}
