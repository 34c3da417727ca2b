//! A stand-alone instance: stops and starts, its address, images of it.

use jiff::SignedDuration;

use super::{Scene, assert_refused};
use crate::fleet::{AwsHabits, Ec2State, Fleet, ImageState, InstanceSpec};

const ADDRESS: &str = "eipalloc-0a000000000000001";

/// An instance with an address, registered in a target group.
fn lab() -> (Scene, String) {
    lab_of(&InstanceSpec { has_address: true, target_groups: 1, ..InstanceSpec::default() })
}

fn lab_of(spec: &InstanceSpec) -> (Scene, String) {
    let now = "2026-11-26T12:00:00Z".parse().unwrap();
    let fleet = Fleet::with_instance("210987654321", spec, AwsHabits::default(), now);
    let id = fleet.instances().keys().next().unwrap().clone();
    (Scene { fleet, now }, id)
}

fn state(scene: &Scene, id: &str) -> Ec2State {
    scene.fleet.instances()[id].state
}

fn is_healthy(scene: &Scene, id: &str) -> bool {
    let arns: Vec<String> = scene.fleet.target_groups().keys().cloned().collect();
    scene.fleet.is_healthy_in(&arns, id)
}

#[test]
fn an_instance_stops_and_starts_in_its_time_and_keeps_its_address() {
    let (mut scene, id) = lab();
    let of_it = [("InstanceId.1", id.as_str())];
    assert!(is_healthy(&scene, &id));
    for _ in 0..2 {
        assert_eq!(scene.ec2("StopInstances", &of_it).status, 200);
        assert_eq!((state(&scene, &id), is_healthy(&scene, &id)), (Ec2State::Stopping, false));
    }
    assert_refused(&scene.ec2("StartInstances", &of_it), "IncorrectInstanceState", "can be started");
    scene.wait(40);
    assert_eq!(state(&scene, &id), Ec2State::Stopped);
    assert_eq!(scene.ec2("StartInstances", &of_it).status, 200);
    assert_refused(&scene.ec2("StopInstances", &of_it), "IncorrectInstanceState", "can be stopped");
    scene.wait(20);
    assert_eq!((state(&scene, &id), is_healthy(&scene, &id)), (Ec2State::Running, false));
    assert!(!scene.fleet.passes_checks(&id, scene.now));
    scene.wait(120);
    assert!(is_healthy(&scene, &id) && scene.fleet.passes_checks(&id, scene.now));
    assert_eq!(scene.fleet.address_holder(ADDRESS), Some(id.as_str()));
}

#[test]
fn a_terminated_instance_has_no_address() {
    let (mut scene, id) = lab();
    assert_eq!(scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]).status, 200);
    assert_eq!(scene.fleet.address_holder(ADDRESS), Some(id.as_str()));
    let to_it = [("AllocationId", ADDRESS), ("InstanceId", &id), ("AllowReassociation", "true")];
    assert_refused(&scene.ec2("AssociateAddress", &to_it), "InvalidInstanceID", "shutting-down");
    scene.wait(40);
    assert_eq!(scene.fleet.address_holder(ADDRESS), None);
    let told = scene.ec2("DescribeAddresses", &[("AllocationId.1", ADDRESS)]).body;
    assert!(told.contains("198.51.100.7") && !told.contains("associationId"), "{told}");
    let other = scene.ec2("DescribeAddresses", &[("AllocationId.1", "eipalloc-1")]);
    assert_refused(&other, "InvalidAllocationID.NotFound", "eipalloc-1");
}

