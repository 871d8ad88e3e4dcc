//! Files to and from the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use sampan::error::Kind;
use sampan::progress::{Bar, Silent};

use crate::running::noise;
use crate::server::Server;

#[derive(Default)]
struct Counter(AtomicU64);

impl Bar for Counter {
    fn advance(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
    fn message(&self, _: &str) {}
}

#[test]
fn a_file_goes_there_and_back() {
    let server = Server::running();
    let session = server.session();
    let contents = noise(3 << 20);
    let (local, remote, back) = (
        server.file("local"),
        server.path("guest/it's here/file"),
        server.file("back"),
    );
    fs::write(&local, &contents).unwrap();
    let bar = Counter::default();
    session.upload(&local, &remote, 0o751, &bar).unwrap();
    assert_eq!(bar.0.load(Ordering::Relaxed), contents.len() as u64);
    assert!(fs::read(&remote).unwrap() == contents);
    assert_eq!(fs::metadata(&remote).unwrap().permissions().mode() & 0o777, 0o751);
    assert_eq!(fs::read_dir(server.file("guest/it's here")).unwrap().count(), 1);
    session.download(&remote, &back, &bar).unwrap();
    assert!(fs::read(&back).unwrap() == contents);

    fs::write(&local, "").unwrap();
    session.upload(&local, &remote, 0o600, &Silent).unwrap();
    assert_eq!(fs::read(&remote).unwrap(), b"");
}

/// The guest's `cat` loses a byte: the file that was there stays, and nothing else.
#[test]
fn a_damaged_transfer_is_found_out_and_undone() {
    let mut server = Server::prepared();
    let bin = server.file("bin");
    fs::create_dir(&bin).unwrap();
    // The read end stays open, so that the sender does not notice.
    fs::write(
        bin.join("cat"),
        "#!/bin/sh\nhead -c 999\nexec /bin/cat > /dev/null\n",
    )
    .unwrap();
    fs::set_permissions(bin.join("cat"), fs::Permissions::from_mode(0o755)).unwrap();
    let config = server.file("sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    // Only the first SetEnv counts.
    let path = format!("SetEnv PATH={}:/usr/bin:/bin HOME=", bin.display());
    fs::write(&config, text.replace("SetEnv HOME=", &path)).unwrap();
    server.start();

    let session = server.session();
    let (local, remote) = (server.file("local"), server.path("guest/file"));
    fs::write(&local, noise(1000)).unwrap();
    fs::create_dir(server.file("guest")).unwrap();
    fs::write(&remote, "old").unwrap();
    let error = session.upload(&local, &remote, 0o600, &Silent).unwrap_err();
    assert!(error.to_string().contains("the sha256 sums differ"), "{error}");
    assert_eq!(fs::read(&remote).unwrap(), b"old");
    assert_eq!(fs::read_dir(server.file("guest")).unwrap().count(), 1);

    fs::write(server.file("source"), noise(1000)).unwrap();
    let back = server.file("back");
    let error = session
        .download(&server.path("source"), &back, &Silent)
        .unwrap_err();
    assert!(error.to_string().contains("the sha256 sums differ"), "{error}");
    assert!(!back.exists());
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let server = Server::running();
    let session = server.session();
    let error = session
        .upload(&server.file("absent"), &server.path("x"), 0o600, &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::HostPath);
    assert!(error.to_string().contains("absent"), "{error}");
    fs::write(server.file("local"), "x").unwrap();
    let error = session
        .upload(&server.file("local"), "/proc/sampan/x", 0o600, &Silent)
        .unwrap_err();
    assert!(error.to_string().contains("/proc/sampan"), "{error}");
    let error = session
        .download("/no/such/file", &server.file("back"), &Silent)
        .unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    let error = session
        .download("/etc/passwd", &server.file("no/dir/back"), &Silent)
        .unwrap_err();
    assert!(error.to_string().contains("no/dir/back"), "{error}");
}
