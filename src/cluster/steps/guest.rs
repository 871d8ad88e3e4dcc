//! The steps that happen inside the guest: `provision` knows them; here they get what they need to know.

use std::net::{IpAddr, Ipv4Addr};

use super::Step;
use crate::cluster::start::Run;
use crate::error::Result;
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
    let images = &run.bundle()?.manifest.images;
    let parts = provision::Parts {
        key: profile.bundle.clone(),
        images: images
            .iter()
            .map(|image| provision::ImageRef {
                name: image.name.clone(),
                tag: image.tag.clone(),
            })
            .collect(),
    };
    let pki = provision::Pki {
        ca_cert: run.files.pki().join("ca.crt"),
        ca_key: run.files.pki().join("ca.key"),
        docker: pki::docker::Served::new(&run.files.pki()),
    };
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
