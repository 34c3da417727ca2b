//! Delays of AWS, and the answers to questions that only AWS can settle.

use jiff::SignedDuration;

/// The delays of AWS, and one side of each open question about its behaviour. `docs/to-try-on-aws.md` has the script that
/// settles each question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsHabits {
    /// From a launch until the instance runs.
    pub boots_after: SignedDuration,
    /// From a launch until both status checks pass.
    pub passes_checks_after: SignedDuration,
    /// From a launch until EC2's descriptions show the instance.
    /// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
    pub visible_after: SignedDuration,
    /// From the request to terminate until the instance is `terminated`.
    pub shuts_down_after: SignedDuration,
    /// From the request to stop until the instance is `stopped`.
    pub stops_after: SignedDuration,
    /// From the request of an image until it is `available`.
    pub images_after: SignedDuration,
    /// An image becomes `failed` in that time, with a `StateReason`.
    pub images_fail: bool,
    /// From the attach, or from the boot of the group's own launch, until the member is InService.
    pub attach_lag: SignedDuration,
    /// From the detach, or from the start of a termination, until a drained member has left the group.
    pub detach_lag: SignedDuration,
    /// From the registration of a running instance until the target is healthy.
    pub turns_healthy_after: SignedDuration,
    /// From the end of a member until its group notices.
    pub notices_death_after: SignedDuration,
    /// From a detach, or a termination in the group, until descriptions of the group show that the member leaves. They show
    /// the new desired capacity at once.
    pub leaving_shows_after: SignedDuration,
    /// From a launch until DescribeTargetHealth knows the instance. Until then it refuses with `InvalidTarget`.
    pub targets_known_after: SignedDuration,
    /// From the deregistration of an image until its snapshots may be deleted.
    /// <https://github.com/boto/boto/issues/3019>
    pub snapshot_in_use_after: SignedDuration,
    /// The most items in a page of a description; `None` for one page, unless the call asks for fewer.
    pub page_size: Option<usize>,
    /// A second TerminateInstanceInAutoScalingGroup with decrement is accepted, and lowers desired once more.
    /// <https://github.com/kubernetes/autoscaler/pull/5411>
    pub second_terminate_counts_again: bool,
    /// Values of the filter `client-token` take wildcards.
    pub client_token_takes_wildcards: bool,
    /// The tag `aws:autoscaling:groupName` stays on an instance that was detached.
    pub detached_keeps_group_tag: bool,
    /// The same tag stays on an instance that died while it was Detaching.
    pub dead_detaching_keeps_group_tag: bool,
    /// UpdateAutoScalingGroup refuses a MaxSize below the number of members, those that leave included.
    pub max_covers_leaving: bool,
    /// AttachInstances refuses an instance that would have too many tags with those of the group. Else tags are dropped.
    pub attach_refuses_too_many_tags: bool,
    /// Auto Scaling sends `EC2 Instance Launch Successful` for an attached instance, too.
    pub attach_announces_launch: bool,
    /// TerminateInstanceInAutoScalingGroup refuses a member to which EC2 has given notice.
    pub refuses_to_terminate_interrupted: bool,
    /// What SetDesiredCapacity makes of a policy's scale-out in the second before it.
    pub set_desired_beside_policy: SetBesidePolicy,
    /// The end of a Spot instance's `UsageOperation`, after that of its image.
    pub spot_operation_end: &'static str,
    /// The stack's bus admits an event that a rule elsewhere forwards, by its source and its type.
    pub bus_admits_forwarded: bool,
    /// A forwarded event keeps its account and region. Else AWS stamps it with those of the bus.
    pub forwarded_keeps_origin: bool,
    /// ListTargetsByRule names a bus by its ARN; else by its name alone.
    pub targets_name_bus_by_arn: bool,
    /// DescribeRule shows a rule to a role of its account; else it refuses.
    pub rules_show_to_roles: bool,
    /// From the end of an instance until EC2 shows its tags no more.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html>
    pub terminated_keeps_tags_for: SignedDuration,
    /// The owner completes the terminating hook of a member that has died. Else its heartbeat runs out.
    pub hooks_of_dead_are_completed: bool,
    /// DescribeImages names the source instance of a pending image.
    pub pending_image_names_source: bool,
    /// DescribeImages names the snapshots of a pending image.
    pub pending_image_names_snapshots: bool,
    /// DeregisterImage accepts a pending image.
    pub pending_image_deregisters: bool,
}

/// What SetDesiredCapacity makes of a policy's scale-out in the second before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SetBesidePolicy {
    /// The call sets its number, whatever the policy has asked for.
    #[default]
    Overwrites,
    /// The call is accepted, and a higher number of the policy stands.
    Yields,
    /// The call is refused as long as the scale-out is so recent.
    IsRefused,
}

/// EC2 describes a terminated instance for about an hour.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html>
pub(super) const FORGETS_INSTANCE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// EC2 describes a closed Spot request for about four hours.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotInstanceRequests.html>
pub(super) const FORGETS_SPOT_REQUEST_AFTER: SignedDuration = SignedDuration::from_hours(4);

impl Default for AwsHabits {
    /// Returns delays that are usual on AWS; of each open question the side that local AWS takes.
    fn default() -> Self {
        Self {
            boots_after: SignedDuration::from_secs(20),
            passes_checks_after: SignedDuration::from_secs(120),
            visible_after: SignedDuration::ZERO,
            shuts_down_after: SignedDuration::from_secs(40),
            stops_after: SignedDuration::from_secs(40),
            images_after: SignedDuration::from_secs(180),
            images_fail: false,
            attach_lag: SignedDuration::from_secs(10),
            detach_lag: SignedDuration::from_secs(30),
            turns_healthy_after: SignedDuration::from_secs(30),
            notices_death_after: SignedDuration::from_secs(60),
            leaving_shows_after: SignedDuration::ZERO,
            targets_known_after: SignedDuration::ZERO,
            snapshot_in_use_after: SignedDuration::ZERO,
            page_size: None,
            second_terminate_counts_again: false,
            client_token_takes_wildcards: true,
            detached_keeps_group_tag: false,
            dead_detaching_keeps_group_tag: false,
            max_covers_leaving: false,
            attach_refuses_too_many_tags: false,
            attach_announces_launch: true,
            refuses_to_terminate_interrupted: false,
            set_desired_beside_policy: SetBesidePolicy::default(),
            spot_operation_end: "",
            bus_admits_forwarded: true,
            forwarded_keeps_origin: true,
            targets_name_bus_by_arn: true,
            rules_show_to_roles: true,
            terminated_keeps_tags_for: SignedDuration::from_mins(5),
            hooks_of_dead_are_completed: true,
            pending_image_names_source: true,
            pending_image_names_snapshots: false,
            pending_image_deregisters: true,
        }
    }
}
