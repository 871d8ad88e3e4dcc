//! Files to and from the guest: streamed, checked by sha256 on both sides, renamed when whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sampan_driver::{Command, CommandError, Runner, Stream};
use sha2::{Digest, Sha256};

use super::line::quote;
use super::session::{Session, failure};
use super::wire::{Clock, Ended};
use crate::error::{Error, Kind, Result};
use crate::progress::Bar;

/// A transfer may take as long as it likes, if only something moves this often. Also covers the guest hashing what it got.
const IDLE: Duration = Duration::from_secs(120);

impl Session {
    /// Copies a file of the host to `remote`, an absolute path in the guest, with these permission bits. Missing directories are
    /// made. The guest has either the old file or the whole new one. `bar` moves by bytes.
    ///
    /// # Errors
    /// When the local file cannot be read, the guest cannot hold it, or it arrives damaged.
    pub fn upload(&self, local: &Path, remote: &str, mode: u32, bar: &dyn Bar) -> Result<()> {
        let file = File::open(local).map_err(Error::io(local))?;
        let mut source = Hashing {
            inner: file,
            sum: Sha256::new(),
            bar,
            error: None,
        };
        let new = quote(&format!("{remote}.sampan-new"));
        let script = format!(
            "umask 077; mkdir -p \"$(dirname {target})\" && cat > {new} && sha256sum < {new} && sync {new} && \
             chmod {mode:o} {new} || {{ status=$?; rm -f {new}; exit $status; }}",
            target = quote(remote),
        );
        let mut said = Vec::new();
        let sent = self.script(&script, &mut source, &mut |stream, bytes| {
            if stream == Stream::Stdout {
                said.extend_from_slice(bytes);
            }
        });
        if let Some(error) = source.error.take() {
            self.forget(&new);
            return Err(Error::io(local)(error));
        }
        sent?;
        let sum = hex(source.sum);
        if first_word(&said) != sum {
            self.forget(&new);
            return Err(self.differs(&local.display().to_string(), remote));
        }
        self.run(&Command::shell(format!("mv -f {new} {}", quote(remote))))
            .map_err(Error::from)?;
        Ok(())
    }

    /// Copies a file of the guest to the host, where its directory must exist; it gets the mode a new file has there. The host has
    /// either the old file or the whole new one. `bar` moves by bytes.
    ///
    /// # Errors
    /// When the guest has no such file, the local one cannot be written, or it arrives damaged.
    pub fn download(&self, remote: &str, local: &Path, bar: &dyn Bar) -> Result<()> {
        let dir = local
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut target = tempfile::Builder::new()
            .prefix(".sampan-")
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(Error::io(local))?;
        let mut sum = Sha256::new();
        let mut written = Ok(());
        self.script(
            &format!("cat < {}", quote(remote)),
            &mut io::empty(),
            &mut |stream, bytes| {
                if stream == Stream::Stdout && written.is_ok() {
                    sum.update(bytes);
                    bar.advance(bytes.len() as u64);
                    written = target.write_all(bytes);
                }
            },
        )?;
        written.map_err(Error::io(local))?;
        let expected = Command::shell(format!("sha256sum < {}", quote(remote))).deadline(IDLE);
        if first_word(&self.run(&expected).map_err(Error::from)?.stdout) != hex(sum) {
            return Err(self.differs(remote, &local.display().to_string()));
        }
        target.as_file().sync_all().map_err(Error::io(local))?;
        target
            .persist(local)
            .map_err(|error| Error::io(local)(error.error))?;
        Ok(())
    }

    /// Runs a script with streamed input; what it says on standard error goes into the error.
    fn script(
        &self,
        script: &str,
        input: &mut dyn Read,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<()> {
        let mut stderr = Vec::new();
        let line = format!("exec sh -c {}", quote(script));
        let ended = self.exec(&line, input, Clock::idle(IDLE), &mut |stream, bytes| {
            if stream == Stream::Stderr {
                stderr.extend_from_slice(bytes);
            }
            on_output(stream, bytes);
        });
        let failure = match ended {
            Ok(Ended::Status(0)) => return Ok(()),
            Ok(Ended::Status(status)) => sampan_driver::Failure::Status(status),
            Ok(Ended::Signal(name)) => sampan_driver::Failure::Signal(name),
            Err(trouble) => failure(trouble, IDLE),
        };
        let mut error: CommandError = self.error(format!("sh -c {}", quote(script)), failure);
        error.output.stderr = stderr;
        Err(Error::from(error))
    }

    /// Takes away what a failed upload left behind; what cannot be removed is overwritten by the next.
    fn forget(&self, quoted: &str) {
        if let Err(error) = self.run(&Command::shell(format!("rm -f {quoted}"))) {
            tracing::debug!(%error, "half an upload stays in the guest");
        }
    }

    fn differs(&self, from: &str, to: &str) -> Error {
        Error::new(
            Kind::Guest,
            format!(
                "{}: {to} is not what {from} is: the sha256 sums differ",
                self.place()
            ),
        )
        .hint("try again; if it happens again, look at the disk and memory of the guest and the host")
    }
}

/// A local file that is hashed and counted as it is sent.
struct Hashing<'a> {
    inner: File,
    sum: Sha256,
    bar: &'a dyn Bar,
    error: Option<io::Error>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.sum.update(&buffer[..count]);
                self.bar.advance(count as u64);
                Ok(count)
            }
            Err(error) => {
                let again = io::Error::from(error.kind());
                self.error = Some(error);
                Err(again)
            }
        }
    }
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sum in what `sha256sum` printed.
fn first_word(output: &[u8]) -> String {
    String::from_utf8_lossy(output)
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
