//! Instances: descriptions, states, tags, ends.

use super::*;
use crate::fleet::Ec2State;

fn described(scene: &mut Scene, filters: &[(&str, &str)]) -> Vec<String> {
    let mut parameters = Vec::new();
    for (n, (name, value)) in filters.iter().enumerate() {
        parameters.push((format!("Filter.{}.Name", n + 1), (*name).to_owned()));
        parameters.push((format!("Filter.{}.Value.1", n + 1), (*value).to_owned()));
    }
    let parameters: Vec<_> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let answer = scene.ec2("DescribeInstances", &parameters);
    assert_done(&answer);
    texts(&answer, "instanceId")
}

#[test]
fn an_instance_boots_passes_its_checks_ends_and_is_forgotten() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = one(&scene.run_spot("a", &[]), "instanceId");
    let state = |scene: &Scene| scene.fleet.instances().get(&id).map(|instance| instance.state);
    let status = |scene: &mut Scene| {
        let answer = scene.ec2("DescribeInstanceStatus", &[("InstanceId.1", &id)]);
        texts(&answer, "status")
    };
    assert_eq!((state(&scene), status(&mut scene)), (Some(Ec2State::Pending), vec![]));
    scene.wait(20);
    assert_eq!(
        (state(&scene), status(&mut scene).join(" ")),
        (Some(Ec2State::Running), "initializing initializing".into())
    );
    scene.wait(100);
    assert_eq!(status(&mut scene), ["ok", "ok"]);
    let all = scene.ec2("DescribeInstanceStatus", &[]);
    assert_eq!(texts(&all, "instanceId").len(), 2, "every running instance");
    scene.fleet.status_checks_fail(&id);
    assert_eq!(status(&mut scene), ["impaired", "impaired"]);
    let answer = scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_eq!(texts(&answer, "name"), ["running", "shutting-down"]);
    assert!(status(&mut scene).is_empty());
    let volumes =
        |scene: &mut Scene| texts(&scene.ec2("DescribeInstances", &[("InstanceId.1", &id)]), "volumeId");
    assert_eq!(volumes(&mut scene).len(), 1);
    scene.wait(40);
    assert_eq!(state(&scene), Some(Ec2State::Terminated));
    assert!(volumes(&mut scene).is_empty());
    scene.wait(3_599);
    assert_eq!(described(&mut scene, &[("instance-id", &id)]), [id.as_str()]);
    scene.wait(1);
    assert!(described(&mut scene, &[("instance-id", &id)]).is_empty());
    let answer = scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_refused(&answer, "InvalidInstanceID.NotFound", &id);
}

#[test]
fn filters_find_what_matches_all_of_them() {
    let mut scene = Scene::of(&of_size(2));
    let newcomer = scene.newcomer("i-0123456789abcdef0-1-0");
    let member = scene.member(1);
    scene.fleet.tag_instance(&member, "team", Some("web"));
    assert_eq!(described(&mut scene, &[]).len(), 3);
    for (filters, expected) in [
        (vec![("client-token", "i-0123456789abcdef0-1-*")], vec![&newcomer]),
        (vec![("client-token", "i-0123456789abcdef0-2-*")], vec![]),
        (vec![("tag:team", "web")], vec![&member]),
        (vec![("tag:team", "db")], vec![]),
        (vec![("tag-key", "team"), ("instance-state-name", "running")], vec![&member]),
        (vec![("tag-key", "team"), ("instance-state-name", "terminated")], vec![]),
        (vec![("instance-lifecycle", "spot")], vec![&newcomer]),
    ] {
        assert_eq!(described(&mut scene, &filters).iter().collect::<Vec<_>>(), expected, "{filters:?}");
    }
    let answer = scene.ec2("DescribeInstances", &[("Filter.1.Name", "colour"), ("Filter.1.Value.1", "red")]);
    assert_refused(&answer, "InvalidParameterValue", "'colour'");
}

#[test]
fn the_filter_client_token_may_take_no_wildcard() {
    let habits = AwsHabits { client_token_takes_wildcards: false, ..AwsHabits::default() };
    let mut scene = Scene::with(&GroupSpec::default(), habits);
    let newcomer = scene.newcomer("swap-0");
    assert!(described(&mut scene, &[("client-token", "swap-*")]).is_empty());
    assert_eq!(described(&mut scene, &[("client-token", "swap-0")]), [newcomer]);
}

