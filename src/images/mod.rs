//! The images of a cluster's Docker: listing, loading without what is there already, building, saving.
//!
//! [`Engine`] talks to Docker in the node over TLS; [`archive`] reads what `docker save` and others write; [`context`] collects what
//! a build needs; [`Parts`] is what is sent, made of pieces of memory and of files, so that nothing is copied first.

pub mod archive;
pub mod context;
mod credentials;
mod dockerignore;
mod engine;
mod list;
mod load;
pub(crate) mod name;
mod parts;
mod unpacked;

pub use credentials::{Login, credentials, login_to};
pub(crate) use engine::trust;
pub use engine::{Engine, Said};
pub use list::{Listed, list};
pub use load::{Loaded, Node, load};
pub use name::{check as check_name, full as full_name};
pub use parts::Parts;
