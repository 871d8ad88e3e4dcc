//! Forwards of a running machine: rules of its NAT network. VirtualBox keeps them in the machine's settings; the next start takes
//! away those that the machine does not begin with.

use sampan_driver::{DriverError, Forward, MachineSpec, PortForward, Result, refused};

use crate::VirtualBox;
use crate::args;

impl PortForward for VirtualBox {
    fn add(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        check(forward)?;
        let machine = self.there(spec)?;
        let taken = DriverError::PortTaken { port: forward.host };
        for rule in machine.running()?.rules {
            if rule.forward == *forward {
                return Ok(());
            }
            if is_at(&rule.forward, forward) {
                return Err(taken);
            }
        }
        // VirtualBox would take the rule, and write into its log that it does not work.
        if let Some(error) = refused(forward.protocol, forward.host) {
            return Err(error);
        }
        let added = machine.manage.run(&args::publish(&machine.uuid, forward));
        match added {
            // Somebody was quicker, or the rule has the name that ours would have.
            Err(_)
                if machine
                    .running()?
                    .rules
                    .iter()
                    .any(|rule| rule.forward == *forward) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn remove(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        let machine = self.there(spec)?;
        for rule in machine.running()?.rules {
            if is_at(&rule.forward, forward) {
                machine.manage.run(&args::unpublish(&machine.uuid, &rule.name))?;
            }
        }
        Ok(())
    }

    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        Ok(self.there(spec)?.running()?.forwards(&spec.forwards))
    }
}

fn is_at(one: &Forward, other: &Forward) -> bool {
    (one.host, one.protocol) == (other.host, other.protocol)
}

/// Forwards have to be what VirtualBox can do and what we allow.
pub(crate) fn check(forward: &Forward) -> Result<()> {
    let host = forward.host;
    if host.is_ipv4() && host.ip().is_loopback() {
        return Ok(());
    }
    Err(DriverError::Unsupported {
        what: format!("virtualbox cannot forward from {host}"),
        hint: "forward from a loopback address such as 127.0.0.1".to_owned(),
    })
}
