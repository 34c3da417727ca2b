//! The changes that the owner makes to a lab instance during its swap. Hours may lie between Discover and the end,
//! if an image is made. The phases repeat the whole fitness check, and undo a swap that would be refused now.

use spot_cloud::ec2::{addresses, instances};
use spot_cloud::launch::twin::examine;
use spot_cloud::load_balancing::targets;
use spot_cloud::{CallError, RegionClients};
use spot_domain::InstanceId;
use spot_domain::own_tags::like_opt_out;
use spot_domain::settings::Settings;
use spot_domain::swap::group::InstanceState;
use spot_domain::swap::lab::{LabSwap, Original, Registration, changed};

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
    let mut why = changed(&original, lab, settings);
    if why.is_none() {
        let traffic = traffic(clients, &mut original).await?;
        why = gained(&traffic, lab).or_else(|| changed(&original, lab, settings));
    }
    Ok(why.map(|why| format!("instance {old} is not what it was when its swap began: {why}")))
}

/// Says how the owner has come to use a newcomer since its swap ended, if its termination would break that use.
/// Returns `None` if there is no such use, or if the newcomer no longer runs. The check searches the target
/// groups.
///
/// # Errors
/// A call fails.
pub async fn settled_on(
    clients: &RegionClients,
    settings: &Settings,
    newcomer: &InstanceId,
    lab: &LabSwap,
) -> Result<Option<String>, CallError> {
    let Some(mut original) = running(clients, newcomer).await? else { return Ok(None) };
    if settings.opts_out(&original.instance.tags) {
        return Ok(Some(format!("instance {newcomer} bears the tag {}", settings.opt_out_tag)));
    }
    if let Some(bad) = like_opt_out(&original.instance.tags, settings) {
        return Ok(Some(format!("instance {newcomer} may be opted out: {}", bad.of_instance())));
    }
    if instances::is_termination_protected(&clients.ec2, newcomer).await? {
        return Ok(Some(format!("DisableApiTermination is on on instance {newcomer}")));
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
