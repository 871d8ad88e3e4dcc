//! The store of blobs: what is in it was checked. What is fetched lies beside it until it has come as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Blob, problem};
use crate::error::{Error, Kind, Result};
use crate::progress::{Bar, Cancel, Reporter};
use crate::store::lock::Lock;
use crate::store::{atomic, hash};

/// How often a process looks whether another one has let go of a blob.
const POLL: Duration = Duration::from_millis(100);

/// How things are fetched, and who is told.
pub(super) struct Fetch<'a> {
    /// Tries after the first one.
    pub(super) retries: u32,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) cancel: &'a Cancel,
}

/// A directory with a file for each blob, called by its sha256 in hex.
pub(super) struct Blobs {
    dir: PathBuf,
    /// Beside it: what has not come as a whole.
    parts: PathBuf,
}

/// "sha256:HEX" of bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hash::bytes(bytes))
}

impl Blobs {
    pub(super) fn new(dir: &Path) -> Self {
        let root = dir.parent().unwrap_or(dir);
        Self {
            dir: dir.to_owned(),
            parts: root.join("parts"),
        }
    }

    /// Where a blob is, or will be.
    pub(super) fn path(&self, hex: &str) -> PathBuf {
        self.dir.join(hex)
    }

    /// A small blob that is there.
    pub(super) fn read(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest.trim_start_matches("sha256:"));
        match fs::read(&path) {
            Ok(bytes) if digest_of(&bytes) == digest => Ok(Some(bytes)),
            // Somebody damaged it since.
            Ok(_) => remove(&path).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Keeps a small blob whose digest was made from it.
    pub(super) fn put(&self, digest: &str, media_type: &str, bytes: &[u8]) -> Result<Blob> {
        let path = self.path(digest.trim_start_matches("sha256:"));
        if !is_there(&path, bytes.len() as u64) {
            atomic::make_dir(&self.dir)?;
            atomic::write(&path, 0o644, bytes)?;
        }
        Ok(Blob {
            digest: digest.to_owned(),
            size: bytes.len() as u64,
            media_type: media_type.to_owned(),
            path,
        })
    }

    /// The one who may fetch a blob; nothing when it is there. Waits while another process fetches it.
    pub(super) async fn claim(&self, blob: &Blob, cancel: &Cancel) -> Result<Option<Part>> {
        let hex = blob.digest.trim_start_matches("sha256:");
        let path = self.parts.join(format!("sha256-{hex}.part"));
        let lock = path.with_extension("lock");
        loop {
            if is_there(&blob.path, blob.size) {
                return Ok(None);
            }
            cancel.check()?;
            if let Some(lock) = Lock::try_acquire(&lock)? {
                // The one who had it may just have finished.
                if is_there(&blob.path, blob.size) {
                    return Ok(None);
                }
                atomic::make_dir(&self.dir)?;
                return Part::open(path, blob.clone(), lock).map(Some);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Whether there is a file of this size: the store holds only what was checked.
fn is_there(path: &Path, size: u64) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// A blob that is being fetched.
pub(super) struct Part {
    path: PathBuf,
    blob: Blob,
    file: File,
    hash: Sha256,
    /// How much has come.
    pub(super) len: u64,
    _lock: Lock,
}

impl Part {
    /// Goes on with what an earlier try left.
    fn open(path: PathBuf, blob: Blob, lock: Lock) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut part = Self {
            file: file.map_err(Error::io(&path))?,
            path,
            blob,
            hash: Sha256::new(),
            len: 0,
            _lock: lock,
        };
        let there = part.file.metadata().map_err(Error::io(&part.path))?.len();
        if there > part.blob.size {
            part.start_over()?;
            return Ok(part);
        }
        let mut buffer = vec![0; 1 << 18];
        while part.len < there {
            let count = part.file.read(&mut buffer).map_err(Error::io(&part.path))?;
            if count == 0 {
                break;
            }
            part.hash.update(&buffer[..count]);
            part.len += count as u64;
        }
        Ok(part)
    }

    /// Forgets what has come.
    pub(super) fn start_over(&mut self) -> Result<()> {
        let reset = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))
        };
        reset(&mut self.file).map_err(Error::io(&self.path))?;
        (self.hash, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    /// Takes more of it. `place` says where it comes from.
    pub(super) fn take(&mut self, bytes: &[u8], place: &str, bar: Option<&dyn Bar>) -> Result<()> {
        if self.len + bytes.len() as u64 > self.blob.size {
            self.start_over()?;
            remove(&self.path)?;
            return Err(problem::too_long(place, self.blob.size));
        }
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        if let Some(bar) = bar {
            bar.advance(bytes.len() as u64);
        }
        Ok(())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.len == self.blob.size
    }

    /// Puts the blob into the store if it is what its digest says, and else deletes it.
    pub(super) fn finish(self, place: &str) -> Result<()> {
        let found = format!("sha256:{}", hash::hex(&self.hash.finalize()));
        if found != self.blob.digest {
            remove(&self.path)?;
            return Err(problem::wrong_digest(place, &self.blob.digest, &found));
        }
        self.file.sync_all().map_err(Error::io(&self.path))?;
        fs::rename(&self.path, &self.blob.path).map_err(Error::io(&self.blob.path))?;
        sync_dir(&self.blob.path)
    }
}

fn sync_dir(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io(dir))
}

/// Copies a blob and looks whether it is still what it was.
pub(super) fn copy_checked(blob: &Blob, to: &mut dyn Write) -> Result<(), CopyError> {
    let mut file = File::open(&blob.path).map_err(|error| CopyError::Read(Error::io(&blob.path)(error)))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut len = 0;
    loop {
        let count = file
            .read(&mut buffer)
            .map_err(|error| CopyError::Read(Error::io(&blob.path)(error)))?;
        if count == 0 {
            break;
        }
        len += count as u64;
        if len > blob.size {
            break;
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(CopyError::Write)?;
    }
    if len == blob.size && format!("sha256:{}", hash::hex(&hash.finalize())) == blob.digest {
        return Ok(());
    }
    remove(&blob.path).map_err(CopyError::Read)?;
    let message = format!(
        "{} was damaged since it was fetched, and was deleted",
        blob.path.display()
    );
    Err(CopyError::Read(
        Error::new(Kind::HostPath, message).hint("run the same command again: it is fetched anew"),
    ))
}

/// What went wrong with a copy: on the side it was read from, or where it was written to.
pub(super) enum CopyError {
    Read(Error),
    Write(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn blob(blobs: &Blobs, bytes: &[u8]) -> Blob {
        let digest = digest_of(bytes);
        Blob {
            path: blobs.path(&digest[7..]),
            digest,
            size: bytes.len() as u64,
            media_type: String::new(),
        }
    }

    fn claim(blobs: &Blobs, blob: &Blob) -> Option<Part> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(blobs.claim(blob, &Cancel::default())).unwrap()
    }

    #[test]
    fn what_was_cut_goes_on_and_only_what_is_right_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(&dir.path().join("sha256"));
        let whole = b"twelve bytes";
        let wanted = blob(&blobs, whole);
        let mut part = claim(&blobs, &wanted).unwrap();
        part.take(&whole[..5], "here", None).unwrap();
        drop(part);
        assert!(!wanted.path.exists());
        let mut part = claim(&blobs, &wanted).unwrap();
        assert_eq!((part.len, part.is_whole()), (5, false));
        part.take(&whole[5..], "here", Some(&Silent)).unwrap();
        assert!(part.is_whole());
        part.finish("here").unwrap();
        assert_eq!(fs::read(&wanted.path).unwrap(), whole);
        assert!(claim(&blobs, &wanted).is_none());
    }

    #[test]
    fn what_is_wrong_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(&dir.path().join("sha256"));
        let wanted = blob(&blobs, b"right");
        let mut part = claim(&blobs, &wanted).unwrap();
        part.take(b"wrong", "there", None).unwrap();
        let error = part.finish("there").unwrap_err();
        assert!(
            error.to_string().starts_with("there is not what its digest says"),
            "{error}"
        );
        let mut part = claim(&blobs, &wanted).unwrap();
        assert_eq!(part.len, 0);
        let error = part.take(b"much too long", "there", None).unwrap_err();
        assert!(error.to_string().contains("does not end"), "{error}");
        drop(part);
        assert!(!wanted.path.exists());
        let left: Vec<_> = fs::read_dir(dir.path().join("parts")).unwrap().collect();
        assert_eq!(left.len(), 1, "only the lock: {left:?}");
    }

    #[test]
    fn a_blob_that_was_damaged_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(&dir.path().join("sha256"));
        let kept = blobs.put(&digest_of(b"right"), "x", b"right").unwrap();
        let mut copy = Vec::new();
        assert!(copy_checked(&kept, &mut copy).is_ok());
        assert_eq!(copy, b"right");
        fs::write(&kept.path, b"wrong").unwrap();
        assert!(matches!(
            copy_checked(&kept, &mut io::sink()),
            Err(CopyError::Read(_))
        ));
        assert!(!kept.path.exists());
        assert_eq!(blobs.read(&kept.digest).unwrap(), None);
    }
}
