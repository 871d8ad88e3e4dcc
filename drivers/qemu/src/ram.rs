//! The memory of a fork, put together again: its layer's file, and over it the pages that its process has of its own.
//!
//! Linux tells in `/proc/PID/pagemap` which pages of a private mapping have been written to, and gives their contents in
//! `/proc/PID/mem`, where its security policy lets one process look into another of the same user (Yama may not).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom as Part;
use rustix::io::Errno;

/// Page table entries of eight bytes that are read at once.
const ENTRIES: usize = 1 << 16;
/// How much memory is copied at once.
const PIECE: usize = 1 << 20;

/// Whether processes of the same user may look into each other's memory: not where Yama restricts it.
pub(crate) fn readable() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    cfg!(target_os = "linux")
        && (scope.is_err()
            || scope.is_ok_and(|scope| scope.trim() == "0")
            || rustix::process::geteuid().is_root())
}

/// The anonymous file that is a guest's memory, as a path that can be opened.
pub(crate) fn memfd(pid: u32) -> io::Result<PathBuf> {
    let mut fds = fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(Result::ok);
    let named = |path: &Path| {
        let target = fs::read_link(path).unwrap_or_default();
        target
            .to_string_lossy()
            .starts_with("/memfd:memory-backend-memfd")
    };
    fds.find_map(|entry| Some(entry.path()).filter(|path| named(path)))
        .ok_or_else(|| {
            io::Error::new(
                ErrorKind::NotFound,
                format!("process {pid} has no anonymous memory file"),
            )
        })
}

/// One stretch of a process's memory that maps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    /// Addresses, from and to.
    from: u64,
    to: u64,
    /// Where in the file it begins.
    offset: u64,
}

/// A process whose memory can be read.
#[derive(Debug)]
pub(crate) struct Memory {
    pagemap: File,
    contents: File,
    mappings: Vec<Mapping>,
}

impl Memory {
    /// The memory of a process that comes from this file. `PermissionDenied` where the system does not allow to look.
    pub(crate) fn open(pid: u32, file: &Path) -> io::Result<Self> {
        let inode = fs::metadata(file)?.ino();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mappings: Vec<Mapping> = maps.lines().filter_map(|line| mapping(line, inode)).collect();
        if mappings.is_empty() {
            let what = format!("process {pid} has not mapped {}", file.display());
            return Err(io::Error::new(ErrorKind::NotFound, what));
        }
        Ok(Self {
            pagemap: File::open(format!("/proc/{pid}/pagemap"))?,
            contents: File::open(format!("/proc/{pid}/mem"))?,
            mappings,
        })
    }

    /// Writes all pages of its own to their places in a copy of the file; returns how many bytes.
    pub(crate) fn write_own(&self, copy: &File) -> io::Result<u64> {
        let page = rustix::param::page_size() as u64;
        let mut written = 0;
        let mut entries = vec![0; ENTRIES * 8];
        let mut piece = vec![0; PIECE];
        for mapping in &self.mappings {
            let pages = (mapping.to - mapping.from) / page;
            let mut done = 0;
            while done < pages {
                let count = (pages - done).min(ENTRIES as u64);
                let bytes = &mut entries[..count as usize * 8];
                self.pagemap
                    .read_exact_at(bytes, (mapping.from / page + done) * 8)?;
                for (first, length) in runs(bytes) {
                    let start = (done + first) * page;
                    written += self.copy(mapping, start, length * page, copy, &mut piece)?;
                }
                done += count;
            }
        }
        Ok(written)
    }

    fn copy(
        &self,
        mapping: &Mapping,
        start: u64,
        length: u64,
        to: &File,
        piece: &mut [u8],
    ) -> io::Result<u64> {
        let mut done = 0;
        while done < length {
            let count = (length - done).min(piece.len() as u64);
            let bytes = &mut piece[..count as usize];
            self.contents.read_exact_at(bytes, mapping.from + start + done)?;
            to.write_all_at(bytes, mapping.offset + start + done)?;
            done += count;
        }
        Ok(length)
    }
}

/// A line of `/proc/PID/maps`: "7f00-7f80 rw-p 00001000 fd:01 1234 /path", numbers but for the inode hexadecimal.
fn mapping(line: &str, inode: u64) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    (words.nth(1)?.parse() == Ok(inode)).then_some(())?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        from: number(from)?,
        to: number(to)?,
        offset: number(offset)?,
    })
}

/// Stretches of pages that are the process's own: swapped out (bit 62), or present (bit 63) and not the file's (bit 61).
fn runs(entries: &[u8]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, entry) in (0_u64..).zip(entries.chunks_exact(8)) {
        let flags = entry[7] >> 5;
        if flags & 0b010 == 0 && flags & 0b101 != 0b100 {
            continue;
        }
        match runs.last_mut() {
            Some((first, length)) if *first + *length == index => *length += 1,
            _ => runs.push((index, 1)),
        }
    }
    runs
}

/// Copies a file without its holes into a new one that only its owner can read; returns it and how many bytes it has
/// of its own. On file systems that can, the copy shares the original's blocks.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> io::Result<(File, u64)> {
    let source = File::open(from)?;
    let copy = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    #[cfg(target_os = "linux")]
    if rustix::fs::ioctl_ficlone(&copy, &source).is_ok() {
        return Ok((copy, 0));
    }
    let size = source.metadata()?.len();
    copy.set_len(size)?;
    let mut piece = vec![0; PIECE];
    let (mut end, mut written) = (0, 0);
    while let Some(start) = data(rustix::fs::seek(&source, Part::Data(end)))? {
        end = data(rustix::fs::seek(&source, Part::Hole(start)))?.unwrap_or(size);
        let length = end - start;
        let mut done = 0;
        while done < length {
            let count = (length - done).min(PIECE as u64);
            let bytes = &mut piece[..count as usize];
            source.read_exact_at(bytes, start + done)?;
            copy.write_all_at(bytes, start + done)?;
            done += count;
        }
        written += length;
    }
    Ok((copy, written))
}

/// No more data is no error.
fn data(place: rustix::io::Result<u64>) -> io::Result<Option<u64>> {
    match place {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The proportional share of memory in `/proc/PID/smaps_rollup`, in bytes.
pub(crate) fn proportional(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    kib.map(|kib| kib << 10)
        .ok_or_else(|| ErrorKind::InvalidData.into())
}

#[cfg(test)]
#[path = "ram_tests.rs"]
mod tests;
