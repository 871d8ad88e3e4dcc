//! A newer version of Kubernetes: a snapshot is taken to go back to, the machine powers off, and from then on the profile names the
//! bundle that the new programs and images are from. What is left to be done then, the steps in the guest see there.

use std::time::Duration;

use sampan_driver::MachineState;

use super::Step;
use crate::cluster::machine::Machine;
use crate::cluster::start::Run;
use crate::cluster::upgrade::{self, Underway};
use crate::cluster::{place, snapshot, stop, verdict};
use crate::error::Result;
use crate::supervisor;

/// How long the guest may take to power off before it is killed; pods have half a minute for themselves.
const POWER_OFF: Duration = Duration::from_secs(180);

pub(in crate::cluster) struct Upgrade;

impl Step for Upgrade {
    fn names(&self) -> (&'static str, &'static str) {
        ("Upgrading Kubernetes", "preparing the upgrade")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        Ok(!run.is_upgrade())
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let (ctx, version) = (run.ctx, &run.request.spec.kubernetes_version);
        let mut profile = run.profile()?.clone();
        let machine = Machine::of(ctx, profile.clone())?;
        let bundle = run.bundle()?;
        match machine.state()? {
            // Nothing is in it yet.
            MachineState::Absent => profile.move_to(bundle),
            mut state => {
                let restore_point = restore_point(&machine, version)?;
                upgrade::begin(
                    &run.files,
                    &Underway {
                        from: profile.spec.kubernetes_version.clone(),
                        to: version.clone(),
                        restore_point,
                    },
                )?;
                ctx.reporter.detail("powering the machine off");
                if state == MachineState::Paused {
                    // One that is held cannot hear that it shall.
                    machine.driver.start(&machine.spec)?;
                    state = MachineState::Running;
                }
                stop::shut_down(&machine, state, POWER_OFF)?;
                // It ends with its machine, but not at once.
                supervisor::end(&run.files)?;
                profile.take_parts(&bundle.key);
            }
        }
        profile.spec.kubernetes_version.clone_from(version);
        verdict::forget(&run.files)?;
        // Whoever is killed from here on leaves an upgrade that the next start goes on with.
        place::save(ctx, &profile)?;
        run.profile = Some(profile);
        Ok(())
    }
}

/// Takes the snapshot to go back to; its name. Empty where the driver cannot.
fn restore_point(machine: &Machine<'_>, version: &str) -> Result<String> {
    let (ctx, name) = (machine.ctx, &machine.profile.spec.name);
    if machine.driver.snapshots().is_none() {
        ctx.reporter.warn(&format!(
            "the driver {} cannot save machines: there is no way back from this upgrade",
            machine.driver.name()
        ));
        return Ok(String::new());
    }
    ctx.reporter.detail("taking a snapshot to go back to");
    let taken = snapshot::save_held(machine, &format!("before-{version}"))
        .map_err(|error| error.hint("no upgrade was begun, the cluster is as it was"))?;
    ctx.reporter.info(&format!(
        "snapshot \"{0}\" is taken; `sampan snapshot restore -p {name} {0}` goes back to it",
        taken.name
    ));
    Ok(taken.name)
}
