//! The cluster's certificate authority and what it signs on the host: the administrator's client certificate, server
//! certificates later.
//!
//! The host makes the authority and kubeadm in the guest signs its own certificates with a copy of it, so the host can make a
//! kubeconfig without asking the guest. ECDSA P-256 throughout: an emulated CPU needs a tenth of RSA's time to verify it.

mod check;
pub mod docker;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::error::{Error, Kind, Result};
use crate::store::atomic;

const YEAR: Duration = Duration::days(365);
/// Certificates begin in the past: a guest's clock may stand a little behind the host's, and a resumed guest's always does.
const BACKDATED: Duration = Duration::days(1);
/// A certificate that ends within this time is made anew.
const RENEWED_BEFORE: Duration = Duration::days(30);

/// Kubernetes' group of those who may do anything. kubeadm's own `kubeadm:cluster-admins` gets its rights from a binding in the
/// cluster, which is not there before `kubeadm init` has finished and which a user can delete; `start` must be able to look and
/// to repair in both cases.
const ADMIN_GROUP: &str = "system:masters";
const ADMIN_NAME: &str = "kubernetes-admin";

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair { … }")
    }
}

/// What a cluster is trusted by and administered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pki {
    /// The cluster's own authority.
    pub ca: Pair,
    /// Client certificate of the administrator, signed by it.
    pub admin: Pair,
}

/// Makes the authority and the administrator's certificate in `dir` (`ca.crt`, `ca.key`, `admin.crt`, `admin.key`; 0600 in a directory of
/// 0700), or reads them. The administrator's is made anew when it is lost, damaged or ends within 30 days.
///
/// # Errors
/// [`Kind::HostConfig`] when the authority is damaged, has run out, or half of it is missing: it is never replaced, since all that
/// the cluster trusts hangs on it. Else when files cannot be read or written.
pub fn ensure(dir: &Path, cluster: &str) -> Result<Pki> {
    ensure_at(dir, cluster, OffsetDateTime::now_utc())
}

fn ensure_at(dir: &Path, cluster: &str, now: OffsetDateTime) -> Result<Pki> {
    atomic::make_private_dir(dir)?;
    let admin = Files::new(dir, "admin");
    let ca = ensure_ca(
        &Files::new(dir, "ca"),
        &admin,
        &format!("sampan {cluster} CA"),
        now,
    )?;
    let admin = ensure_signed(&admin, &ca, &Subject::client(ADMIN_NAME, ADMIN_GROUP), now)?;
    Ok(Pki { ca, admin })
}

/// A certificate that `ca` signed: read, or made anew when it is lost, damaged or near its end.
fn ensure_signed(files: &Files, ca: &Pair, subject: &Subject, now: OffsetDateTime) -> Result<Pair> {
    let kept = files
        .read()?
        .filter(|pair| check::signed(pair, ca, now + RENEWED_BEFORE).is_ok());
    if let Some(pair) = kept {
        return Ok(pair);
    }
    let pair = issue_at(ca, subject, now)?;
    files.write(&pair)?;
    Ok(pair)
}

/// An authority: read, or made when nothing was signed with it yet; `signed` is what it signs first.
fn ensure_ca(files: &Files, signed: &Files, name: &str, now: OffsetDateTime) -> Result<Pair> {
    // The certificate is written last: a key alone is what an interrupted first start leaves, and nothing was signed with it yet.
    let begun = !files.cert.exists() && !signed.cert.exists();
    if begun {
        let ca = make_ca(name, now)?;
        files.write(&ca)?;
        return Ok(ca);
    }
    let missing = if files.cert.exists() {
        &files.key
    } else {
        &files.cert
    };
    let ca = files.read()?.ok_or_else(|| unusable(missing, "is missing"))?;
    check::authority(&ca, now).map_err(|(half, what)| {
        unusable(
            if half == check::Half::Cert {
                &files.cert
            } else {
                &files.key
            },
            &what,
        )
    })?;
    Ok(ca)
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::new(Kind::HostConfig, format!("{}: {what}", path.display())).hint(
        "the cluster trusts only this authority: restore the file from a backup, or run `sampan delete` and `sampan start` \
         for a new cluster",
    )
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Common name: the user's name to Kubernetes, or a server's for people.
    pub name: String,
    /// Organizations: groups to Kubernetes.
    pub groups: Vec<String>,
    /// DNS names a server answers to; none makes it a client's certificate, if there are no addresses either.
    pub names: Vec<String>,
    /// Addresses a server answers at.
    pub addresses: Vec<IpAddr>,
    /// Whether the server is a client as well: both sides show each other who they are.
    pub peer: bool,
}

