//! Writes bundle files. The sums of all files are compared on the way, so a damaged bundle never becomes a bundle file.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;

use super::MANIFEST;
use crate::bundle::Bundle;
use crate::error::{Error, Kind, Result};
use crate::progress::{Bar, Cancel, Reporter, Unit};
use crate::store::hash;

/// How hard it is packed.
const LEVEL: i32 = 3;
/// How many threads pack, at most. What comes out is the same for any number of them.
const MOST_WORKERS: usize = 8;

/// Where a bundle file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// Whether one that is there is replaced.
        force: bool,
    },
    /// Standard output.
    Output,
}

/// A bundle file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its size in bytes.
    pub size: u64,
    /// Its sum, in hex.
    pub sha256: String,
}

/// Writes a bundle into one file: under another name beside it first, so that a file of that name is a whole one.
///
/// # Errors
/// [`Kind::Exists`] when there is something of that name, [`Kind::Bundle`] when the bundle is damaged, [`Kind::Storage`] when the
/// disk is full, [`Kind::Interrupted`], or the I/O error with the path.
pub fn export(bundle: &Bundle, to: &Target, reporter: &dyn Reporter, cancel: &Cancel) -> Result<Exported> {
    let Target::File { path, force } = to else {
        let place = Path::new("standard output");
        let mut output = Counted::new(io::stdout().lock());
        write(bundle, &mut output, place, reporter, cancel)?;
        return Ok(output.exported());
    };
    let taken = || !force && path.symlink_metadata().is_ok();
    if taken() {
        return Err(exists(path));
    }
    let unfinished = Unfinished::begin(path)?;
    let mut output = Counted::new(&unfinished.file);
    write(bundle, &mut output, path, reporter, cancel)?;
    let exported = output.exported();
    unfinished.file.sync_all().map_err(failed(path))?;
    if taken() {
        return Err(exists(path));
    }
    unfinished.finish()?;
    Ok(exported)
}

fn exists(path: &Path) -> Error {
    Error::new(
        Kind::Exists,
        format!("{}: there is a file of this name already", path.display()),
    )
    .hint("choose another name, or replace it with --force")
}

/// The file while it is written, held by who writes it; removed unless it is finished. What a killed process left of it is taken over.
struct Unfinished<'a> {
    file: File,
    path: PathBuf,
    target: &'a Path,
    done: bool,
}

impl<'a> Unfinished<'a> {
    fn begin(target: &'a Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| {
            Error::new(Kind::Usage, format!("{} is no name of a file", target.display()))
                .hint("write the name of the file that is to be written")
        })?;
        let path = target.with_file_name(format!(".new-{}", name.to_string_lossy()));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io(&path))?;
        // Some file systems know no locks: there nobody is told.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::new(
                Kind::Locked,
                format!("{}: another sampan is writing it", target.display()),
            )
            .hint("wait for it, or choose another name"));
        }
        file.set_len(0).map_err(failed(&path))?;
        Ok(Self {
            file,
            path,
            target,
            done: false,
        })
    }

    fn finish(mut self) -> Result<()> {
        fs::rename(&self.path, self.target).map_err(Error::io(self.target))?;
        self.done = true;
        let parent = self
            .target
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        // Not every file system of a stick can.
        let _ = File::open(parent).and_then(|dir| dir.sync_all());
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Counts and sums what is written.
struct Counted<W> {
    inner: W,
    sum: Sha256,
    size: u64,
}

impl<W: Write> Counted<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            sum: Sha256::new(),
            size: 0,
        }
    }

    fn exported(self) -> Exported {
        Exported {
            size: self.size,
            sha256: hash::hex(&self.sum.finalize()),
        }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sum.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes the archive; `place` is what errors call where it goes.
fn write(
    bundle: &Bundle,
    to: &mut dyn Write,
    place: &Path,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<()> {
    let total = bundle.manifest.files.values().map(|file| file.size).sum();
    let bar = reporter.bar("exporting the bundle", Some(total), Unit::Bytes);
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_WORKERS));
    let packer = packer(to, workers).map_err(failed(place))?;
    let mut tar = tar::Builder::new(packer);

    let text = fs::read(bundle.layout.manifest()).map_err(Error::io(&bundle.layout.manifest()))?;
    let header = header(MANIFEST, text.len() as u64, false)?;
    tar.append(&header, &*text).map_err(failed(place))?;
    for (name, sum) in &bundle.manifest.files {
        let path = bundle.layout.0.join(name);
        let mut file = Summed::open(&path, &*bar, cancel)?;
        bar.message(name);
        let header = self::header(name, sum.size, file.is_executable()?)?;
        let written = tar.append(&header, &mut file);
        let found = file.finish()?;
        written.map_err(failed(place))?;
        if found != (sum.size, sum.sha256.clone()) {
            return Err(Error::new(
                Kind::Bundle,
                format!(
                    "bundle {} is damaged: {name} has another content than it should",
                    bundle.key
                ),
            )
            .hint("`sampan bundle build` sets it aside and makes it again"));
        }
    }
    let packer = tar.into_inner().map_err(failed(place))?;
    packer.finish().and_then(|to| to.flush()).map_err(failed(place))
}

