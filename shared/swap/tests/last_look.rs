//! The last look before an old instance leaves, against a scripted endpoint.

#![allow(clippy::unwrap_used)]

use spot_cloud::RegionClients;
use spot_cloud::auto_scaling::groups;
use spot_domain::Reason;
use spot_domain::swap::group::MOST_MEMBERS;
use spot_domain::swap::journal::Retirement;
use spot_scripted::{Endpoint, ScriptedAnswer};
use spot_swap::error::StepError;
use spot_swap::group::{changed_by_now, refuse_unfit};
use spot_swap::phases::retire_old::look_at_group;
use spot_swap::phases::wait_for_in_service::look_around;
use spot_swap::work::{Next, Work};

/// A run whose newcomer is attached, of a group of two.
const AFTER_ATTACH: &str = include_str!("payloads/3fb1158-group-after-attach.json");
/// The old instance with its address, the newcomer, and the other member.
const INSTANCES: [(&str, &str); 3] = [
    ("i-3ca6abe5166a142f9", "10.0.0.7"),
    ("i-fd14704ff3e1e2310", "10.0.0.8"),
    ("i-e56da03df1186f5fa", "10.0.0.9"),
];

fn answer(action: &str, content: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        "<{action}Response><{action}Result>{content}</{action}Result></{action}Response>"
    ))
}

/// Returns the group of the run, which has its newcomer.
fn group() -> String {
    let member = |(id, _): &(&str, &str)| {
        format!(
            "<member><InstanceId>{id}</InstanceId><LifecycleState>InService</LifecycleState>\
             <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>"
        )
    };
    let members: String = INSTANCES.iter().map(member).collect();
    format!(
        "<AutoScalingGroups><member><AutoScalingGroupName>web-f5f771d0</AutoScalingGroupName><AutoScalingGroupARN>\
         arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:4297429e-2ad5-4c16-bc0d-9600bea3902a:\
         autoScalingGroupName/web-f5f771d0\
         </AutoScalingGroupARN><MinSize>0</MinSize><MaxSize>3</MaxSize><DesiredCapacity>3</DesiredCapacity>\
         <LaunchConfigurationName>web</LaunchConfigurationName><Instances>{members}</Instances></member>\
         </AutoScalingGroups>"
    )
}

fn instances() -> ScriptedAnswer {
    let instance = |(id, address): &(&str, &str)| {
        format!(
            "<item><instanceId>{id}</instanceId><instanceType>m5.large</instanceType>\
             <instanceState><name>running</name></instanceState><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
             <privateIpAddress>{address}</privateIpAddress></item>"
        )
    };
    let instances: String = INSTANCES.iter().map(instance).collect();
    ScriptedAnswer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{instances}</instancesSet></item>\
         </reservationSet></DescribeInstancesResponse>"
    ))
}

/// Returns an account with a target group of addresses, in which `target` is registered, one that others fill with the
/// `filled`, and a group with a hook for this transition, if one is given.
async fn aws_with(
    target: &'static str,
    filled: &'static [&'static str],
    hook_of: Option<&'static str>,
) -> Endpoint {
    Endpoint::answering(move |action, body| match action {
        "DescribeAutoScalingGroups" => answer(action, &group()),
        "DescribeInstances" => instances(),
        "DescribeTargetGroups" => answer(
            action,
            "<TargetGroups><member><TargetGroupArn>by-ip</TargetGroupArn><TargetGroupName>by-ip</TargetGroupName>\
             <TargetType>ip</TargetType><VpcId>vpc-1</VpcId><Port>80</Port></member><member>\
             <TargetGroupArn>tasks</TargetGroupArn><TargetGroupName>tasks</TargetGroupName>\
             <TargetType>instance</TargetType><VpcId>vpc-1</VpcId><Port>80</Port></member></TargetGroups>",
        ),
        "DescribeTargetHealth" => {
            let healthy = |id: &&str| {
                format!(
                    "<member><Target><Id>{id}</Id><Port>80</Port></Target>\
                     <TargetHealth><State>healthy</State></TargetHealth></member>"
                )
            };
            let targets = [target];
            let targets = if body.contains("TargetGroupArn=tasks") { filled } else { targets.as_slice() };
            let targets: String = targets.iter().map(healthy).collect();
            answer(action, &format!("<TargetHealthDescriptions>{targets}</TargetHealthDescriptions>"))
        }
        "DescribeLifecycleHooks" => {
            let hook = |transition| {
                format!(
                    "<member><LifecycleHookName>late</LifecycleHookName>\
                     <LifecycleTransition>autoscaling:EC2_INSTANCE_{transition}</LifecycleTransition></member>"
                )
            };
            let hooks = hook_of.map(hook).unwrap_or_default();
            answer(action, &format!("<LifecycleHooks>{hooks}</LifecycleHooks>"))
        }
        // Nothing is protected, taken back or refreshed.
        _ => answer(action, ""),
    })
    .await
}

/// Returns such an account in which others fill nothing.
async fn aws(target: &'static str, hook_of: Option<&'static str>) -> Endpoint {
    aws_with(target, &[], hook_of).await
}

/// The phase that makes the last look.
#[derive(Debug, Clone, Copy)]
enum Phase {
    WaitForInService,
    /// RetireOld looks again if some time has passed.
    RetireOld,
}

