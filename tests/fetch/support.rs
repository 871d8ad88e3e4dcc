//! A tree to fetch from, a store to fetch to, and a reporter that remembers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use sampan::error::{Error, Result};
use sampan::fetch::{Expect, Fetched, Fetcher, Mirror, Object, Settings};
use sampan::progress::{Bar, Cancel, Reporter, StepEnd, StepInfo, Unit};
use sampan::store::hash;
use sampan_test_support::upstream::Upstream;
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(60);
/// What most tests fetch, and where it is in the tree.
pub(crate) const URL: &str = "https://dl.example.org/release/v1/kubelet";
pub(crate) const PATH: &str = "/dl.example.org/release/v1/kubelet";
/// Large enough to come in many pieces.
pub(crate) const SIZE: usize = 3 << 20;

/// A directory with an upstream's tree and a store.
pub(crate) struct Ground {
    dir: TempDir,
    pub(crate) upstream: Upstream,
}

impl Ground {
    /// With [`PATH`] in its tree, and an upstream that is a mirror of it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::serve(&dir.path().join("tree"));
        let ground = Self { dir, upstream };
        ground.put(PATH, &content());
        ground
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A file that is neither in the tree nor in the store.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Puts a file into the tree.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let path = self.tree().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }

    /// Settings that are in a hurry, with the upstream as a mirror.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            mirror: Some(Mirror::Url(self.upstream.url())),
            ..hurried()
        }
    }

    pub(crate) fn fetcher(&self) -> Fetcher {
        Fetcher::new(&self.store(), self.settings()).unwrap()
    }

    /// Fetches one object from the mirror.
    pub(crate) fn fetch(&self, object: &Object) -> Result<Fetched> {
        fetch(&self.fetcher(), object, &Recorder::default())
    }

    /// What the store has.
    pub(crate) fn kept(&self) -> Vec<String> {
        names(&self.store().join("sha256"))
    }

    /// What there is of parts, without locks.
    pub(crate) fn parts(&self) -> Vec<String> {
        let mut parts = names(&self.store().join("parts"));
        parts.retain(|name| !name.ends_with(".lock"));
        parts
    }

    /// Bytes of the one part there is.
    pub(crate) fn part_length(&self) -> u64 {
        let parts = self.parts();
        let part = parts.iter().find(|name| name.ends_with(".part"));
        part.map_or(0, |part| {
            fs::metadata(self.store().join("parts").join(part)).map_or(0, |meta| meta.len())
        })
    }

    /// Bytes of bodies that the upstream sent for [`PATH`].
    pub(crate) fn sent(&self) -> u64 {
        self.upstream
            .served_of(PATH)
            .iter()
            .map(|served| served.sent)
            .sum()
    }
}

/// Settings without long pauses.
pub(crate) fn hurried() -> Settings {
    Settings {
        pause: Duration::from_millis(5),
        ..Settings::default()
    }
}

pub(crate) fn fetch(fetcher: &Fetcher, object: &Object, reporter: &Recorder) -> Result<Fetched> {
    let mut fetched = fetcher.fetch(std::slice::from_ref(object), reporter, &Cancel::default())?;
    assert_eq!(fetched.len(), 1);
    Ok(fetched.remove(0))
}

/// What [`PATH`] has: no two pieces of it are the same.
pub(crate) fn content() -> Vec<u8> {
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = 0..SIZE as u64 / 8;
        words
            .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect()
    });
    CONTENT.clone()
}

pub(crate) fn sha256() -> String {
    hash::bytes(&content())
}

/// [`URL`] with the sum it has.
pub(crate) fn object() -> Object {
    expecting(Expect::Sha256(sha256()))
}

pub(crate) fn expecting(expect: Expect) -> Object {
    Object {
        name: "kubelet".to_owned(),
        url: URL.to_owned(),
        expect,
        most: None,
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An error with its causes and hints, as people see it.
pub(crate) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    for hint in error.hints() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

/// Waits for something that happens elsewhere.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < end, "{what} did not happen within {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Remembers lines and bars.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) bars: Arc<Mutex<Vec<Drawn>>>,
    aloud: bool,
}

/// A bar: its title, its total, how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) title: String,
    pub(crate) total: Option<u64>,
    pub(crate) at: u64,
}

impl Recorder {
    /// One that prints lines at once, too.
    pub(crate) fn aloud() -> Self {
        Self {
            aloud: true,
            ..Self::default()
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub(crate) fn drawn(&self) -> Vec<Drawn> {
        self.bars.lock().unwrap().clone()
    }

    #[expect(clippy::print_stdout, reason = "another process reads it")]
    fn line(&self, line: &str) {
        if self.aloud {
            println!("{line}");
        }
        self.lines.lock().unwrap().push(line.to_owned());
    }
}

impl Reporter for Recorder {
    fn step_begin(&self, _: StepInfo) {}
    fn step_end(&self, _: StepInfo, _: StepEnd) {}
    fn detail(&self, message: &str) {
        self.line(message);
    }
    fn info(&self, message: &str) {
        self.line(message);
    }
    fn warn(&self, message: &str) {
        self.line(message);
    }
    fn bar(&self, title: &str, total: Option<u64>, _: Unit) -> Box<dyn Bar> {
        let mut bars = self.bars.lock().unwrap();
        bars.push(Drawn {
            title: title.to_owned(),
            total,
            at: 0,
        });
        Box::new(Recorded {
            bars: Arc::clone(&self.bars),
            number: bars.len() - 1,
        })
    }
}

struct Recorded {
    bars: Arc<Mutex<Vec<Drawn>>>,
    number: usize,
}

impl Bar for Recorded {
    fn advance(&self, by: u64) {
        self.bars.lock().unwrap()[self.number].at += by;
    }
    fn message(&self, _: &str) {}
}
