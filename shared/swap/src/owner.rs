//! The changes that the owner makes to a lab instance during its swap. Hours may lie between Discover and the end,
//! if an image is made. The launch and the phases after it repeat the whole fitness check. A swap that would be refused
//! now is launched no twin, or undone.

use spot_cloud::ec2::addresses;
use spot_cloud::launch::twin::{TwinSource, describe, examine, observe};
use spot_cloud::load_balancing::targets;
use spot_cloud::{CallError, RegionClients};
use spot_domain::own_tags::like_opt_out;
use spot_domain::settings::Settings;
use spot_domain::swap::group::InstanceState;
use spot_domain::swap::lab::{LabSwap, Original, Registration, changed};
use spot_domain::tags::Tags;
use spot_domain::{InstanceId, Reason};

/// All traffic to an instance that can be moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The allocation ids of the instance's Elastic IPs.
    pub addresses: Vec<String>,
    /// The instance's registrations in target groups, by its id.
    pub registrations: Vec<Registration>,
}

/// Finds all traffic to the instance, and notes in `original` what could not be moved.
///
/// # Errors
/// A call fails.
pub async fn traffic(clients: &RegionClients, original: &mut Original) -> Result<Traffic, CallError> {
    let addresses = addresses::of(&clients.ec2, &original.instance.id).await?;
    let found = targets::of(&clients.elbv2, &original.instance).await?;
    original.unhealthy_in = found.unhealthy_in;
    let by_address =
        found.by_address_in.map(|group| format!("target group {group} has it by its private address"));
    let many = (addresses.len() > 1).then(|| "it has more than one Elastic IP".to_owned());
    original.irreproducible = original.irreproducible.take().or(many).or(by_address);
    Ok(Traffic { addresses, registrations: found.registrations })
}

/// Says how the owner has changed the instance since its swap began; `None` if nothing changed, or if the instance
/// no longer runs. The check searches the target groups.
///
/// # Errors
/// A call fails.
pub async fn change(
    clients: &RegionClients,
    settings: &Settings,
    old: &InstanceId,
    lab: &LabSwap,
) -> Result<Option<String>, CallError> {
    let Some(mut original) = running(clients, old).await? else { return Ok(None) };
    let traffic = unchanged(clients, settings, &mut original, lab).await?;
    Ok(traffic.err().map(|why| in_words(old, &why)))
}

/// Looks at the instance right before the launch of its twin. Returns its tags and the source of the launch, or why there is
/// none: whatever [`change`] names, an instance that does not run, or one without what its twin would take over.
///
/// # Errors
/// A call fails.
pub async fn before_launch(
    clients: &RegionClients,
    settings: &Settings,
    old: &InstanceId,
    lab: &LabSwap,
) -> Result<Result<(Tags, TwinSource), (Reason, String)>, CallError> {
    let gone = |why: &str| Ok(Err((Reason::InstanceGone, format!("instance {old}: {why}"))));
    let differs = |why: &str| Ok(Err((Reason::InstanceChanged, in_words(old, why))));
    let Some(source) = describe(&clients.ec2, old).await? else { return gone("EC2 does not describe it") };
    let mut original = observe(&clients.ec2, old, &source).await?;
    match original.instance.state {
        InstanceState::Running => {}
        // EC2 shows neither network nor volumes of it: no twin of it could be made.
        InstanceState::Dead => return gone("it is terminated"),
        InstanceState::Pending | InstanceState::Stopped => return differs("it no longer runs"),
    }
    let traffic = match unchanged(clients, settings, &mut original, lab).await? {
        Ok(traffic) => traffic,
        Err(why) => return differs(&why),
    };
    match lost(clients, old, &traffic, lab).await? {
        Some(why) => differs(&why),
        None => Ok(Ok((original.instance.tags, source))),
    }
}

fn in_words(old: &InstanceId, why: &str) -> String {
    format!("instance {old} is not what it was when its swap began: {why}")
}

/// Returns the traffic to a running instance that is what it was when its swap began, or how the owner has changed it. A
/// change of the instance itself costs no search through the target groups.
async fn unchanged(
    clients: &RegionClients,
    settings: &Settings,
    original: &mut Original,
    lab: &LabSwap,
) -> Result<Result<Traffic, String>, CallError> {
    if let Some(why) = changed(original, lab, settings) {
        return Ok(Err(why));
    }
    let traffic = traffic(clients, original).await?;
    let why = gained(&traffic, lab).or_else(|| changed(original, lab, settings));
    Ok(why.map_or(Ok(traffic), Err))
}

/// Says how the owner has come to use a newcomer, if its termination would break that use. Returns `None` if there is
/// no such use, or if the newcomer no longer lives. The check searches the target groups.
///
/// AWS protects no Spot Instance from termination: the opt-out tag is its owner's means.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html>
///
/// # Errors
/// A call fails.
pub async fn settled_on(
    clients: &RegionClients,
    settings: &Settings,
    newcomer: &InstanceId,
    lab: &LabSwap,
) -> Result<Option<String>, CallError> {
    let described = examine(&clients.ec2, newcomer).await?;
    let Some(mut original) = described.filter(|original| original.instance.is_alive()) else {
        return Ok(None);
    };
    if settings.opts_out(&original.instance.tags) {
        return Ok(Some(format!("instance {newcomer} bears the tag {}", settings.opt_out_tag)));
    }
    if let Some(bad) = like_opt_out(&original.instance.tags, settings) {
        return Ok(Some(format!("instance {newcomer} may be opted out: {}", bad.of_instance())));
    }
    if original.termination_protected {
        return Ok(Some(format!("DisableApiTermination is on on instance {newcomer}")));
    }
    if original.instance.state == InstanceState::Pending {
        original.irreproducible = None; // EC2 may not show its network interface yet
    }
    let gained = gained(&traffic(clients, &mut original).await?, lab);
    let by_address = || original.irreproducible.clone();
    Ok(gained.or_else(by_address).map(|what| format!("instance {newcomer}: {what}")))
}

async fn running(clients: &RegionClients, id: &InstanceId) -> Result<Option<Original>, CallError> {
    let original = examine(&clients.ec2, id).await?;
    Ok(original.filter(|original| original.instance.state == InstanceState::Running))
}

/// Names an address or a target group that the instance gained after its twin was made.
fn gained(traffic: &Traffic, lab: &LabSwap) -> Option<String> {
    if let Some(address) = traffic.addresses.iter().find(|address| lab.address.as_ref() != Some(*address)) {
        return Some(format!("it has the Elastic IP {address}"));
    }
    let more = traffic.registrations.iter().find(|registration| !lab.registrations.contains(registration));
    more.map(|registration| format!("target group {} has it", registration.target_group_arn))
}

/// Names the address or a target group that the instance has lost since its swap began. A target group that was deleted
/// is none.
async fn lost(
    clients: &RegionClients,
    old: &InstanceId,
    traffic: &Traffic,
    lab: &LabSwap,
) -> Result<Option<String>, CallError> {
    if let Some(address) = lab.address.as_ref().filter(|address| !traffic.addresses.contains(address)) {
        return Ok(Some(format!("it no longer has the Elastic IP {address}")));
    }
    for gone in lab.registrations.iter().filter(|known| !traffic.registrations.contains(known)) {
        if targets::state(&clients.elbv2, gone, old).await?.is_out() {
            return Ok(Some(format!("target group {} no longer has it", gone.target_group_arn)));
        }
    }
    Ok(None)
}