/// Packs what is written into one zstd frame with a checksum, in threads of its own.
fn packer(to: &mut dyn Write, workers: usize) -> io::Result<Encoder<'_, &mut dyn Write>> {
    let mut packer = Encoder::new(to, LEVEL)?;
    packer.include_checksum(true)?;
    packer.multithread(u32::try_from(workers).unwrap_or(1))?;
    Ok(packer)
}

fn header(name: &str, size: u64, executable: bool) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(|error| {
        Error::new(Kind::Internal, format!("{name} cannot be in a bundle file")).because(error)
    })?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// A file of the bundle on its way into the archive.
struct Summed<'a> {
    file: File,
    path: &'a Path,
    sum: Sha256,
    size: u64,
    bar: &'a dyn Bar,
    cancel: &'a Cancel,
    failure: Cell<Option<Error>>,
}

impl<'a> Summed<'a> {
    fn open(path: &'a Path, bar: &'a dyn Bar, cancel: &'a Cancel) -> Result<Self> {
        Ok(Self {
            file: File::open(path).map_err(Error::io(path))?,
            path,
            sum: Sha256::new(),
            size: 0,
            bar,
            cancel,
            failure: Cell::new(None),
        })
    }

    fn is_executable(&self) -> Result<bool> {
        use std::os::unix::fs::PermissionsExt;
        let meta = self.file.metadata().map_err(Error::io(self.path))?;
        Ok(meta.permissions().mode() & 0o100 != 0)
    }

    /// Size and sum of what was read, or what went wrong here.
    fn finish(self) -> Result<(u64, String)> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok((self.size, hash::hex(&self.sum.finalize()))),
        }
    }
}

impl Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self
            .cancel
            .check()
            .and_then(|()| self.file.read(buffer).map_err(Error::io(self.path)));
        match read {
            Ok(count) => {
                self.sum.update(&buffer[..count]);
                self.size += count as u64;
                self.bar.advance(count as u64);
                Ok(count)
            }
            Err(error) => {
                self.failure.set(Some(error));
                Err(io::Error::other("the bundle cannot be read"))
            }
        }
    }
}

/// The error of a target that cannot be written.
fn failed(place: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let place = place.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
            Kind::Storage,
            format!("{}: no space left on device", place.display()),
        )
        .hint("free some space there, or write to another place"),
        io::ErrorKind::FileTooLarge => Error::new(
            Kind::Storage,
            format!("{}: a file of this size does not fit there", place.display()),
        )
        .hint("file systems of sticks may be limited to 4 GB: format it as exFAT or ext4"),
        _ => Error::io(&place)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_packs_the_same() {
        // Larger than what one thread packs at a time, and written in uneven pieces.
        let bytes: Vec<u8> = (0_u32..6 << 20)
            .flat_map(|n| (n.wrapping_mul(n) >> 11).to_le_bytes())
            .collect();
        let packed = |workers, piece| {
            let mut to = Vec::new();
            let mut packer = packer(&mut to, workers).unwrap();
            for piece in bytes.chunks(piece) {
                packer.write_all(piece).unwrap();
            }
            packer.finish().unwrap();
            hash::bytes(&to)
        };
        assert_eq!(packed(1, 1 << 20), packed(4, 99_999));
    }
}
