//! RunInstances: its ClientToken, its refusals, template and request taken together.

use super::*;
use crate::fleet::PoolRefusal;

fn launched(scene: &Scene) -> usize {
    scene.fleet.instances().len()
}

#[test]
fn a_repeated_token_launches_nothing_more() {
    let mut scene = Scene::of(&of_size(0));
    let first = one(&scene.run_spot("a", &[]), "instanceId");
    scene.wait(60);
    let again = scene.run_spot("a", &[]);
    assert_eq!((one(&again, "instanceId"), one(&again, "name")), (first.clone(), "running".to_owned()));
    let other = scene.run_spot("b", &[]);
    assert_ne!(one(&other, "instanceId"), first);
    assert_eq!(launched(&scene), 2);
}

#[test]
fn a_token_with_other_parameters_is_a_mismatch() {
    let mut scene = Scene::of(&of_size(0));
    assert_done(&scene.run_spot("a", &[]));
    let answer = scene.run_spot("a", &[("InstanceType", "c5.large")]);
    assert_refused(&answer, "IdempotentParameterMismatch", "inconsistent");
    assert_eq!(launched(&scene), 1);
}

#[test]
fn a_token_whose_instance_has_ended_is_refused() {
    let mut scene = Scene::of(&of_size(0));
    let id = one(&scene.run_spot("a", &[]), "instanceId");
    assert_done(&scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]));
    assert_done(&scene.run_spot("a", &[]));
    for seconds in [60, 7_200] {
        scene.wait(seconds);
        let answer = scene.run_spot("a", &[]);
        assert_refused(&answer, "IdempotentInstanceTerminated", "has been terminated");
    }
}

#[test]
fn a_token_stands_for_one_launch_in_each_zone() {
    let mut scene = Scene::of(&of_size(0));
    let first = one(&scene.run_spot("a", &[]), "instanceId");
    let second = one(&scene.run_spot("a", &[("SubnetId", "subnet-0a000002")]), "instanceId");
    assert_ne!(first, second);
    assert_eq!(launched(&scene), 2);
}

