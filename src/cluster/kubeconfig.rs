//! A profile's entry in the user's kubeconfig.

use std::fs;

use super::{Context, Profile, profile};
use crate::error::{Error, Result};
use crate::kubeconfig::{Entry, Files, Status};
use crate::provision::SERVER_NAME;

/// The entry that leads to a profile's cluster.
pub(super) fn entry(ctx: &Context, profile: &Profile) -> Result<Entry> {
    let pki = ctx.layout.profile(&profile.spec.name).pki();
    let read = |name: &str| fs::read(pki.join(name)).map_err(Error::io(&pki.join(name)));
    Ok(Entry {
        name: profile.spec.name.clone(),
        server: format!("https://{}", profile.api()),
        tls_server_name: Some(SERVER_NAME.to_owned()),
        ca: read("ca.crt")?,
        client_cert: read("admin.crt")?,
        client_key: read("admin.key")?,
    })
}

/// Writes the entry; true when that changed a file.
pub(super) fn write(ctx: &Context, profile: &Profile, keep_context: bool) -> Result<bool> {
    Files::new(ctx.kubeconfig.clone()).set(&entry(ctx, profile)?, keep_context)
}

/// Fails as [`write`] would later.
pub(super) fn check(ctx: &Context, name: &str) -> Result<()> {
    Files::new(ctx.kubeconfig.clone()).check(name)
}

/// Whether the user's kubeconfig leads to the profile's cluster.
pub(super) fn is_configured(ctx: &Context, profile: &Profile) -> Result<bool> {
    Ok(Files::new(ctx.kubeconfig.clone()).status(&entry(ctx, profile)?)? == Status::Configured)
}

/// `update-context`: points the user's kubectl to a profile's cluster; true when that changed a file.
///
/// # Errors
/// When there is no such profile or a kubeconfig cannot be read or written.
pub fn update_context(ctx: &Context, name: &str) -> Result<bool> {
    write(ctx, &profile::load(&ctx.layout, name)?, false)
}