/// Returns the reason for which a swap that has `foreseen` the retirement is undone, if it is, and the reason for which its run
/// ends.
async fn last_look(aws: &Endpoint, phase: Phase, foreseen: Retirement) -> (Option<Reason>, Option<Reason>) {
    let clients = RegionClients::new(&aws.config().await);
    let mut work: Work = serde_json::from_str(AFTER_ATTACH).unwrap();
    let mut current = work.current.take().unwrap();
    current.journal.retirement = foreseen;
    let original = current.journal.original.clone().unwrap();
    let next = match phase {
        Phase::WaitForInService => {
            let name = work.group().unwrap().1;
            let group = groups::describe(&clients.autoscaling, name).await.unwrap().unwrap();
            look_around(&clients, &mut work, (&group, &original), &mut current).await.unwrap().unwrap()
        }
        Phase::RetireOld => {
            let looked = look_at_group(&clients, &mut work, &original, &mut current).await.unwrap();
            looked.err().unwrap_or(Next::Proceed)
        }
    };
    assert_eq!(next == Next::Proceed, work.undo.is_none(), "{next:?}");
    (work.undo.map(|undo| undo.reason), work.ended_by)
}

#[tokio::test]
async fn a_target_group_that_has_got_its_address_meanwhile_keeps_the_old_instance() {
    for phase in [Phase::WaitForInService, Phase::RetireOld] {
        let [(_, old), (_, newcomer), (_, other)] = INSTANCES;
        for (target, expected) in [(old, Some(Reason::NotReproducible)), (newcomer, None), (other, None)] {
            let seen = last_look(&aws(target, None).await, phase, Retirement::Detach).await;
            assert_eq!(seen, (expected, None), "{target} at {phase:?}");
        }
    }
}

#[tokio::test]
async fn target_groups_of_addresses_are_asked_only_once_nothing_else_is_waited_for() {
    const OLD: &[&str] = &[INSTANCES[0].0];
    const BOTH: &[&str] = &[INSTANCES[0].0, INSTANCES[1].0];
    const NOBODY: &[&str] = &[];
    for (filled, is_asked) in [(OLD, false), (BOTH, true), (NOBODY, true)] {
        let aws = aws_with("10.0.0.99", filled, None).await;
        let clients = RegionClients::new(&aws.config().await);
        let mut work: Work = serde_json::from_str(AFTER_ATTACH).unwrap();
        let mut current = work.current.take().unwrap();
        let original = current.journal.original.clone().unwrap();
        let group = groups::describe(&clients.autoscaling, work.group().unwrap().1).await.unwrap().unwrap();
        let looked = look_around(&clients, &mut work, (&group, &original), &mut current).await.unwrap();
        assert_eq!(looked.is_ok(), is_asked, "{looked:?} where others fill {filled:?}");
        let asks = |request: &&String| request.contains("TargetGroupArn=by-ip");
        assert_eq!(aws.requests().iter().filter(asks).count(), usize::from(is_asked), "{filled:?}");
    }
}

#[tokio::test]
async fn the_group_that_decides_on_a_retirement_is_described_after_all_target_groups_were_asked() {
    let aws = aws("10.0.0.99", None).await;
    assert_eq!(last_look(&aws, Phase::RetireOld, Retirement::Detach).await, (None, None));
    let requests = aws.requests();
    let described = requests.iter().position(|request| request.contains("DescribeAutoScalingGroups"));
    let asked = requests.iter().rposition(|request| request.contains("DescribeTargetHealth"));
    assert!(asked.unwrap() < described.unwrap(), "{requests:#?}");
}

#[tokio::test]
async fn a_hook_that_came_since_the_launch_keeps_the_old_instance_and_one_that_went_does_not() {
    let changed = Some(Reason::GroupChanged);
    for (hook, foreseen, undone, ended) in [
        (None, Retirement::Detach, None, None),
        (Some("TERMINATING"), Retirement::TerminateInGroup, None, None),
        (Some("TERMINATING"), Retirement::Detach, changed, None),
        (None, Retirement::TerminateInGroup, None, None),
        (Some("LAUNCHING"), Retirement::Detach, changed, changed),
    ] {
        let aws = aws("10.0.0.99", hook).await;
        let seen = last_look(&aws, Phase::WaitForInService, foreseen).await;
        assert_eq!(seen, (undone, ended), "{hook:?} where {foreseen:?} was foreseen");
    }
}

#[tokio::test]
async fn the_largest_group_begins_a_run_and_a_newcomer_or_a_few_more_members_undo_nothing() {
    let aws = aws("10.0.0.99", None).await;
    let clients = RegionClients::new(&aws.config().await);
    let mut work: Work = serde_json::from_str(AFTER_ATTACH).unwrap();
    let name = work.group().unwrap().1.clone();
    let mut group = groups::describe(&clients.autoscaling, &name).await.unwrap().unwrap();
    let one = group.members[0].clone();
    group.members.resize(MOST_MEMBERS, one.clone());
    assert!(refuse_unfit(&clients, &work.settings, &group).await.is_ok());
    for _ in 0..3 {
        group.members.push(one.clone());
        let changed = changed_by_now(&clients, &mut work, &group, Retirement::Detach).await.unwrap();
        assert_eq!(changed, None, "with {} members", group.members.len());
    }
    let refused = refuse_unfit(&clients, &work.settings, &group).await.unwrap_err();
    assert!(
        matches!(&refused, StepError::GroupNotSupported(why) if why.to_string().contains("4003 members"))
    );
}
