//! A guest goes on after its machine was saved, or as a fork of another: clock, randomness, machine ID, certificates, registries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sampan_driver::Command;

use super::{Node, certs, docker, labels, registries, render};
use crate::error::{Error, Kind, Result};
use crate::store::hash;

/// A guest on a busy host takes seconds for its first steps.
const DEADLINE: Duration = Duration::from_secs(60);

/// Steps the guest's clock to the host's and gives it randomness of its own; then looks whether its certificates are still
/// good, and renews them where they are near their end, and tells the guest about other registries than it knows. `is_fork`: the machine also gets an ID of its own.
///
/// # Errors
/// [`Kind::Guest`] when the guest cannot be asked; [`Kind::ControlPlane`] when certificates cannot be renewed.
pub fn wake(node: &Node<'_>, is_fork: bool) -> Result<()> {
    let id = if is_fork { random(16)? } else { String::new() };
    let randomness = random(64)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wake = Command::new("sh")
        .args(["-s", "--", &format!("{:.3}", now.as_secs_f64()), &randomness, &id])
        .stdin(format!("{}{}{}", render::file("wake/wake")?, show(), registries::SHOW).into_bytes())
        .deadline(DEADLINE);
    node.cancel.check()?;
    let shown = node.runner.run(&wake)?.stdout;
    renew_what_ends(node, &shown)?;
    registries::follow(node, &shown)
}

/// Looks whether the certificates of a guest that has run for long are still good, and renews them where they are near their end; Docker's
/// is made by the host before.
///
/// # Errors
/// As [`wake`].
pub fn renew(node: &Node<'_>) -> Result<()> {
    let show = Command::new("sh").arg("-s").stdin(show()).deadline(DEADLINE);
    node.cancel.check()?;
    let shown = node.runner.run(&show)?.stdout;
    renew_what_ends(node, &shown)
}

/// Prints all certificates that matter.
fn show() -> String {
    format!("{}{}", certs::SHOW, docker::SHOW)
}

fn renew_what_ends(node: &Node<'_>, shown: &[u8]) -> Result<()> {
    certs::renew_if_near_end(node, certs::days_left(shown)?)?;
    docker::renew_if_other(node, shown)
}

/// Tells the cluster what the profile of a fork is called; its node keeps its name.
///
/// # Errors
/// Those of [`super::Api::get`].
pub fn rename(node: &Node<'_>) -> Result<()> {
    if labels::is_done(node)? {
        return Ok(());
    }
    labels::apply(node)
}

/// Random bytes in hex.
fn random(count: usize) -> Result<String> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::new(Kind::Internal, "the host gives no randomness").because(error))?;
    }
    Ok(hash::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_has_its_length_and_differs() {
        let (one, two) = (random(16).unwrap(), random(16).unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
