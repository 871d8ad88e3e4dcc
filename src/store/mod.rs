//! What keeps layers and profiles whole on disk: locks that name their holder, files and directories that appear whole or not
//! at all, and hashes that name and check them.

pub mod atomic;
pub mod hash;
pub mod lock;