#[test]
fn an_address_moves_only_if_the_call_allows_it() {
    let (mut scene, id) = lab();
    let launch = [
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("InstanceType", "m5.large"),
        ("ImageId", "ami-1"),
        ("SubnetId", "subnet-0a000001"),
    ];
    assert_eq!(scene.ec2("RunInstances", &launch).status, 200);
    scene.wait(20);
    let other = scene.fleet.instances().keys().find(|other| **other != id).unwrap().clone();
    let to_other = [("AllocationId", ADDRESS), ("InstanceId", &other)];
    assert_refused(&scene.ec2("AssociateAddress", &to_other), "Resource.AlreadyAssociated", ADDRESS);
    let allowed = [&to_other[..], &[("AllowReassociation", "true")]].concat();
    for _ in 0..2 {
        assert_eq!(scene.ec2("AssociateAddress", &allowed).status, 200);
        assert_eq!(scene.fleet.address_holder(ADDRESS), Some(other.as_str()));
    }
}

#[test]
fn an_image_is_pending_then_available_and_its_snapshot_outlives_it() {
    let (mut scene, id) = lab();
    let image = [("InstanceId", id.as_str()), ("Name", "disks"), ("NoReboot", "true")];
    assert_eq!(scene.ec2("CreateImage", &image).status, 200);
    assert_refused(&scene.ec2("CreateImage", &image), "InvalidAMIName.Duplicate", "disks");
    let own = scene.fleet.own_images().images.values().next().unwrap().clone();
    let describe = [("Owner.1", "self"), ("Filter.1.Name", "name"), ("Filter.1.Value.1", "disks")];
    let told = scene.ec2("DescribeImages", &describe).body;
    assert!(told.contains("pending") && !told.contains(&own.snapshot_id), "{told}");
    let launch =
        [("ImageId", own.id.as_str()), ("InstanceType", "m5.large"), ("SubnetId", "subnet-0a000001")];
    let launch = [&launch[..], &[("MinCount", "1"), ("MaxCount", "1")]].concat();
    assert_refused(&scene.ec2("RunInstances", &launch), "InvalidAMIID.Unavailable", &own.id);
    scene.wait(180);
    let told = scene.ec2("DescribeImages", &describe).body;
    assert!(told.contains("available") && told.contains(&own.snapshot_id), "{told}");
    let delete = [("SnapshotId", own.snapshot_id.as_str())];
    assert_refused(&scene.ec2("DeleteSnapshot", &delete), "InvalidSnapshot.InUse", &own.id);
    assert_eq!(scene.ec2("DeregisterImage", &[("ImageId", &own.id)]).status, 200);
    let again = scene.ec2("DeregisterImage", &[("ImageId", &own.id)]);
    assert_refused(&again, "InvalidAMIID.Unavailable", &own.id);
    assert_eq!(scene.ec2("DeleteSnapshot", &delete).status, 200);
    assert_refused(&scene.ec2("DeleteSnapshot", &delete), "InvalidSnapshot.NotFound", &own.snapshot_id);
}

/// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html>
#[test]
fn a_snapshot_that_is_deleted_in_progress_goes_once_it_is_complete() {
    let (mut scene, id) = lab();
    let image = [("InstanceId", id.as_str()), ("Name", "disks"), ("NoReboot", "true")];
    assert_eq!(scene.ec2("CreateImage", &image).status, 200);
    let own = scene.fleet.own_images().images.values().next().unwrap().clone();
    assert_eq!(scene.ec2("DeregisterImage", &[("ImageId", &own.id)]).status, 200);
    for _ in 0..2 {
        assert_eq!(scene.ec2("DeleteSnapshot", &[("SnapshotId", &own.snapshot_id)]).status, 200);
    }
    scene.wait(179);
    assert_eq!(scene.fleet.own_images().snapshots.len(), 1);
    scene.wait(1);
    assert!(scene.fleet.own_images().snapshots.is_empty());
}

