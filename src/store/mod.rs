//! What keeps layers and profiles whole on disk: locks that name their holder, files and directories that appear whole or not
//! at all, copies that keep holes, and hashes that name and check.

pub mod atomic;
pub mod hash;
pub mod lock;
pub(crate) mod oci;
pub mod sparse;
pub mod sums;
pub mod tree;
