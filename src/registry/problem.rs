//! What can go wrong with a registry, in words that say what to do.

use std::error::Error as StdError;

use oci_client::errors::{OciDistributionError, OciErrorCode};

use crate::error::{Error, Kind};

/// How a try ended, and whether another one may end better.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another try may help.
    Passing(Error),
    /// None will.
    Final(Error),
}

impl Trouble {
    /// The error, whatever comes of it.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Passing(error) | Self::Final(error) => error,
        }
    }
}

/// What a registry's answer means. `place` says what was asked for where, `registry` whom.
pub(super) fn of(error: OciDistributionError, place: &str, registry: &str, known: bool) -> Trouble {
    use OciDistributionError as E;
    match error {
        E::UnauthorizedError { .. } => Trouble::Final(unauthorized(place, registry, known)),
        E::AuthenticationFailure(said) if said.to_uppercase().contains("TOOMANYREQUESTS") => {
            Trouble::Passing(rate_limited(place, registry, known))
        }
        E::AuthenticationFailure(said) => {
            Trouble::Final(unauthorized(place, registry, known).because(short(&said)))
        }
        E::ServerError { code, message, .. } => status(code, &message, place, registry, known),
        E::RegistryError { envelope, .. } => {
            let has =
                |wanted: &[OciErrorCode]| envelope.errors.iter().any(|error| wanted.contains(&error.code));
            if has(&[OciErrorCode::Toomanyrequests]) {
                Trouble::Passing(rate_limited(place, registry, known))
            } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                Trouble::Final(unauthorized(place, registry, known))
            } else if has(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
                OciErrorCode::BlobUnknown,
                OciErrorCode::ManifestBlobUnknown,
            ]) {
                Trouble::Final(not_found(place))
            } else {
                Trouble::Final(refused(place, &envelope.to_string()))
            }
        }
        E::RequestError(error) => match error.status() {
            Some(code) => status(code.as_u16(), "", place, registry, known),
            None => of_connection(error, place, registry),
        },
        E::DigestError(error) => Trouble::Final(
            Error::new(
                Kind::Checksum,
                format!("{place} is not what its digest says, and is not used: {error}"),
            )
            .hint("try again; if it stays so, do not trust that registry"),
        ),
        other => {
            Trouble::Final(Error::new(Kind::Internet, format!("{place} cannot be fetched")).because(other))
        }
    }
}

/// What an HTTP status means.
fn status(code: u16, said: &str, place: &str, registry: &str, known: bool) -> Trouble {
    match code {
        401 | 403 => Trouble::Final(unauthorized(place, registry, known)),
        404 => Trouble::Final(not_found(place)),
        429 => Trouble::Passing(rate_limited(place, registry, known)),
        408 | 425 | 500..=599 => Trouble::Passing(
            Error::new(
                Kind::Unreachable,
                format!("{registry} answers {code} for {place}"),
            )
            .hint("it is the registry's own trouble: try again later"),
        ),
        _ => Trouble::Final(refused(place, &format!("{code} {}", short(said)))),
    }
}

/// What a connection died of.
pub(super) fn of_connection(error: reqwest::Error, place: &str, registry: &str) -> Trouble {
    let chain = chain(&error);
    let message = format!("{place} cannot be fetched: {chain}");
    let kind = if error.is_connect() {
        Kind::Unreachable
    } else {
        Kind::Internet
    };
    let error = Error::new(kind, message);
    if chain.contains("certificate") {
        return Trouble::Final(
            error
                .hint("is this machine's clock right? certificates are good for a time only")
                .hint(format!(
                    "a registry of your own may do without: --insecure-registry {registry}"
                )),
        );
    }
    Trouble::Passing(error.hint("check the network, and HTTPS_PROXY where there is a proxy"))
}

/// What an error and its causes say, from the outside in.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = inner.source();
    }
    words
}

fn short(said: &str) -> String {
    said.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(200)
        .collect()
}

fn refused(place: &str, said: &str) -> Error {
    Error::new(Kind::Internet, format!("{place} is not given: {said}")).hint("check the name of the image")
}

fn not_found(place: &str) -> Error {
    Error::new(Kind::Missing, format!("{place} is not there"))
        .hint("check name and tag; some registries also say so of images that need a login")
}

fn unauthorized(place: &str, registry: &str, known: bool) -> Error {
    let error = Error::new(Kind::Refused, format!("{registry} does not let you have {place}"));
    if known {
        error.hint(format!(
            "your docker client's login is not enough; `docker login {registry}` makes another"
        ))
    } else {
        error.hint(format!(
            "`docker login {registry}` tells it who you are; check the name of the image, too"
        ))
    }
}

fn rate_limited(place: &str, registry: &str, known: bool) -> Error {
    let error = Error::new(
        Kind::Unreachable,
        format!("{registry} has had too many requests from here (429) and does not give {place}"),
    );
    let error = if known {
        error
    } else {
        error.hint(format!("`docker login {registry}` raises the limit"))
    };
    error.hint("try again later, or name a mirror")
}

/// Something that came is not what it has to be.
pub(super) fn wrong_digest(place: &str, wanted: &str, found: &str) -> Error {
    Error::new(
        Kind::Checksum,
        format!("{place} is not what its digest says, and was deleted: {found} came instead of {wanted}"),
    )
    .hint("try again; if it stays so, do not trust where it came from")
}

/// More came than there is.
pub(super) fn too_long(place: &str, most: u64) -> Error {
    Error::new(
        Kind::Checksum,
        format!("{place} does not end after its {most} bytes, and was deleted"),
    )
    .hint("do not trust where it came from")
}

pub(super) fn no_arch(image: &str, arch: &str, there: &[String]) -> Error {
    let error = Error::new(Kind::Missing, format!("there is no image {image} for {arch}"));
    if there.is_empty() {
        return error.hint("ask those who make it");
    }
    error.hint(format!("there is one for {}", there.join(", ")))
}

/// An image that nobody can use.
pub(super) fn odd(image: &str, why: &str) -> Error {
    Error::new(Kind::Internet, format!("{image} cannot be used: {why}"))
        .hint("check the name, and where it comes from")
}
