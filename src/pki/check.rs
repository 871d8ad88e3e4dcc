//! Whether certificates on disk are what they should be.

use std::net::IpAddr;

use rcgen::{KeyPair, PublicKeyData};
use time::OffsetDateTime;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::Pair;

/// Which file of a pair something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Cert,
    Key,
}

type Check<T = ()> = Result<T, (Half, String)>;

/// An authority with its own key that is good at `now`.
pub(super) fn authority(ca: &Pair, now: OffsetDateTime) -> Check {
    let pem = pem(&ca.cert)?;
    let cert = parse(&pem)?;
    if !cert.is_ca() {
        return Err((Half::Cert, "is not a certificate authority".to_owned()));
    }
    ends_after(&cert, now)?;
    belongs(&cert, &ca.key)
}

/// A certificate with its own key, signed by `ca` and good until `then` at least.
pub(super) fn signed(pair: &Pair, ca: &Pair, then: OffsetDateTime) -> Check {
    let (pem, ca_pem) = (pem(&pair.cert)?, pem(&ca.cert)?);
    let (cert, ca_cert) = (parse(&pem)?, parse(&ca_pem)?);
    ends_after(&cert, then)?;
    belongs(&cert, &pair.key)?;
    cert.verify_signature(Some(ca_cert.public_key()))
        .map_err(|_| (Half::Cert, "is not signed by the cluster's authority".to_owned()))
}

/// Whether a server's certificate is for an address.
pub(super) fn is_for(pair: &Pair, address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let Ok(pem) = pem(&pair.cert) else { return false };
    let names = parse(&pem).map(|cert| {
        let names = cert.subject_alternative_name().ok().flatten();
        names.is_some_and(|names| {
            let mut names = names.value.general_names.iter();
            names.any(|name| matches!(name, GeneralName::IPAddress(there) if *there == octets))
        })
    });
    names.unwrap_or(false)
}

fn pem(text: &str) -> Check<Pem> {
    match parse_x509_pem(text.as_bytes()) {
        Ok((_, pem)) if pem.label == "CERTIFICATE" => Ok(pem),
        _ => Err((Half::Cert, "is not a certificate".to_owned())),
    }
}

fn parse(pem: &Pem) -> Check<X509Certificate<'_>> {
    pem.parse_x509()
        .map_err(|_| (Half::Cert, "is a damaged certificate".to_owned()))
}

fn ends_after(cert: &X509Certificate<'_>, then: OffsetDateTime) -> Check {
    let end = cert.validity().not_after;
    if end.to_datetime() <= then {
        return Err((Half::Cert, format!("is valid only until {end}")));
    }
    Ok(())
}

fn belongs(cert: &X509Certificate<'_>, key: &str) -> Check {
    let key = KeyPair::from_pem(key).map_err(|_| (Half::Key, "is not a private key".to_owned()))?;
    if cert.public_key().raw != key.subject_public_key_info() {
        return Err((
            Half::Key,
            "does not belong to the certificate beside it".to_owned(),
        ));
    }
    Ok(())
}
