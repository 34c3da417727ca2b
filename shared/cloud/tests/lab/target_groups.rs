//! The target groups of an instance.

use super::*;

fn health(target: &str, port: u16, state: &str, reason: &str) -> String {
    format!(
        "<member><Target><Id>{target}</Id><Port>{port}</Port></Target><TargetHealth><State>{state}</State>\
         <Reason>{reason}</Reason></TargetHealth></member>"
    )
}

fn healths(members: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions>{members}\
         </TargetHealthDescriptions></DescribeTargetHealthResult></DescribeTargetHealthResponse>"
    ))
}

/// Returns target groups by name, type and VPC, each with port 80, which answers `targets` of its name.
async fn load_balancing(
    groups: &'static [(&'static str, &'static str, &'static str)],
    targets: fn(&str) -> String,
) -> Endpoint {
    Endpoint::answering(move |action, body| {
        if action == "DescribeTargetGroups" {
            let is_asked_for = |(name, ..): &&(&str, &str, &str)| {
                !body.contains("TargetGroupArns") || body.ends_with(&format!("={name}"))
            };
            let group = |(name, kind, vpc): &(&str, &str, &str)| {
                format!(
                    "<member><TargetGroupArn>{name}</TargetGroupArn><TargetGroupName>{name}</TargetGroupName>\
                     <TargetType>{kind}</TargetType><VpcId>{vpc}</VpcId><Port>80</Port></member>"
                )
            };
            let groups: String = groups.iter().filter(is_asked_for).map(group).collect();
            return ScriptedAnswer::ok(format!(
                "<DescribeTargetGroupsResponse><DescribeTargetGroupsResult><TargetGroups>{groups}</TargetGroups>\
                 </DescribeTargetGroupsResult></DescribeTargetGroupsResponse>"
            ));
        }
        let asked = groups.iter().find(|(name, ..)| body.contains(&format!("TargetGroupArn={name}")));
        healths(&targets(asked.unwrap().0))
    })
    .await
}

async fn found_in(elb: &Endpoint, nic: &'static str) -> targets::Registrations {
    let instance = examined(nic, false).await.instance;
    targets::of(&clients(elb).await.elbv2, &instance).await.unwrap()
}

#[tokio::test]
async fn target_groups_are_found_by_id_with_each_port_and_by_address() {
    let groups = &[("web", "instance", "vpc-1"), ("by-ip", "ip", "vpc-1"), ("function", "lambda", "")];
    let elb = load_balancing(groups, |group| match group {
        "by-ip" => health("10.0.0.7", 80, "healthy", ""),
        _ => [
            health("i-0123456789abcdef0", 80, "healthy", ""),
            health("i-0123456789abcdef0", 8080, "unhealthy", "Target.Timeout"),
            health("i-0123456789abcdef2", 80, "healthy", ""),
        ]
        .concat(),
    })
    .await;
    let found = found_in(&elb, NIC).await;
    let ports: Vec<_> = found.registrations.iter().map(|r| (r.target_group_arn.as_str(), r.port)).collect();
    assert_eq!(ports, [("web", Some(80)), ("web", Some(8080))]);
    assert_eq!(found.unhealthy_in.as_deref(), Some("web"));
    assert_eq!(found.by_address_in.as_deref(), Some("by-ip"));
    assert!(elb.requests().iter().all(|request| !request.contains("TargetGroupArn=function")));
}

#[tokio::test]
async fn a_target_group_of_another_vpc_has_it_by_its_address() {
    let elb = load_balancing(&[("peered", "ip", "vpc-2")], |_| {
        health("10.0.0.7", 80, "healthy", "")
            .replace("<Port>", "<AvailabilityZone>all</AvailabilityZone><Port>")
    })
    .await;
    assert_eq!(found_in(&elb, NIC).await.by_address_in.as_deref(), Some("peered"));
    // The other VPC has the same addresses, and this target is of a zone of that VPC.
    let elb = load_balancing(&[("stranger", "ip", "vpc-2")], |_| {
        health("10.0.0.7", 80, "healthy", "")
            .replace("<Port>", "<AvailabilityZone>us-east-1b</AvailabilityZone><Port>")
    })
    .await;
    assert_eq!(found_in(&elb, NIC).await.by_address_in, None);
}

