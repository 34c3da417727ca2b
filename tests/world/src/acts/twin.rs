//! The acts of the owner of a stand-alone instance about its twin.

use crate::fleet::Ec2State;
use crate::virtual_time::now;
use crate::world::World;

/// An act of the owner about the twin that lives. Before there is one, the act does not take place. Nor does one that changes
/// nothing. Where the Elastic IP goes, [`super::LabAct`] says.
///
/// AWS stops no one-time Spot Instance and protects none from a stop or a termination: the opt-out tag is its owner's means.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwinAct {
    /// He terminates it.
    Terminates,
    /// He opts it out.
    OptsOut,
    /// He gives it a tag that says nothing against a swap.
    Tags,
    /// He takes it out of its target groups.
    TakesOut,
    /// He registers it, while it runs, in another target group of his.
    RegistersElsewhere,
}

/// The tag that says nothing against a swap.
const HARMLESS_TAG: (&str, &str) = ("cost-center", "42");

impl TwinAct {
    /// Every act.
    pub const ALL: [Self; 5] =
        [Self::Terminates, Self::OptsOut, Self::Tags, Self::TakesOut, Self::RegistersElsewhere];
}

impl World {
    /// The owner acts, and the ledger knows.
    pub(super) fn owner_of_twin_acts(&mut self, act: TwinAct, twin: &str) {
        let Self { fleet, oracles, .. } = self;
        let Some(ledger) = &mut oracles.lab else { return };
        match act {
            TwinAct::Terminates => {
                fleet.owner_terminates(twin, now());
                ledger.is_lost(twin);
            }
            TwinAct::OptsOut => {
                fleet.tag_instance(twin, &oracles.settings.opt_out_tag, Some("true"));
                ledger.deeds.uses_twin(twin);
            }
            TwinAct::Tags => fleet.tag_instance(twin, HARMLESS_TAG.0, Some(HARMLESS_TAG.1)),
            TwinAct::TakesOut => ledger.twin_is_taken_out(fleet.owner_deregisters(twin, now())),
            TwinAct::RegistersElsewhere => {
                if fleet.instances().get(twin).is_some_and(|twin| twin.state == Ec2State::Running) {
                    fleet.owner_registers_elsewhere(twin);
                    ledger.deeds.uses_twin(twin);
                }
            }
        }
        oracles.tags.look(fleet);
    }
}
