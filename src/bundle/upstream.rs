//! The source `upstream`: what its makers release. Not there yet: it says so, and `auto` passes it over.

use std::time::Duration;

use super::Wanted;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::progress::{Cancel, Reporter};

/// The key of the bundle of upstream's releases with this version of Kubernetes; none when there is no such bundle.
pub(super) fn current_key(_kubernetes: &str) -> Result<Option<String>> {
    Ok(None)
}

/// Whether upstream, or the mirror that stands for it, can be asked right now; else why not, in words that follow "as".
pub(super) fn answers(_wanted: &Wanted, _within: Duration) -> Result<(), String> {
    Err("this sampan fetches nothing from upstream yet".to_owned())
}

/// Fetches the bundle of a key to its place, which is free. The caller holds the lock of the bundle store.
pub(super) fn fetch(
    _layout: &Layout,
    _key: &str,
    _wanted: &Wanted,
    _reporter: &dyn Reporter,
    _cancel: &Cancel,
) -> Result<()> {
    Err(not_there())
}

/// The error of what cannot be had from upstream.
pub(super) fn not_there() -> Error {
    Error::new(
        Kind::Unimplemented,
        "a bundle of upstream's releases cannot be fetched yet",
    )
    .hint("`--source build` makes one here, `sampan bundle import FILE` takes one from a file")
}