#[tokio::test]
async fn a_target_group_has_it_by_its_ipv6_address_however_that_is_written() {
    let elb =
        load_balancing(&[("six", "ip", "vpc-1")], |_| health("2001:DB8:0:0::7", 80, "healthy", "")).await;
    let nic = "<networkInterfaceSet><item><interfaceType>interface</interfaceType><ipv6AddressesSet><item>\
               <ipv6Address>2001:db8::7</ipv6Address></item></ipv6AddressesSet></item></networkInterfaceSet>";
    assert_eq!(found_in(&elb, nic).await.by_address_in.as_deref(), Some("six"));
}

#[tokio::test]
async fn every_state_of_a_target_has_its_meaning() {
    let cases = [
        ("healthy", "", TargetState::Healthy),
        ("unused", "Target.NotInUse", TargetState::Healthy),
        ("unused", "Target.NotRegistered", TargetState::Absent),
        ("unused", "Target.InvalidState", TargetState::Unhealthy),
        ("initial", "Elb.RegistrationInProgress", TargetState::Checking),
        ("draining", "Target.DeregistrationInProgress", TargetState::Draining),
        ("unavailable", "Elb.InternalError", TargetState::Unhealthy),
    ];
    let web = Registration { target_group_arn: "web".into(), port: Some(80) };
    for (state, reason, expected) in cases {
        let elb = Endpoint::start(vec![healths(&health("i-0123456789abcdef0", 80, state, reason))]).await;
        let seen = targets::state(&clients(&elb).await.elbv2, &web, &id()).await.unwrap();
        assert_eq!(seen, expected, "{state} {reason}");
    }
}

#[tokio::test]
async fn target_groups_of_others_drain_an_instance_or_still_send_it_requests() {
    let elb = Endpoint::answering(|action, body| match action {
        "DescribeTargetGroups" => {
            let names = ["own", "drains", "serves", "unused", "of-another"];
            let group = |name| {
                format!("<member><TargetGroupArn>{name}</TargetGroupArn><VpcId>vpc-1</VpcId></member>")
            };
            ScriptedAnswer::ok(format!(
                "<DescribeTargetGroupsResponse><DescribeTargetGroupsResult><TargetGroups>{}</TargetGroups>\
                 </DescribeTargetGroupsResult></DescribeTargetGroupsResponse>",
                names.map(group).concat()
            ))
        }
        // By one node port, the instance is drained already; by the other, it is being drained.
        _ if body.contains("TargetGroupArn=drains") => healths(
            &[
                health("i-0123456789abcdef0", 30_080, "draining", "Target.DeregistrationInProgress"),
                health("i-0123456789abcdef0", 30_443, "healthy", ""),
            ]
            .concat(),
        ),
        _ if body.contains("TargetGroupArn=serves") => {
            healths(&health("i-0123456789abcdef0", 30_080, "unhealthy", ""))
        }
        _ if body.contains("TargetGroupArn=unused") => {
            healths(&health("i-0123456789abcdef0", 80, "unused", "Target.NotInUse"))
        }
        _ => healths(&health("i-0123456789abcdef2", 80, "draining", "")),
    })
    .await;
    let client = clients(&elb).await.elbv2;
    let found = targets::elsewhere(&client, "vpc-1", &id(), &["own".to_owned()]).await.unwrap();
    assert_eq!((found.draining, found.serving), (vec!["drains".to_owned()], vec!["serves".to_owned()]));
    assert!(elb.requests().iter().all(|request| !request.contains("TargetGroupArn=own")));
}

/// Returns the target groups that others have filled with the instance and another one.
async fn of_others(elb: &Endpoint) -> (Vec<others::Filled>, InstanceId, InstanceId) {
    let old = examined(NIC, false).await.instance;
    let mut newcomer = old.clone();
    newcomer.id = "i-0123456789abcdef2".parse().unwrap();
    let own = ["own".to_owned()];
    let client = clients(elb).await.elbv2;
    let found = others::filled(&client, [&old, &newcomer].into_iter(), &own).await.unwrap();
    (found, old.id, newcomer.id)
}

