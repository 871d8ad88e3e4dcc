//! What an object must be, and what that is known from.

use super::mirror::Place;
use super::sums::{Found, Sum};
use super::{Trust, first_use};
use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;

const HINT: &str = "it was deleted; run the same command again, and if it fails in the same way, a server or a proxy on the way sends \
                    something else: fetch it from a mirror (`--source`)";

/// What an object must be, and what that is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) sum: Sum,
    pub(super) trust: Trust,
}

impl Proof {
    /// What an address had at its first use, or whatever comes.
    pub(super) fn of_first_use(layout: &DownloadsLayout, url: &str) -> Result<Self> {
        let sum = match first_use::known(layout, url)? {
            Some(sum) => Sum::pinned(&sum, 64)?,
            None => Sum::Any,
        };
        let trust = Trust::FirstUse;
        Ok(Self { sum, trust })
    }

    /// The error of bytes that are something else; they are deleted already.
    pub(super) fn failed(&self, name: &str, place: &Place, found: &Found, layout: &DownloadsLayout) -> Error {
        let (kind, is, must) = match &self.sum {
            Sum::Sha512(sum) => (
                "sha512",
                found.sha512.as_deref().unwrap_or_default(),
                sum.as_str(),
            ),
            Sum::Sha256(sum) => ("sha256", found.sha256.as_str(), sum.as_str()),
            Sum::Any => ("sha256", found.sha256.as_str(), "any"),
        };
        let (why, hint) = match &self.trust {
            Trust::Pinned => ("must be".to_owned(), HINT.to_owned()),
            Trust::Published { url } => (format!("by {url} must be"), HINT.to_owned()),
            Trust::FirstUse => (
                "was, when it was fetched first,".to_owned(),
                format!(
                    "it was deleted; if upstream has really changed the file, remove its line from {}",
                    layout.first_use().display()
                ),
            ),
        };
        let message = format!(
            "{name}: {place} is not the file that was expected: its {kind} is {is}, and {why} {must}"
        );
        Error::new(Kind::Checksum, message).hint(hint)
    }
}