impl Subject {
    /// A client of the cluster.
    pub fn client(name: &str, group: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec![group.to_owned()],
            ..Self::default()
        }
    }

    /// A server.
    pub fn server(name: &str, names: Vec<String>, addresses: Vec<IpAddr>) -> Self {
        Self {
            name: name.to_owned(),
            names,
            addresses,
            ..Self::default()
        }
    }
}

/// Makes an authority that is kept nowhere: for parts of a cluster that trust nobody but each other.
///
/// # Errors
/// When it cannot be made.
pub fn authority(name: &str) -> Result<Pair> {
    make_ca(name, OffsetDateTime::now_utc())
}

/// Whether a certificate belongs to its key, is signed by `ca` (a certificate, PEM) and good for some time yet.
pub fn is_good(pair: &Pair, ca: &str) -> bool {
    let ca = Pair {
        cert: ca.to_owned(),
        key: String::new(),
    };
    check::signed(pair, &ca, OffsetDateTime::now_utc() + RENEWED_BEFORE).is_ok()
}

/// Makes a key and has the authority sign a certificate for it, good for a year from now.
///
/// # Errors
/// When a name is not a DNS name, or the authority cannot be used.
pub fn issue(ca: &Pair, subject: &Subject) -> Result<Pair> {
    issue_at(ca, subject, OffsetDateTime::now_utc())
}

fn issue_at(ca: &Pair, subject: &Subject, now: OffsetDateTime) -> Result<Pair> {
    let names = subject
        .names
        .iter()
        .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    let names = names.collect::<Result<Vec<_>, rcgen::Error>>().map_err(failed)?;
    let mut params = params(&subject.name, now, YEAR);
    for group in &subject.groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group.as_str());
    }
    params.subject_alt_names = names;
    params
        .subject_alt_names
        .extend(subject.addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![match params.subject_alt_names.is_empty() {
        true => ExtendedKeyUsagePurpose::ClientAuth,
        false => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    if subject.peer {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;

    let ca_key = KeyPair::from_pem(&ca.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, ca_key).map_err(failed)?;
    let key = new_key()?;
    let cert = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn make_ca(name: &str, now: OffsetDateTime) -> Result<Pair> {
    let mut params = params(name, now, YEAR * 10);
    // Signs servers and clients, and no further authorities; as kubeadm makes its own.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    let key = new_key()?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn params(name: &str, now: OffsetDateTime, valid: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - BACKDATED;
    params.not_after = now + valid;
    params
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn failed(error: rcgen::Error) -> Error {
    Error::new(Kind::Internal, format!("cannot make a certificate: {error}")).because(error)
}

/// Where a pair is kept.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(dir: &Path, name: &str) -> Self {
        Self {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        }
    }

    /// None when one of the two is missing.
    fn read(&self) -> Result<Option<Pair>> {
        let read = |path: &Path| match fs::read(path) {
            // What is no text is damaged, and the check says so.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        };
        Ok(read(&self.cert)?
            .zip(read(&self.key)?)
            .map(|(cert, key)| Pair { cert, key }))
    }

    /// The certificate last: its presence says that both are there.
    fn write(&self, pair: &Pair) -> Result<()> {
        atomic::write(&self.key, 0o600, pair.key.as_bytes())?;
        atomic::write(&self.cert, 0o600, pair.cert.as_bytes())
    }
}

#[cfg(test)]
mod tests;
