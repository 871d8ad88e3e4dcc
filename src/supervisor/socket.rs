//! The socket in the profile's directory. Its path may be longer than an address of a socket can be; then it is reached through a
//! short-lived link to its directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// Longest socket path that every platform takes (macOS: 104 bytes with the final zero).
const PATH_LIMIT: usize = 103;

/// Connects without ever blocking for longer than `limit`: a supervisor that hangs leaves its queue full.
pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let end = Instant::now() + limit;
    let (short, _link) = short(path)?;
    let address = SocketAddrUnix::new(&short)?;
    let socket = socket()?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(5))
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Listens at `path`, for this user alone. The caller holds the supervisor's lock, so what is there is left over.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _link) = short(path)?;
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

fn short(path: &Path) -> io::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok((path.to_owned(), None));
    };
    if path.as_os_str().len() <= PATH_LIMIT {
        return Ok((path.to_owned(), None));
    }
    let temporary = tempfile::Builder::new().prefix("sampan-").tempdir_in("/tmp")?;
    let link = temporary.path().join("s");
    std::os::unix::fs::symlink(dir, &link)?;
    Ok((link.join(name), Some(temporary)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_replaces_what_is_left_and_may_be_deep() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s".to_owned(), "d".repeat(200)] {
            let dir = dir.path().join(name);
            fs::create_dir(&dir).unwrap();
            let path = dir.join("supervisor.sock");
            drop(listen(&path).unwrap());
            let listener = listen(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            connect(&path, Duration::from_secs(5)).unwrap();
            drop(listener);
            let refused = connect(&path, Duration::from_secs(5)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }
}
