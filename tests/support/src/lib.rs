//! What tests of several crates have in common. Benches use it, too.

#![expect(clippy::unwrap_used, reason = "what fails here is a test that fails")]

pub mod disk;
pub mod upstream;
