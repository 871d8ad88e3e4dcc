//! The registry that the bundle brings (distribution's), on this machine's loopback, and how images get into it.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A busy machine starts a program of Go within this.
const PATIENCE: Duration = Duration::from_secs(60);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that ends with the value.
pub(crate) struct Distribution {
    child: Child,
    http: Client,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    _dir: Rc<tempfile::TempDir>,
}

/// "sha256:HEX".
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Distribution {
    /// An empty one. With `realm` it wants a token from there, whatever it says.
    pub(crate) fn start(realm: Option<&str>) -> Self {
        let dir = Rc::new(tempfile::tempdir().expect("a directory"));
        let program = program(dir.path());
        // Somebody else may take the port before it does.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .expect("a port")
                .local_addr()
                .expect("a port")
                .port();
            let mut config = json!({
                "version": 0.1,
                "log": { "level": "error", "accesslog": { "disabled": true } },
                "storage": { "filesystem": { "rootdirectory": dir.path().join("storage") } },
                "http": { "addr": format!("127.0.0.1:{port}") },
            });
            if let Some(realm) = realm {
                config["auth"] = json!({ "silly": { "realm": realm, "service": "test" } });
            }
            let path = dir.path().join("config.yml");
            fs::write(&path, config.to_string()).expect("a file");
            let mut command = Command::new(&program);
            command.args(["serve".as_ref(), path.as_os_str()]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .env("OTEL_TRACES_EXPORTER", "none");
            let child = command.spawn().expect("the registry starts");
            let http = Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .expect("a client");
            let mut registry = Self {
                child,
                http,
                port,
                _dir: Rc::clone(&dir),
            };
            if registry.answers() {
                return registry;
            }
        }
        panic!("{} does not come up", program.display());
    }

    fn answers(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.http.get(self.url("")).send().is_ok() {
                return true;
            }
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        false
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    fn send(&self, request: RequestBuilder) -> reqwest::blocking::Response {
        // What it takes for one that wants a token.
        let answer = request
            .header("Authorization", "Bearer test")
            .send()
            .expect("an answer");
        answer.error_for_status().expect("what was asked for")
    }

    /// Puts a blob there; returns its descriptor.
    pub(crate) fn push_blob(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest_of(bytes);
        let begun = self.send(self.http.post(self.url(&format!("{name}/blobs/uploads/"))));
        let place = begun.headers()["location"]
            .to_str()
            .expect("an address")
            .to_owned();
        let place = if place.starts_with('/') {
            format!("http://127.0.0.1:{}{place}", self.port)
        } else {
            place
        };
        let joint = if place.contains('?') { '&' } else { '?' };
        self.send(
            self.http
                .put(format!("{place}{joint}digest={digest}"))
                .body(bytes.to_vec()),
        );
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Puts a manifest or an index there; returns its descriptor.
    pub(crate) fn push_manifest(&self, name: &str, tag: &str, bytes: &[u8]) -> Value {
        let manifest: Value = serde_json::from_slice(bytes).expect("a manifest");
        let usual = if manifest["manifests"].is_array() {
            INDEX
        } else {
            MANIFEST
        };
        let media_type = manifest["mediaType"].as_str().unwrap_or(usual).to_owned();
        let put = self.http.put(self.url(&format!("{name}/manifests/{tag}")));
        self.send(put.header("Content-Type", &media_type).body(bytes.to_vec()));
        json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len() })
    }

    /// Puts the one image of an OCI archive there.
    pub(crate) fn push_archive(&self, name: &str, tag: &str, archive: &Path) {
        let mut blobs = std::collections::BTreeMap::new();
        let mut tar = tar::Archive::new(File::open(archive).expect("the archive"));
        for entry in tar.entries().expect("an archive") {
            let mut entry = entry.expect("a member");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its content");
            blobs.insert(path, bytes);
        }
        let of = |part: &Value| {
            let digest = part["digest"].as_str().expect("a digest");
            blobs[&format!("blobs/{}", digest.replace(':', "/"))].clone()
        };
        let index: Value = serde_json::from_slice(&blobs["index.json"]).expect("an index");
        let mut bytes = of(&index["manifests"][0]);
        let mut manifest: Value = serde_json::from_slice(&bytes).expect("a manifest");
        if manifest["manifests"].is_array() {
            bytes = of(&manifest["manifests"][0]);
            manifest = serde_json::from_slice(&bytes).expect("a manifest");
        }
        let layers = manifest["layers"].as_array().expect("layers");
        for part in layers.iter().chain([&manifest["config"]]) {
            self.push_blob(name, "", &of(part));
        }
        self.push_manifest(name, tag, &bytes);
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program: as it was built for the bundle, or out of the image of it that the bundle brings.
fn program(scratch: &Path) -> PathBuf {
    let cache = std::env::var_os("SAMPAN_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
            home.join(".cache/sampan")
        });
    for dir in sorted(&cache.join("build/components")) {
        let program = dir.join("registry");
        if name_of(&dir).starts_with("registry-") && program.is_file() {
            return program;
        }
    }
    for bundle in sorted(&cache.join("bundles")) {
        if let Some(program) = from_bundle(&bundle, scratch) {
            return program;
        }
    }
    panic!(
        "no bundle in {}: run `sampan bundle build`, or `./dev test`",
        cache.display()
    );
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The layers of the bundle's images are archives in an archive on a disk.
fn from_bundle(bundle: &Path, scratch: &Path) -> Option<PathBuf> {
    let archive = scratch.join("addons.tar");
    let dump = format!("dump images/addons.tar {}", archive.display());
    let path = std::env::var("PATH").unwrap_or_default();
    let dumped = Command::new("debugfs")
        .args(["-R", &dump])
        .arg(bundle.join("parts.img"))
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .ok()?;
    let mut tar = tar::Archive::new(File::open(&archive).ok().filter(|_| dumped.status.success())?);
    for blob in tar.entries().ok()?.flatten() {
        let mut layer = tar::Archive::new(blob);
        for file in layer.entries().ok()?.map_while(Result::ok) {
            let is_it = file.path().is_ok_and(|path| name_of(&path) == "registry") && file.size() > 1 << 20;
            if is_it {
                let program = scratch.join("registry");
                let mut file = file;
                file.unpack(&program).ok()?;
                return Some(program);
            }
        }
    }
    None
}