#[test]
fn a_launched_instance_may_show_later() {
    let visible_after = SignedDuration::from_secs(5);
    let mut scene = Scene::with(&of_size(0), AwsHabits { visible_after, ..AwsHabits::default() });
    let id = one(&scene.run_spot("a", &[]), "instanceId");
    scene.wait(4);
    assert!(described(&mut scene, &[("client-token", "a")]).is_empty());
    let answer = scene.ec2("DescribeInstances", &[("InstanceId.1", &id)]);
    assert_refused(&answer, "InvalidInstanceID.NotFound", &id);
    scene.wait(1);
    assert_eq!(described(&mut scene, &[("client-token", "a")]), [id]);
}

#[test]
fn every_instance_is_on_one_page_and_only_one() {
    for (most, habit) in [("2", None), ("1000", Some(2))] {
        let mut scene = Scene::with(&of_size(5), AwsHabits { page_size: habit, ..AwsHabits::default() });
        let (mut seen, mut token, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let next = token.iter().map(|token| ("NextToken", token.as_str()));
            let parameters: Vec<_> = [("MaxResults", most)].into_iter().chain(next).collect();
            let answer = scene.ec2("DescribeInstances", &parameters);
            seen.extend(texts(&answer, "instanceId"));
            pages += 1;
            token = texts(&answer, "nextToken").into_iter().next();
            if token.is_none() {
                break;
            }
        }
        assert_eq!((seen, pages), (scene.fleet.instances().keys().cloned().collect(), 3));
        let answer = scene.ec2("DescribeInstances", &[("NextToken", "mine")]);
        assert_refused(&answer, "InvalidNextToken", "mine");
    }
}

#[test]
fn a_protected_instance_is_not_terminated_and_a_dead_one_is_again() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    let attribute = [("InstanceId", id.as_str()), ("Attribute", "disableApiTermination")];
    assert_eq!(one(&scene.ec2("DescribeInstanceAttribute", &attribute), "value"), "false");
    scene.fleet.protect_from_termination(&id, true);
    assert_eq!(one(&scene.ec2("DescribeInstanceAttribute", &attribute), "value"), "true");
    let answer = scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_refused(&answer, "OperationNotPermitted", "disableApiTermination");
    scene.fleet.protect_from_termination(&id, false);
    scene.fleet.instances.get_mut(&id).unwrap().disable_api_stop = true;
    let answer = scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_refused(&answer, "OperationNotPermitted", "disableApiStop");
    scene.fleet.instances.get_mut(&id).unwrap().disable_api_stop = false;
    for states in [["running", "shutting-down"], ["shutting-down", "shutting-down"]] {
        assert_eq!(texts(&scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]), "name"), states);
    }
}

#[test]
fn tags_are_set_and_removed_within_limits() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    let tag = |key: &'static str| {
        [("ResourceId.1", id.clone()), ("Tag.1.Key", key.to_owned()), ("Tag.1.Value", "x".to_owned())]
    };
    let make = |scene: &mut Scene, action, key| {
        let parameters = tag(key);
        let parameters: Vec<_> = parameters.iter().map(|(k, v)| (*k, v.as_str())).collect();
        scene.ec2(action, &parameters)
    };
    assert_done(&make(&mut scene, "CreateTags", "team"));
    assert_eq!(scene.fleet.instances()[&id].tags["team"], "x");
    assert_done(&make(&mut scene, "DeleteTags", "team"));
    assert!(!scene.fleet.instances()[&id].tags.contains_key("team"));
    assert_refused(&make(&mut scene, "CreateTags", "aws:x"), "InvalidParameterValue", "reserved");
    for n in 0..50 {
        scene.fleet.tag_instance(&id, &format!("k{n}"), Some("x"));
    }
    assert_refused(&make(&mut scene, "CreateTags", "one more"), "TagLimitExceeded", "maximum");
    assert_done(&make(&mut scene, "CreateTags", "k1"));
}

