//! Losses: everything that the twin of a stand-alone instance would not have, or would do otherwise. The
//! losses are named before anything is launched.

use crate::swap::lab::{OldInstance, Original};
use crate::tags::{MAX_TAGS, Tags, inherited};

/// The tag that CloudFormation sets on every resource of a stack.
const STACK_TAG: &str = "aws:cloudformation:stack-name";

/// An EBS volume of the old instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinVolume {
    /// The volume's id.
    pub id: String,
    /// The device name that it is attached as.
    pub device: String,
    /// The volume came with the launch: the AMI or the launch request asked for it.
    pub is_from_launch: bool,
    /// EC2 deletes the volume with the instance.
    pub is_deleted_on_termination: bool,
    /// The volume's tags.
    pub tags: Tags,
}

/// Everything that may depend on the old instance and that no swap inspects. A dry run names it.
pub const NOT_LOOKED_AT: [&str; 6] = [
    "DNS records and whatever else names it by its private address or host name",
    "CloudWatch alarms, backup plans and other resources that name it by its id",
    "Classic Load Balancers, Global Accelerator, VPC Lattice, Cloud Map",
    "routes that point at its network interface while its source/destination check is on",
    "what it does by itself: until the old one stops, both run side by side, with the same scheduled jobs, queues and identity",
    "tags of its network interface",
];

/// Returns the tags of the twin's volumes, ours not included.
///
/// EC2 takes one set of tags for all volumes of a launch. The result therefore holds the tags that all of the
/// volumes have.
#[must_use]
pub fn volume_tags(volumes: &[TwinVolume], capture: bool) -> Tags {
    let mut all = repeated(volumes, capture).map(|volume| &volume.tags);
    let Some(first) = all.next() else { return Tags::new() };
    let mut common = first.clone();
    for tags in all {
        common.retain(|key, value| tags.get(key) == Some(value));
    }
    common.retain(|key, _| !key.starts_with("aws:"));
    common
}

/// Returns the volumes that the twin has, too. An image holds all volumes; an AMI holds those of the launch.
fn repeated(volumes: &[TwinVolume], capture: bool) -> impl Iterator<Item = &TwinVolume> {
    volumes.iter().filter(move |volume| capture || volume.is_from_launch)
}

pub(crate) fn tags_of_twin_volumes_fit(volumes: &[TwinVolume], capture: bool) -> Result<(), String> {
    let count = inherited(&volume_tags(volumes, capture), "", None).len();
    if count > MAX_TAGS {
        return Err(format!("a volume would carry {count} tags, ours among them, and EC2 allows {MAX_TAGS}"));
    }
    Ok(())
}

/// Returns everything that the twin of `original` would not have, or would do otherwise, in words.
#[must_use]
pub fn losses(original: &Original, capture: bool, old_instance: OldInstance) -> Vec<String> {
    let mut losses = vec![
        "the new one is a one-time Spot instance: it can't be stopped and started, and a shutdown from within or \
         an interruption terminates it"
            .to_owned(),
        "its private addresses and the host name that follows from them are new, and so is a public address that is \
         no Elastic IP"
            .to_owned(),
    ];
    if let Some(stack) = original.instance.tags.get(STACK_TAG) {
        losses.push(format!(
            "CloudFormation stack {stack} still names the old one, and does not know the new one"
        ));
    }
    losses.extend(lost_volume_tags(&original.volumes, capture));
    if capture && original.has_user_data {
        losses.push("its user data runs again, on disks that hold data already".to_owned());
    }
    if capture && old_instance == OldInstance::Terminate {
        losses.push(
            "what the old one writes to its volumes after the image is made is lost with it".to_owned(),
        );
        let outlive = original.volumes.iter().filter(|volume| !volume.is_deleted_on_termination);
        losses
            .extend(outlive.map(|volume| format!("volume {} outlives the old one, and costs", name(volume))));
    } else if capture {
        losses.push("what the old one writes after the image is made stays on its own volumes".to_owned());
    } else if !original.volumes.is_empty() {
        let volumes: Vec<String> = original.volumes.iter().map(name).collect();
        losses.push(format!(
            "its data stays on its own volumes ({}): the new one starts from the AMI",
            volumes.join(", ")
        ));
    }
    losses.extend(original.left_behind.iter().cloned());
    losses
}

