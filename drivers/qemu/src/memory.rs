//! The guest's memory, as an argument of QEMU: an anonymous file, a file, or a private view of one.

use std::path::{Path, PathBuf};

use crate::args::escape;

/// Where a machine's memory comes from when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// Empty memory: the machine boots.
    Boot,
    /// Empty memory, to be filled from a stream that also holds the devices.
    Stream,
    /// A private view of this file, which is never written to through it: the machine's own memory when it was saved,
    /// or that of the layer it is forked from.
    View(PathBuf),
    /// The machine's own memory when it was saved, and from now on again.
    File,
}

/// `-object memory-backend-…`: the guest's memory.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) id: &'static str,
    pub(crate) size_mib: u64,
    pub(crate) backend: MemoryBackend,
}

/// What the guest's memory is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemoryBackend {
    /// An anonymous file of the kernel's (Linux). A file on a disk would be written back and read again all the time.
    Memfd,
    /// A file in the machine's directory, where the host knows no anonymous ones.
    File(PathBuf),
    /// A private view of a file: what the guest writes is the process's own. The file is opened for reading only.
    View(PathBuf),
}

impl Memory {
    pub(crate) fn render(&self) -> String {
        let Self { id, size_mib, .. } = self;
        let file = |path: &Path| format!("memory-backend-file,mem-path={}", escape(&path.to_string_lossy()));
        let (kind, share) = match &self.backend {
            MemoryBackend::Memfd => ("memory-backend-memfd".to_owned(), "share=on"),
            MemoryBackend::File(path) => (file(path), "share=on"),
            MemoryBackend::View(path) => (file(path), "share=off,readonly=on,rom=off"),
        };
        format!("{kind},id={id},size={size_mib}M,{share}")
    }
}

impl MemoryBackend {
    /// Reads it back from a command line with a zero byte after each argument.
    pub(crate) fn of_process(line: &str) -> Option<Self> {
        let object = |arg: &str| {
            if arg.starts_with("memory-backend-memfd,") {
                return Some(Self::Memfd);
            }
            let (path, rest) = arg
                .strip_prefix("memory-backend-file,mem-path=")?
                .rsplit_once(",id=mem,")?;
            let path = path.replace(",,", ",").into();
            Some(if rest.contains("share=on") {
                Self::File(path)
            } else {
                Self::View(path)
            })
        };
        line.split('\0').find_map(object)
    }
}
