//! Takes the files of a bundle that comes from elsewhere, each under the name, with the size and of the content that the manifest
//! says, and makes a bundle of them when all are there. Until then nothing of it is where bundles are looked for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::WAY_OUT;
use crate::bundle::manifest::Manifest;
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Bar, Cancel, Reporter, Unit};
use crate::store::{atomic, hash, sparse};

/// How much is written before the disk is told to begin with it.
const FLUSH: u64 = 32 << 20;

/// A bundle under construction.
pub(super) struct Receiver<'a> {
    dir: atomic::Dir,
    manifest: &'a Manifest,
    text: &'a [u8],
    place: &'a str,
    seen: BTreeSet<String>,
    bar: Box<dyn Bar>,
    cancel: &'a Cancel,
    flusher: Flusher,
}

impl<'a> Receiver<'a> {
    /// Begins; `text` is that of the manifest, and `place` what errors call where the bundle comes from. The caller holds the lock of
    /// the bundle store.
    pub(super) fn begin(
        layout: &Layout,
        manifest: &'a Manifest,
        text: &'a [u8],
        place: &'a str,
        reporter: &dyn Reporter,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let total = manifest.files.values().map(|file| file.size).sum();
        Ok(Self {
            dir: atomic::Dir::begin(&layout.bundles().join(&manifest.key))?,
            manifest,
            text,
            place,
            seen: BTreeSet::new(),
            bar: reporter.bar("importing the bundle", Some(total), Unit::Bytes),
            cancel,
            flusher: Flusher::start(),
        })
    }

    fn bad(&self, why: &str) -> Error {
        Error::new(Kind::Bundle, format!("{}: {why}", self.place)).hint(WAY_OUT)
    }

    /// Whether a file of this name and size is still to come.
    pub(super) fn expects(&self, name: &str, size: u64) -> Result<()> {
        let Some(sum) = self.manifest.files.get(name) else {
            return Err(self.bad(&format!("{name:?} is in it, and its bundle.toml does not say so")));
        };
        if sum.size != size {
            return Err(self.bad(&format!("{name} has {size} bytes instead of {}", sum.size)));
        }
        if self.seen.contains(name) {
            return Err(self.bad(&format!("{name} is in it twice")));
        }
        Ok(())
    }

    /// Takes a file. `failed` says why `from` cannot be read, or ended too early.
    pub(super) fn take<R: Read>(
        &mut self,
        name: &str,
        executable: bool,
        from: &mut R,
        failed: impl FnOnce(Option<io::Error>) -> Error,
    ) -> Result<()> {
        let sum = &self.manifest.files[name];
        let path = self.dir.path().join(name);
        if let Some(parent) = path.parent() {
            atomic::make_dir(parent)?;
        }
        self.bar.message(name);
        let mut file = sparse::Writer::create(&path)?;
        let mut digest = Sha256::new();
        let (mut left, mut waiting) = (sum.size, 0);
        let mut piece = vec![0; 4 * sparse::BLOCK];
        while left > 0 {
            self.cancel.check()?;
            let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match sparse::fill(from, &mut piece[..most]) {
                Ok(0) => return Err(failed(None)),
                Ok(count) => count,
                Err(error) => return Err(failed(Some(error))),
            };
            digest.update(&piece[..count]);
            waiting += file.write(&piece[..count])?;
            left -= count as u64;
            self.bar.advance(count as u64);
            if waiting >= FLUSH {
                waiting = 0;
                self.flusher.flush(file.file());
            }
        }
        let file = file.finish()?;
        self.flusher.flush(&file);
        if hash::hex(&digest.finalize()) != sum.sha256 {
            return Err(self.bad(&format!("{name} has another content than its bundle.toml says")));
        }
        // Machines only read them: whoever would write to one is told so by the system.
        let mode = if executable { 0o555 } else { 0o444 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::io(&path))?;
        self.seen.insert(name.to_owned());
        Ok(())
    }

    /// Puts the bundle where bundles are looked for.
    pub(super) fn finish(self) -> Result<()> {
        if let Some(name) = self.manifest.files.keys().find(|name| !self.seen.contains(*name)) {
            return Err(self.bad(&format!("it is cut short: {name} is missing")));
        }
        self.cancel.check()?;
        self.bar.message("writing it to the disk");
        drop(self.flusher);
        let bundle = BundleLayout(self.dir.path().to_owned());
        atomic::write(&bundle.manifest(), 0o644, self.text)?;
        self.dir.commit()
    }
}

/// Tells the disk to begin with what was written so far, while more is unpacked. Only for speed: what fails here fails again when
/// the bundle is synced as a whole.
struct Flusher {
    files: Option<SyncSender<File>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    fn start() -> Self {
        let (files, waiting) = mpsc::sync_channel::<File>(2);
        let work = move || {
            for file in waiting {
                let _ = file.sync_data();
            }
        };
        let thread = std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(work)
            .ok();
        Self {
            files: Some(files),
            thread,
        }
    }

    fn flush(&self, file: &File) {
        if let (Some(files), Ok(file)) = (&self.files, file.try_clone()) {
            let _ = files.try_send(file);
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a file of the bundle's own directory may be run.
pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}
