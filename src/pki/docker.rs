//! Certificates of a machine's Docker: an authority of its own, so that what opens the cluster does not open Docker and the other
//! way round, a server certificate for every address a profile may have, and the client certificate of the user's `docker`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::{Files, Pair, Subject, check, ensure_ca, ensure_signed};
use crate::error::{Error, Result};
use crate::network;
use crate::store::atomic;

/// Names the server certificate is good for, besides the addresses.
const NAMES: [&str; 2] = ["localhost", "sampan.internal"];

/// What the guest's Docker needs, as files on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Certificate of the authority that signs clients.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Served {
    /// The names of the files in a profile's directory of certificates.
    pub fn new(pki: &Path) -> Self {
        let server = Files::new(pki, "docker-server");
        Self {
            ca: Files::new(pki, "docker-ca").cert,
            cert: server.cert,
            key: server.key,
        }
    }
}

/// Makes Docker's authority and its server certificate in `pki`, and `ca.pem`, `cert.pem` and `key.pem` for the user's `docker` in
/// `client`; or leaves them as they are. Certificates that are lost, damaged or end within 30 days are made anew; so is a server's that
/// is not for the guest's `own` address, where it is reached there and not at the host's.
///
/// # Errors
/// [`crate::error::Kind::HostConfig`] when the authority is damaged or half of it is missing; else when files cannot be read or written.
pub fn ensure(pki: &Path, client: &Path, machine: &str, own: Option<IpAddr>) -> Result<()> {
    ensure_at(pki, client, machine, own, OffsetDateTime::now_utc())
}

fn ensure_at(
    pki: &Path,
    client: &Path,
    machine: &str,
    own: Option<IpAddr>,
    now: OffsetDateTime,
) -> Result<()> {
    atomic::make_private_dir(pki)?;
    atomic::make_private_dir(client)?;
    let server = Files::new(pki, "docker-server");
    let title = format!("sampan {machine} Docker CA");
    let ca = ensure_ca(&Files::new(pki, "docker-ca"), &server, &title, now)?;
    let names = NAMES.map(str::to_owned).to_vec();
    let mut addresses = network::certificate_addresses();
    if let Some(own) = own.filter(|own| !addresses.contains(own)) {
        addresses.push(own);
        if server.read()?.is_some_and(|pair| !check::is_for(&pair, own)) {
            std::fs::remove_file(&server.cert).map_err(Error::io(&server.cert))?;
        }
    }
    let subject = Subject::server("sampan Docker", names, addresses);
    ensure_signed(&server, &ca, &subject, now)?;
    let user = Files {
        cert: client.join("cert.pem"),
        key: client.join("key.pem"),
    };
    ensure_signed(&user, &ca, &Subject::client("docker", "sampan"), now)?;
    write_authority(&client.join("ca.pem"), &ca)
}

fn write_authority(path: &Path, ca: &Pair) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == ca.cert.as_bytes()) {
        return Ok(());
    }
    atomic::write(path, 0o600, ca.cert.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use sampan_driver::{Command, Host, Runner};
    use time::Duration;

    use super::*;

    fn verify(authority: &Path, purpose: &str, cert: &Path) -> bool {
        let command = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .path(authority)
            .path(cert);
        Host.succeeds(&command).unwrap()
    }

    #[test]
    fn each_side_is_known_to_the_other_and_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, client) = (dir.path().join("pki"), dir.path().join("docker"));
        super::super::ensure(&pki, "m").unwrap();
        ensure(&pki, &client, "m", None).unwrap();
        let served = Served::new(&pki);
        let (ca, cert) = (client.join("ca.pem"), client.join("cert.pem"));
        assert!(verify(&ca, "sslserver", &served.cert));
        assert!(verify(&served.ca, "sslclient", &cert));
        assert!(!verify(&ca, "sslclient", &served.cert));
        assert!(!verify(&pki.join("ca.crt"), "sslclient", &cert));
        assert!(!verify(&ca, "sslclient", &pki.join("admin.crt")));
        for file in [&ca, &cert, &client.join("key.pem"), &served.key] {
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
        assert_eq!(fs::metadata(&client).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_guest_with_an_address_of_its_own_is_in_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, client) = (dir.path().join("pki"), dir.path().join("docker"));
        let served = Served::new(&pki);
        let own = |text: &str| text.parse::<IpAddr>().ok();
        let ensured = |own: Option<IpAddr>| {
            ensure(&pki, &client, "m", own).unwrap();
            fs::read_to_string(&served.cert).unwrap()
        };
        let is_for = |address: &str| {
            let command = Command::new("openssl")
                .args(["verify", "-verify_ip", address, "-CAfile"])
                .path(&client.join("ca.pem"))
                .path(&served.cert);
            Host.succeeds(&command).unwrap()
        };
        let first = ensured(None);
        assert!(is_for("127.77.0.3") && !is_for("192.168.64.7"));
        assert_eq!(ensured(own("127.77.0.3")), first);
        let second = ensured(own("192.168.64.7"));
        assert!(is_for("192.168.64.7") && is_for("127.0.0.1"));
        assert_eq!(ensured(own("192.168.64.7")), second);
        // Before the guest runs, nobody knows where it will be.
        assert_eq!(ensured(None), second);
        assert_ne!(ensured(own("192.168.64.8")), second);
        assert!(is_for("192.168.64.8"));
    }

    #[test]
    fn what_is_near_its_end_is_made_anew_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, client) = (dir.path().join("pki"), dir.path().join("docker"));
        let now = OffsetDateTime::now_utc();
        ensure_at(&pki, &client, "m", None, now).unwrap();
        let read = || {
            [
                Served::new(&pki).cert,
                client.join("cert.pem"),
                client.join("ca.pem"),
            ]
            .map(|path| fs::read_to_string(path).unwrap())
        };
        let first = read();
        ensure_at(&pki, &client, "m", None, now + Duration::days(330)).unwrap();
        assert_eq!(read(), first);
        ensure_at(&pki, &client, "m", None, now + Duration::days(340)).unwrap();
        let second = read();
        assert_ne!(second[0], first[0]);
        assert_ne!(second[1], first[1]);
        assert_eq!(second[2], first[2]);
    }
}