#[test]
fn a_pending_image_and_a_snapshot_of_late_may_be_refused() {
    let (mut scene, id) = lab();
    scene.fleet.habits.pending_image_deregisters = false;
    scene.fleet.habits.snapshot_in_use_after = SignedDuration::from_secs(60);
    let image = [("InstanceId", id.as_str()), ("Name", "disks"), ("NoReboot", "true")];
    assert_eq!(scene.ec2("CreateImage", &image).status, 200);
    let own = scene.fleet.own_images().images.values().next().unwrap().clone();
    let deregister = [("ImageId", own.id.as_str())];
    assert_refused(&scene.ec2("DeregisterImage", &deregister), "InvalidAMIID.Unavailable", &own.id);
    scene.wait(180);
    assert_eq!(scene.ec2("DeregisterImage", &deregister).status, 200);
    let delete = [("SnapshotId", own.snapshot_id.as_str())];
    scene.wait(59);
    assert_refused(&scene.ec2("DeleteSnapshot", &delete), "InvalidSnapshot.InUse", &own.id);
    scene.wait(1);
    assert_eq!(scene.ec2("DeleteSnapshot", &delete).status, 200);
}

#[test]
fn an_image_that_fails_says_why_launches_nothing_and_can_be_deregistered() {
    let (mut scene, id) = lab();
    scene.fleet.habits.images_fail = true;
    let image = [("InstanceId", id.as_str()), ("Name", "disks"), ("NoReboot", "true")];
    assert_eq!(scene.ec2("CreateImage", &image).status, 200);
    scene.wait(180);
    let own = scene.fleet.own_images().images.values().next().unwrap().clone();
    assert_eq!(own.state, ImageState::Failed);
    let describe = [("Owner.1", "self"), ("Filter.1.Name", "name"), ("Filter.1.Value.1", "disks")];
    let told = scene.ec2("DescribeImages", &describe).body;
    assert!(told.contains("<imageState>failed") && told.contains("<stateReason>"), "{told}");
    let launch = [
        ("ImageId", own.id.as_str()),
        ("InstanceType", "m5.large"),
        ("SubnetId", "subnet-0a000001"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    assert_refused(&scene.ec2("RunInstances", &launch), "InvalidAMIID.Unavailable", &own.id);
    assert_eq!(scene.ec2("DeregisterImage", &[("ImageId", &own.id)]).status, 200);
    assert_eq!(scene.ec2("DeleteSnapshot", &[("SnapshotId", &own.snapshot_id)]).status, 200);
}

#[test]
fn a_volume_outlives_its_instance_if_the_image_says_so() {
    let (mut scene, id) = lab_of(&InstanceSpec { volume_outlives: true, ..InstanceSpec::default() });
    let volume = format!("vol-{}", id.trim_start_matches("i-"));
    let describe = [("Filter.1.Name", "volume-id"), ("Filter.1.Value.1", volume.as_str())];
    let delete = [("VolumeId", volume.as_str())];
    assert!(scene.ec2("DescribeVolumes", &describe).body.contains("<deleteOnTermination>false"));
    assert_refused(&scene.ec2("DeleteVolume", &delete), "VolumeInUse", &id);
    assert!(scene.fleet.free_volumes().is_empty());
    scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    scene.wait(40);
    let told = scene.ec2("DescribeVolumes", &describe).body;
    assert!(told.contains("<status>available") && !told.contains(&id), "{told}");
    assert_eq!(scene.ec2("DeleteVolume", &delete).status, 200);
    assert_refused(&scene.ec2("DeleteVolume", &delete), "InvalidVolume.NotFound", &volume);
}

#[test]
fn a_volume_is_described_until_its_instance_is_terminated() {
    let (mut scene, id) = lab();
    let volume = format!("vol-{}", id.trim_start_matches("i-"));
    let describe = [("Filter.1.Name", "volume-id"), ("Filter.1.Value.1", volume.as_str())];
    assert!(scene.ec2("DescribeVolumes", &describe).body.contains(&id));
    let tagged = [("Filter.1.Name", "tag:swap"), ("Filter.1.Value.1", "x")];
    assert!(!scene.ec2("DescribeVolumes", &tagged).body.contains(&volume));
    scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    scene.now += SignedDuration::from_secs(40);
    assert!(!scene.ec2("DescribeVolumes", &describe).body.contains(&volume));
}