fn name(volume: &TwinVolume) -> String {
    format!("{} at {}", volume.id, volume.device)
}

fn lost_volume_tags(volumes: &[TwinVolume], capture: bool) -> Vec<String> {
    let kept = volume_tags(volumes, capture);
    let lost_of = |volume: &TwinVolume| {
        let lost: Vec<&str> = volume
            .tags
            .keys()
            .filter(|key| !key.starts_with("aws:") && !kept.contains_key(*key))
            .map(String::as_str)
            .collect();
        (!lost.is_empty()).then(|| {
            let (volume, lost) = (name(volume), lost.join(", "));
            format!("the copy of volume {volume} lacks its tags {lost}, which not all of its volumes have")
        })
    };
    repeated(volumes, capture).filter_map(lost_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::lab::tests::original;

    fn volume(device: &str, is_from_launch: bool, tags: &[(&str, &str)]) -> TwinVolume {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        TwinVolume {
            id: format!("vol-{device}"),
            device: device.to_owned(),
            is_from_launch,
            is_deleted_on_termination: is_from_launch,
            tags,
        }
    }

    fn said(original: &Original, capture: bool, old_instance: OldInstance) -> String {
        losses(original, capture, old_instance).join("\n")
    }

    #[test]
    fn the_tags_of_a_single_volume_are_kept() {
        let volumes = [volume("xvda", true, &[("backup", "daily"), ("aws:backup:source-resource", "x")])];
        assert_eq!(volume_tags(&volumes, false), Tags::from([("backup".to_owned(), "daily".to_owned())]));
        assert!(lost_volume_tags(&volumes, true).is_empty());
    }

    #[test]
    fn tags_that_not_all_volumes_have_are_named_as_lost() {
        let root = volume("xvda", true, &[("team", "lab"), ("Name", "root")]);
        let data = volume("sdf", false, &[("team", "lab"), ("Name", "data"), ("backup", "daily")]);
        let volumes = [root, data];
        assert_eq!(volume_tags(&volumes, true), Tags::from([("team".to_owned(), "lab".to_owned())]));
        let lost = lost_volume_tags(&volumes, true).join("\n");
        assert!(lost.contains("vol-sdf at sdf lacks its tags Name, backup"), "{lost}");
        assert!(
            lost_volume_tags(&volumes, false).is_empty(),
            "the data volume stays where it is, with its tags"
        );
    }

    #[test]
    fn a_volume_whose_tags_do_not_fit_is_no_twins() {
        let tags = (0..49).map(|n| (format!("key-{n}"), String::new())).collect();
        let full = [TwinVolume { tags, ..volume("xvda", true, &[]) }];
        assert!(tags_of_twin_volumes_fit(&full, false).unwrap_err().contains("51 tags"));
    }

    #[test]
    fn what_a_one_time_spot_instance_can_not_do_is_always_named() {
        let named = said(&original(&[]), false, OldInstance::Stop);
        assert!(named.contains("can't be stopped") && named.contains("interruption"), "{named}");
        assert!(!named.contains("volumes") && !named.contains("stack"), "{named}");
    }

    #[test]
    fn what_an_image_and_an_end_cost_is_named() {
        let mut web = original(&[("aws:cloudformation:stack-name", "web")]);
        web.has_user_data = true;
        web.volumes = vec![volume("xvda", true, &[])];
        web.left_behind = vec!["a thing".to_owned()];
        let kept = said(&web, false, OldInstance::Stop);
        assert!(kept.contains("vol-xvda at xvda") && kept.contains("stack web") && kept.contains("a thing"));
        assert!(!kept.contains("user data"), "{kept}");
        let captured = said(&web, true, OldInstance::Stop);
        assert!(captured.contains("user data runs again") && captured.contains("stays on its own volumes"));
        let ended = said(&web, true, OldInstance::Terminate);
        assert!(ended.contains("is lost with it") && !ended.contains("outlives"), "{ended}");
        web.volumes.push(volume("sdf", false, &[]));
        let ended = said(&web, true, OldInstance::Terminate);
        assert!(ended.contains("volume vol-sdf at sdf outlives the old one"), "{ended}");
    }
}
