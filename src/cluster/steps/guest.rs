//! The steps that happen inside the guest: `provision` knows them; here they get what they need to know.

use std::net::{IpAddr, Ipv4Addr};

use super::Step;
use crate::bundle::{self, Archive, Manifest};
use crate::cluster::Profile;
use crate::cluster::start::Run;
use crate::error::{Error, Kind, Result};
use crate::layout::{Layout, ProfileLayout};
use crate::pki;
use crate::provision::{self, Node};

/// The guest's own address in a user-mode network.
const GUEST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15));

/// The host's loopback, as a user-mode network shows it to the guest.
const HOST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

/// One step of the provisioner, under the name that scripts know.
pub(in crate::cluster) struct Guest(
    pub(in crate::cluster) &'static str,
    pub(in crate::cluster) provision::Step,
);

impl Step for Guest {
    fn names(&self) -> (&'static str, &'static str) {
        (self.0, self.1.title)
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        if run.settled {
            return Ok(true);
        }
        with_node(run, |node| (self.1.is_done)(node))
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        with_node(run, |node| (self.1.apply)(node))
    }
}

/// Calls something with the node as the provisioner sees it.
pub(super) fn with_node<T>(run: &Run<'_>, call: impl FnOnce(&Node<'_>) -> Result<T>) -> Result<T> {
    let profile = run.profile()?;
    let parts = parts(&run.ctx.layout, profile)?;
    let pki = pki(&run.files);
    let (address, host) = addresses(run.driver.features().forwards, profile.address);
    call(&Node {
        runner: run.guest()?,
        api: run.api()?,
        name: profile.node(),
        spec: &profile.spec,
        parts: &parts,
        pki: &pki,
        address,
        host,
        reporter: &*run.ctx.reporter,
        cancel: &run.ctx.cancel,
    })
}

/// The guest's own address and the host's, as the guest sees them. Without forwards the guest is reached at its own; the host is then
/// the first of that network, as macOS's (vmnet) has it.
pub(in crate::cluster) fn addresses(forwards: bool, reached_at: IpAddr) -> (IpAddr, IpAddr) {
    match reached_at {
        IpAddr::V4(own) if !forwards => {
            let [a, b, c, _] = own.octets();
            (reached_at, IpAddr::from([a, b, c, 1]))
        }
        _ => (GUEST_ADDRESS, HOST_ADDRESS),
    }
}

/// What of a profile's bundles the provisioner needs to know.
///
/// # Errors
/// [`Kind::Bundle`] when one is gone or cannot be read.
pub(in crate::cluster) fn parts(layout: &Layout, profile: &Profile) -> Result<provision::Parts> {
    let read = |key: &str| {
        Manifest::read(&layout.bundle(key))?
            .ok_or_else(|| Error::new(Kind::Bundle, format!("bundle {key} of this cluster is gone")))
    };
    let manifest = read(profile.parts())?;
    let cloud = match profile.parts() == profile.bundle {
        true => manifest.base == bundle::cloud::BASE,
        false => read(&profile.bundle)?.base == bundle::cloud::BASE,
    };
    let images = manifest.images.iter().map(|image| provision::ImageRef {
        name: image.name.clone(),
        tag: image.tag.clone(),
        addon: image.archive == Archive::Addons,
    });
    Ok(provision::Parts {
        key: profile.parts().to_owned(),
        cloud,
        images: images.collect(),
    })
}

/// A profile's authorities and certificates.
pub(in crate::cluster) fn pki(files: &ProfileLayout) -> provision::Pki {
    provision::Pki {
        ca_cert: files.pki().join("ca.crt"),
        ca_key: files.pki().join("ca.key"),
        docker: pki::docker::Served::new(&files.pki()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_forwards_has_its_own_address() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            addresses(true, at("127.77.0.3")),
            (at("10.0.2.15"), at("10.0.2.2"))
        );
        assert_eq!(
            addresses(false, at("192.168.64.7")),
            (at("192.168.64.7"), at("192.168.64.1"))
        );
    }
}
