//! What was fetched of one address so far: a file of bytes, and beside it which version of what they are. A lock keeps others off.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Version;
use super::sums::{Found, Sum, Summing};
use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;
use crate::store::lock::Lock;
use crate::store::{atomic, hash};

/// Pieces that may wait for the disk; each is at most some hundred KiB.
const WAITING: usize = 8;

/// What there is of one address. Whoever has it holds its lock.
pub(super) struct Part {
    pub(super) path: PathBuf,
    version: PathBuf,
    lock: Arc<Lock>,
}

/// The name under which the parts of an address are kept.
pub(super) fn id(url: &str) -> String {
    let mut id = hash::bytes(url.as_bytes());
    id.truncate(32);
    id
}

impl Part {
    /// What there is of an address; `lock` is the one of its id.
    pub(super) fn of(layout: &DownloadsLayout, id: &str, lock: Lock) -> Self {
        Self {
            path: layout.part(id),
            version: layout.part_version(id),
            lock: Arc::new(lock),
        }
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> u64 {
        self.path.metadata().map_or(0, |meta| meta.len())
    }

    /// What can be gone on with: how many bytes of which version.
    pub(super) fn begun(&self, place: &str) -> Option<(u64, Version)> {
        let text = fs::read_to_string(&self.version).ok()?;
        let version: Version = toml::from_str(&text).ok()?;
        let length = self.len();
        let fits = version.size.is_none_or(|size| length <= size);
        (length > 0 && fits && version.place == place).then_some((length, version))
    }

    /// Removes all that is there.
    pub(super) fn forget(&self) -> Result<()> {
        // The version first: bytes without one are never gone on with.
        atomic::remove(&self.version)?;
        atomic::remove(&self.path)
    }

    /// Begins anew, with a version where it can be gone on with.
    pub(super) fn write(&self, version: Option<&Version>, sum: &Sum) -> Result<Writer> {
        self.forget()?;
        let file = File::create(&self.path).map_err(Error::io(&self.path))?;
        if let Some(version) = version {
            let text = toml::to_string(version)
                .map_err(|error| Error::new(Kind::Internal, "a version cannot be written").because(error))?;
            atomic::write(&self.version, 0o644, text.as_bytes())?;
        }
        Ok(self.writer(file, 0, sum))
    }

    /// Goes on behind the first `length` bytes.
    pub(super) fn append(&self, length: u64, sum: &Sum) -> Result<Writer> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&self.path)
            .map_err(Error::io(&self.path))?;
        Ok(self.writer(file, length, sum))
    }

    fn writer(&self, file: File, there: u64, sum: &Sum) -> Writer {
        let (sender, pieces) = mpsc::channel(WAITING);
        let (path, lock, summing) = (self.path.clone(), Arc::clone(&self.lock), Summing::for_sum(sum));
        let task = tokio::task::spawn_blocking(move || {
            // Nobody else may begin with this part before the last byte is written.
            let _lock = lock;
            save(file, there, summing, pieces).map_err(Error::io(&path))
        });
        Writer { sender, task }
    }
}

/// Writes and sums beside the network, so that neither waits for the other.
pub(super) struct Writer {
    sender: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<Found>>,
}

impl Writer {
    /// Hands on a piece; false when it cannot be written, and [`Self::finish`] tells why.
    pub(super) async fn write(&self, piece: Bytes) -> bool {
        self.sender.send(piece).await.is_ok()
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) -> Result<Found> {
        drop(self.sender);
        self.task.await.map_err(|error| {
            Error::new(Kind::Internal, "the thread that writes a download failed").because(error)
        })?
    }
}

fn save(
    mut file: File,
    there: u64,
    mut summing: Summing,
    mut pieces: mpsc::Receiver<Bytes>,
) -> std::io::Result<Found> {
    let mut before = (&mut file).take(there);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match before.read(&mut buffer)? {
            0 => break,
            count => summing.update(&buffer[..count]),
        }
    }
    drop(buffer);
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
        summing.update(&piece);
    }
    Ok(summing.finish())
}

/// Puts a part that was verified to its place, for good.
pub(super) async fn keep(part: &Part, layout: &DownloadsLayout, found: &Found) -> Result<PathBuf> {
    let (path, version, layout, found) = (
        part.path.clone(),
        part.version.clone(),
        layout.clone(),
        found.clone(),
    );
    let lock = Arc::clone(&part.lock);
    let kept = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        let place = layout.sha256(&found.sha256);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(Error::io(&path))?;
        move_to(&path, &place)?;
        if let Some(sum) = &found.sha512 {
            link(&layout.sha512(sum), &found.sha256)?;
        }
        atomic::remove(&version)?;
        Ok(place)
    });
    kept.await.map_err(|error| {
        Error::new(Kind::Internal, "the thread that keeps a download failed").because(error)
    })?
}

fn move_to(path: &std::path::Path, place: &std::path::Path) -> Result<()> {
    let dir = place.parent().unwrap_or(place);
    atomic::make_dir(dir)?;
    fs::rename(path, place).map_err(Error::io(place))?;
    atomic::sync_dir(dir)
}

/// So that the file is found by its other sum.
fn link(link: &std::path::Path, sha256: &str) -> Result<()> {
    let dir = link.parent().unwrap_or(link);
    atomic::make_dir(dir)?;
    atomic::remove(link)?;
    std::os::unix::fs::symlink(format!("../sha256/{sha256}"), link).map_err(Error::io(link))
}