#[tokio::test]
async fn target_groups_that_others_fill_tell_of_a_member_at_each_port() {
    const GROUPS: &[(&str, &str, &str)] = &[
        ("own", "instance", "vpc-1"),
        ("tasks", "instance", "vpc-1"),
        ("of-strangers", "instance", "vpc-1"),
        ("far", "instance", "vpc-2"),
        ("balancer", "alb", "vpc-1"),
        ("by-ip", "ip", "vpc-1"),
    ];
    let elb = load_balancing(GROUPS, |group| match group {
        "tasks" => [
            health("i-0123456789abcdef0", 32_768, "draining", "Target.DeregistrationInProgress"),
            health("i-0123456789abcdef0", 32_769, "unhealthy", "Target.Timeout"),
            health("i-0123456789abcdef2", 32_770, "healthy", ""),
            health("i-0123456789abcdef2", 32_771, "initial", "Elb.InitialHealthChecking"),
        ]
        .concat(),
        _ => health("i-0123456789abcdef3", 80, "healthy", ""),
    })
    .await;
    let (found, old, newcomer) = of_others(&elb).await;
    let [tasks] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(tasks.arn, "tasks");
    assert_eq!(tasks.states[&old], [TargetState::Draining, TargetState::Unhealthy]);
    assert_eq!(tasks.states[&newcomer], [TargetState::Healthy, TargetState::Checking]);
    assert_eq!((tasks.health(&old), tasks.has_live(&old)), (TargetHealth::Draining, true));
    assert_eq!((tasks.health(&newcomer), tasks.has_live(&newcomer)), (TargetHealth::NotHealthy, true));
    let nobody = "i-0123456789abcdef9".parse().unwrap();
    assert_eq!((tasks.health(&nobody), tasks.has_live(&nobody)), (TargetHealth::Absent, false));
    for spared in ["own", "far", "balancer", "by-ip"] {
        let asks = format!("TargetGroupArn={spared}");
        assert!(elb.requests().iter().all(|request| !request.contains(&asks)), "{spared}");
    }
}

#[tokio::test]
async fn a_member_that_is_drained_at_every_port_is_no_live_one() {
    let elb = load_balancing(&[("tasks", "instance", "vpc-1")], |_| {
        [
            health("i-0123456789abcdef0", 32_768, "draining", "Target.DeregistrationInProgress"),
            health("i-0123456789abcdef0", 32_769, "draining", "Target.DeregistrationInProgress"),
        ]
        .concat()
    })
    .await;
    let (found, old, _) = of_others(&elb).await;
    assert_eq!((found[0].health(&old), found[0].has_live(&old)), (TargetHealth::Draining, false));
}

#[tokio::test]
async fn a_target_group_of_any_vpc_has_a_member_by_its_address() {
    const GROUPS: &[(&str, &str, &str)] = &[
        ("near", "ip", "vpc-1"),
        ("stranger", "ip", "vpc-2"),
        ("central", "ip", "vpc-3"),
        ("tasks", "instance", "vpc-1"),
    ];
    fn in_zone(zone: &str) -> String {
        let zone = format!("<AvailabilityZone>{zone}</AvailabilityZone><Port>");
        health("10.0.0.7", 80, "healthy", "").replace("<Port>", &zone)
    }
    let elb = load_balancing(GROUPS, |group| match group {
        "central" => in_zone("all"),
        "stranger" => in_zone("us-east-1b"),
        _ => health("10.0.0.8", 80, "healthy", ""),
    })
    .await;
    let old = examined(NIC, false).await.instance;
    let mut newcomer = old.clone();
    newcomer.id = "i-0123456789abcdef2".parse().unwrap();
    newcomer.belongings.addresses.clear();
    let client = clients(&elb).await.elbv2;
    let found = others::by_address(&client, [&old, &newcomer].into_iter()).await.unwrap();
    assert_eq!(found, std::collections::BTreeMap::from([(old.id, "central".to_owned())]));
    assert!(elb.requests().iter().all(|request| !request.contains("TargetGroupArn=tasks")));
}