#[test]
fn every_launch_without_a_token_is_one_of_its_own() {
    let mut scene = Scene::of(&of_size(0));
    let ids = [(); 2].map(|()| one(&scene.run_spot("", &[]), "instanceId"));
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_template_without_version_is_launched_in_its_default_version() {
    let mut scene = Scene::of(&of_size(0));
    let template = scene.fleet.catalog_mut().templates.values_mut().next().unwrap();
    let newer =
        crate::fleet::TemplateVersion { image_id: "ami-new".to_owned(), ..template.versions[&1].clone() };
    template.versions.insert(2, newer);
    let id = template.id.clone();
    for (version, image) in [(None, "ami-0a000001"), (Some("$Latest"), "ami-new")] {
        let version = version.map(|version| ("LaunchTemplate.Version", version));
        let parameters = [
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("LaunchTemplate.LaunchTemplateId", id.as_str()),
            ("SubnetId", "subnet-0a000001"),
        ];
        let parameters: Vec<_> = parameters.into_iter().chain(version).collect();
        assert_eq!(one(&scene.ec2("RunInstances", &parameters), "imageId"), image);
    }
}

#[test]
fn a_refused_launch_uses_up_no_token() {
    let mut scene = Scene::of(&of_size(0));
    scene.fleet.refuse_launches(PoolRefusal::insufficient_capacity("m5.large", "us-east-1a"));
    let answer = scene.run_spot("a", &[]);
    assert_eq!((answer.status, one(&answer, "Code").as_str()), (500, "InsufficientInstanceCapacity"));
    assert_done(&scene.run_spot("c", &[("InstanceType", "c5.large")]));
    assert_done(&scene.run_spot("d", &[("SubnetId", "subnet-0a000002")]));
    scene.fleet.accept_launches();
    assert_done(&scene.run_spot("a", &[]));
    assert_eq!(launched(&scene), 3);
}

#[test]
fn a_spot_quota_stops_spot_alone() {
    let mut scene = Scene::of(&of_size(0));
    scene.fleet.refuse_launches(PoolRefusal::spot_quota());
    assert_refused(&scene.run_spot("a", &[]), "MaxSpotInstanceCountExceeded", "exceeded");
    let answer = scene.run_spot("b", &[("InstanceMarketOptions.MarketType", "")]);
    assert_done(&answer);
    assert!(texts(&answer, "instanceLifecycle").is_empty());
}

#[test]
fn what_ec2_can_not_launch_is_refused() {
    let mut scene = Scene::of(&of_size(0));
    let tags: Vec<(String, String)> = (1..=51)
        .flat_map(|n| {
            let prefix = format!("TagSpecification.1.Tag.{n}");
            [(format!("{prefix}.Key"), format!("k{n}")), (format!("{prefix}.Value"), String::new())]
        })
        .chain([("TagSpecification.1.ResourceType".to_owned(), "instance".to_owned())])
        .collect();
    let tags: Vec<_> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for (parameters, code) in [
        (vec![("InstanceType", "x9.large")], "InvalidParameterValue"),
        (vec![("SubnetId", "subnet-none")], "InvalidSubnetID.NotFound"),
        (vec![("LaunchTemplate.LaunchTemplateId", "lt-none")], "InvalidLaunchTemplateId.NotFound"),
        (vec![("InstanceMarketOptions.SpotOptions.MaxPrice", "0.0335")], "SpotMaxPriceTooLow"),
        (vec![("InstanceMarketOptions.SpotOptions.MaxPrice", "0.0009")], "InvalidParameterValue"),
        (vec![("DisableApiTermination", "true")], "InvalidParameterCombination"),
        (vec![("MaxCount", "2")], "NotPlayedByTheWorld"),
        (vec![("PrivateIpAddress", "10.0.0.4")], "NotPlayedByTheWorld"),
        (vec![("DryRun", "true")], "DryRunOperation"),
        (tags, "TagLimitExceeded"),
    ] {
        let answer = scene.run_spot("a", &parameters);
        assert_eq!(one(&answer, "Code"), code, "{parameters:?}");
    }
    scene.fleet.catalog_mut().zones[0].has_free_addresses = false;
    assert_refused(&scene.run_spot("a", &[]), "InsufficientFreeAddressesInSubnet", "subnet-0a000001");
    assert_eq!(launched(&scene), 0);
    let enough = [("InstanceMarketOptions.SpotOptions.MaxPrice", "0.0336"), ("SubnetId", "subnet-0a000002")];
    assert_done(&scene.run_spot("a", &enough));
}

#[test]
fn a_request_goes_before_its_template() {
    let mut scene = Scene::of(&of_size(0));
    let template = scene.fleet.catalog_mut().templates.values_mut().next().unwrap();
    let version = template.versions.get_mut(&1).unwrap();
    version.tags = [("team", "web"), ("from", "template")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    version.disable_api_termination = true;
    let id = template.id.clone();
    let answer = scene.ec2(
        "RunInstances",
        &[
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("LaunchTemplate.LaunchTemplateId", &id),
            ("LaunchTemplate.Version", "1"),
            ("InstanceType", "c5.large"),
            ("SubnetId", "subnet-0a000003"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "from"),
            ("TagSpecification.1.Tag.1.Value", "request"),
        ],
    );
    let instance = &scene.fleet.instances()[&one(&answer, "instanceId")];
    assert_eq!((instance.instance_type.as_str(), instance.zone.as_str()), ("c5.large", "us-east-1c"));
    assert_eq!((instance.tags["team"].as_str(), instance.tags["from"].as_str()), ("web", "request"));
    assert!(instance.disable_api_termination && !instance.is_spot());
    assert_eq!(instance.image_id, "ami-0a000001");
}
