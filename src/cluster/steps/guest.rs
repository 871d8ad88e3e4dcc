//! The steps that happen inside the guest: `provision` knows them; here they get what they need to know.

use std::net::{IpAddr, Ipv4Addr};

use super::Step;
use crate::bundle::{Archive, Manifest};
use crate::cluster::start::Run;
use crate::error::Result;
use crate::layout::ProfileLayout;
use crate::pki;
use crate::provision::{self, Node};

/// The guest's own address in a user-mode network.
pub(in crate::cluster) const GUEST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15));

/// The host's loopback, as a user-mode network shows it to the guest.
pub(in crate::cluster) const HOST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

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
    let parts = parts(&profile.bundle, &run.bundle()?.manifest);
    let pki = pki(&run.files);
    call(&Node {
        runner: run.guest()?,
        api: run.api()?,
        name: profile.node(),
        spec: &profile.spec,
        parts: &parts,
        pki: &pki,
        address: GUEST_ADDRESS,
        host: HOST_ADDRESS,
        reporter: &*run.ctx.reporter,
        cancel: &run.ctx.cancel,
    })
}

/// What of a bundle the provisioner needs to know.
pub(in crate::cluster) fn parts(key: &str, manifest: &Manifest) -> provision::Parts {
    let images = manifest.images.iter().map(|image| provision::ImageRef {
        name: image.name.clone(),
        tag: image.tag.clone(),
        addon: image.archive == Archive::Addons,
    });
    provision::Parts {
        key: key.to_owned(),
        images: images.collect(),
    }
}

/// A profile's authorities and certificates.
pub(in crate::cluster) fn pki(files: &ProfileLayout) -> provision::Pki {
    provision::Pki {
        ca_cert: files.pki().join("ca.crt"),
        ca_key: files.pki().join("ca.key"),
        docker: pki::docker::Served::new(&files.pki()),
    }
}