#[test]
fn a_spot_request_tells_of_its_instance_from_launch_to_interruption_and_after() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.newcomer("a");
    let told = |scene: &mut Scene| {
        let parameters = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", id.as_str())];
        let answer = scene.ec2("DescribeSpotInstanceRequests", &parameters);
        [texts(&answer, "state"), texts(&answer, "code")].concat()
    };
    assert_eq!(told(&mut scene), ["active", "fulfilled"]);
    let end = scene.now + SignedDuration::from_secs(120);
    assert!(scene.fleet.interrupt(&id, end));
    assert_eq!(told(&mut scene), ["active", "marked-for-termination"]);
    scene.wait(120);
    assert_eq!(told(&mut scene), ["closed", "instance-terminated-no-capacity"]);
    let reason = scene.fleet.instances()[&id].state_reason.clone().unwrap();
    assert_eq!(reason.0, "Server.SpotInstanceTermination");
    scene.wait(3 * 3_600);
    assert!(!scene.fleet.instances().contains_key(&id));
    assert_eq!(told(&mut scene), ["closed", "instance-terminated-no-capacity"]);
    scene.wait(3_700);
    assert!(told(&mut scene).is_empty());
    let member = scene.member(0);
    assert!(!scene.fleet.interrupt(&member, end), "it is On-Demand");
}

#[test]
fn what_seldom_changes_is_described() {
    let mut scene = Scene::of(&GroupSpec::default());
    let zones = scene.ec2("DescribeAvailabilityZones", &[]);
    assert_eq!(texts(&zones, "zoneId"), ["use1-az1", "use1-az2", "use1-az3"]);
    let subnet = [("Filter.1.Name", "subnet-id"), ("Filter.1.Value.1", "subnet-0a000002")];
    assert_eq!(texts(&scene.ec2("DescribeSubnets", &subnet), "availabilityZone"), ["us-east-1b"]);
    let prices = [("InstanceType.1", "m5.large"), ("ProductDescription.1", "Linux/UNIX")];
    assert_eq!(texts(&scene.ec2("DescribeSpotPriceHistory", &prices), "spotPrice"), ["0.033600"; 3]);
    let in_zone = [("InstanceType.1", "m5.large"), ("AvailabilityZone", "us-east-1b")];
    assert_eq!(texts(&scene.ec2("DescribeSpotPriceHistory", &in_zone), "availabilityZone"), ["us-east-1b"]);
    let windows = [("InstanceType.1", "m5.large"), ("ProductDescription.1", "Windows")];
    assert!(texts(&scene.ec2("DescribeSpotPriceHistory", &windows), "spotPrice").is_empty());
    let image = [("Filter.1.Name", "image-id"), ("Filter.1.Value.1", "ami-0a000001")];
    assert_eq!(texts(&scene.ec2("DescribeImages", &image), "deviceName"), ["/dev/xvda"]);
}

#[test]
fn a_template_version_is_found_by_number_and_by_alias() {
    let mut scene = Scene::of(&GroupSpec::default());
    let template = scene.fleet.catalog_mut().templates.values_mut().next().unwrap();
    let second = crate::fleet::TemplateVersion { is_spot: true, ..template.versions[&1].clone() };
    template.versions.insert(2, second);
    let id = template.id.clone();
    let mut version = |by: (&str, &str), version: &str| {
        scene.ec2("DescribeLaunchTemplateVersions", &[by, ("LaunchTemplateVersion.1", version)])
    };
    for (asked, number) in [("$Default", "1"), ("$Latest", "2"), ("1", "1")] {
        assert_eq!(one(&version(("LaunchTemplateId", &id), asked), "versionNumber"), number);
        assert_eq!(one(&version(("LaunchTemplateName", "web"), asked), "versionNumber"), number);
    }
    assert_eq!(texts(&version(("LaunchTemplateId", &id), "2"), "marketType"), ["spot"]);
    assert!(texts(&version(("LaunchTemplateId", &id), "1"), "marketType").is_empty());
    let answer = version(("LaunchTemplateId", &id), "3");
    assert_refused(&answer, "InvalidLaunchTemplateId.VersionNotFound", "3");
    let answer = version(("LaunchTemplateId", "lt-0"), "1");
    assert_refused(&answer, "InvalidLaunchTemplateId.NotFound", "lt-0");
    let answer = version(("LaunchTemplateName", "none"), "1");
    assert_refused(&answer, "InvalidLaunchTemplateName.NotFoundException", "none");
}

#[test]
fn the_price_list_has_the_types_that_there_are() {
    let scene = Scene::of(&GroupSpec::default());
    let products = |kind: &str| {
        let filters = serde_json::json!({"Filters": [
            {"Field": "instanceType", "Value": kind}, {"Field": "operation", "Value": "RunInstances"}]});
        let call = ApiCall { body: CallBody::Json(filters), ..call(Service::Pricing, "GetProducts", &[]) };
        scene.fleet.read(&call, scene.now).unwrap().body
    };
    assert!(products("m5.large").contains("0.096000"));
    assert!(products("x1.large").contains("\"PriceList\":[]"));
}
