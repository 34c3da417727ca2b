//! The calls of a lab swap to EC2 and load balancing, against a scripted endpoint. They cover the twin's
//! launch, the image, the holder of an address, and an instance's target groups.

#![allow(clippy::unwrap_used, clippy::panic)]

use spot_cloud::ec2::{addresses, images, instances};
use spot_cloud::launch::launcher::{Blueprint, Launcher, Order};
use spot_cloud::launch::twin::{Twin, examine};
use spot_cloud::load_balancing::targets;
use spot_cloud::{Kind, RegionClients};
use spot_domain::InstanceId;
use spot_domain::swap::journal::SwapId;
use spot_domain::swap::lab::Registration;
use spot_domain::swap::recovery::lab::{AddressAt, TargetState};
use spot_domain::tags::Tags;
use spot_scripted::{Endpoint, ScriptedAnswer};

use common::{cleared, order_for};

mod common;

const INSTANCE: &str = "<instanceId>i-0123456789abcdef0</instanceId><imageId>ami-1</imageId>
    <instanceState><name>running</name></instanceState><instanceType>m5.large</instanceType>
    <keyName>lab</keyName><ebsOptimized>true</ebsOptimized><monitoring><state>enabled</state></monitoring>
    <placement><availabilityZone>us-east-1a</availabilityZone><groupName>near</groupName></placement>
    <subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><privateIpAddress>10.0.0.7</privateIpAddress>
    <ipAddress>198.51.100.7</ipAddress><rootDeviceType>ebs</rootDeviceType>
    <iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/lab</arn></iamInstanceProfile>
    <metadataOptions><httpTokens>required</httpTokens>
      <httpPutResponseHopLimit>3</httpPutResponseHopLimit></metadataOptions>
    <groupSet><item><groupId>sg-1</groupId></item></groupSet>";
const NIC: &str = "<networkInterfaceSet><item><interfaceType>interface</interfaceType>
    <privateIpAddressesSet><item><privateIpAddress>10.0.0.7</privateIpAddress></item>
    </privateIpAddressesSet></item></networkInterfaceSet>";

fn described(more: &str) -> String {
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item>{INSTANCE}{more}\
         </item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

fn attribute(inner: &str) -> String {
    format!("<DescribeInstanceAttributeResponse>{inner}</DescribeInstanceAttributeResponse>")
}

fn id() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn swap() -> SwapId {
    "i-0123456789abcdef0-1700000000000".parse().unwrap()
}

async fn clients(endpoint: &Endpoint) -> RegionClients {
    RegionClients::new(&endpoint.config().await)
}

#[tokio::test]
async fn a_twin_is_what_the_old_instance_is() {
    let ec2 = Endpoint::answering(|action, _| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(NIC)),
        "DescribeInstanceAttribute" => {
            ScriptedAnswer::ok(attribute("<userData><value>aGVsbG8=</value></userData>"))
        }
        "DescribeInstanceTypes" => ScriptedAnswer::ok("<DescribeInstanceTypesResponse/>"),
        _ => ScriptedAnswer::ok(
            "<RunInstancesResponse><instancesSet><item><instanceId>i-0123456789abcdef1</instanceId>\
             </item></instancesSet></RunInstancesResponse>",
        ),
    })
    .await;
    let tags = Tags::from([("team".to_owned(), "lab".to_owned())]);
    let order = Order { tags, ..order_for(Blueprint::Twin(Twin { of: id(), image_id: None })) };
    let launcher = Launcher::new(&clients(&ec2).await);
    launcher.launch(cleared().await, &order, "token-0").await.unwrap();
    let requests = ec2.requests();
    let request = requests.last().unwrap();
    for expected in [
        "Action=RunInstances",
        "ClientToken=token-0",
        "EbsOptimized=true",
        "IamInstanceProfile.Arn=arn%3Aaws%3Aiam%3A%3A123456789012%3Ainstance-profile%2Flab",
        "ImageId=ami-1",
        "InstanceMarketOptions.MarketType=spot",
        "InstanceType=m5.large",
        "KeyName=lab",
        "MetadataOptions.HttpPutResponseHopLimit=3",
        "MetadataOptions.HttpTokens=required",
        "Monitoring.Enabled=true",
        "NetworkInterface.1.AssociatePublicIpAddress=true",
        "NetworkInterface.1.SecurityGroupId.1=sg-1",
        "NetworkInterface.1.SubnetId=subnet-1",
        "Placement.GroupName=near",
        "TagSpecification.1.Tag.1.Key=team",
        "UserData=aGVsbG8%3D",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
    assert!(!request.contains("BlockDeviceMapping"), "its disks are the image's: {request}");
}

#[tokio::test]
async fn a_burstable_twin_keeps_the_owners_choice_of_credits() {
    let ec2 = Endpoint::answering(|action, _| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(NIC).replace("m5.large", "t3.micro")),
        "DescribeInstanceAttribute" => ScriptedAnswer::ok(attribute("")),
        "DescribeInstanceTypes" => ScriptedAnswer::ok("<DescribeInstanceTypesResponse/>"),
        "DescribeInstanceCreditSpecifications" => ScriptedAnswer::ok(
            "<DescribeInstanceCreditSpecificationsResponse><instanceCreditSpecificationSet><item>\
             <cpuCredits>standard</cpuCredits></item></instanceCreditSpecificationSet>\
             </DescribeInstanceCreditSpecificationsResponse>",
        ),
        _ => ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity"),
    })
    .await;
    let blueprint = Blueprint::Twin(Twin { of: id(), image_id: Some("ami-captured".into()) });
    let order = order_for(blueprint);
    let launcher = Launcher::new(&clients(&ec2).await);
    let error = launcher.launch(cleared().await, &order, "token-0").await.unwrap_err();
    assert_eq!(error.kind, Kind::NextPool);
    let request = ec2.requests().pop().unwrap();
    assert!(request.contains("CreditSpecification.CpuCredits=standard"), "{request}");
    assert!(request.contains("ImageId=ami-captured"), "the captured image comes before the AMI: {request}");
}

const UNUSUAL: &str = "<cpuOptions><coreCount>1</coreCount><threadsPerCore>1</threadsPerCore></cpuOptions>
    <privateDnsNameOptions><hostnameType>resource-name</hostnameType>
      <enableResourceNameDnsARecord>true</enableResourceNameDnsARecord></privateDnsNameOptions>
    <maintenanceOptions><autoRecovery>disabled</autoRecovery></maintenanceOptions>
    <networkPerformanceOptions><bandwidthWeighting>vpc-1</bandwidthWeighting></networkPerformanceOptions>
    <launchTime>2026-11-01T00:00:00Z</launchTime>
    <blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-1</volumeId>
      <attachTime>2026-11-01T00:00:01Z</attachTime></ebs></item></blockDeviceMapping>
    <networkInterfaceSet><item><interfaceType>interface</interfaceType>
      <ipv6AddressesSet><item><ipv6Address>2001:db8::7</ipv6Address><isPrimaryIpv6>true</isPrimaryIpv6></item>
      </ipv6AddressesSet>
      <attachment><enaSrdSpecification><enaSrdEnabled>true</enaSrdEnabled></enaSrdSpecification></attachment>
      <connectionTrackingConfiguration><tcpEstablishedTimeout>350</tcpEstablishedTimeout>
      </connectionTrackingConfiguration></item></networkInterfaceSet>";

/// Returns the launch request for the twin of an instance described with `more`, whose type has a core of two
/// threads.
async fn launched_as(more: &'static str) -> String {
    let ec2 = Endpoint::answering(move |action, body| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(more)),
        "DescribeInstanceTypes" => ScriptedAnswer::ok(
            "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>m5.large</instanceType>\
             <vCpuInfo><defaultCores>1</defaultCores><defaultThreadsPerCore>2</defaultThreadsPerCore></vCpuInfo>\
             </item></instanceTypeSet></DescribeInstanceTypesResponse>",
        ),
        "DescribeVolumes" => ScriptedAnswer::ok(
            "<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId><tagSet><item>\
             <key>backup</key><value>daily</value></item></tagSet></item></volumeSet></DescribeVolumesResponse>",
        ),
        "RunInstances" => ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity"),
        _ if body.contains("instanceInitiatedShutdownBehavior") => ScriptedAnswer::ok(attribute(
            "<instanceInitiatedShutdownBehavior><value>terminate</value></instanceInitiatedShutdownBehavior>",
        )),
        _ => ScriptedAnswer::ok(attribute("")),
    })
    .await;
    let tags = Tags::from([("spot-optimizer:swap".to_owned(), "i-1-1".to_owned())]);
    let order = Order { tags, ..order_for(Blueprint::Twin(Twin { of: id(), image_id: None })) };
    let launcher = Launcher::new(&clients(&ec2).await);
    launcher.launch(cleared().await, &order, "token-0").await.unwrap_err();
    ec2.requests().pop().unwrap()
}

#[tokio::test]
async fn a_twin_has_what_its_owner_chose_beyond_the_usual() {
    let request = launched_as(UNUSUAL).await;
    for expected in [
        "CpuOptions.CoreCount=1",
        "CpuOptions.ThreadsPerCore=1",
        "PrivateDnsNameOptions.HostnameType=resource-name",
        "PrivateDnsNameOptions.EnableResourceNameDnsARecord=true",
        "MaintenanceOptions.AutoRecovery=disabled",
        "NetworkPerformanceOptions.BandwidthWeighting=vpc-1",
        "InstanceInitiatedShutdownBehavior=terminate",
        "NetworkInterface.1.PrimaryIpv6=true",
        "NetworkInterface.1.EnaSrdSpecification.EnaSrdEnabled=true",
        "NetworkInterface.1.ConnectionTrackingSpecification.TcpEstablishedTimeout=350",
        "ResourceType=volume",
        "Tag.2.Key=backup",
        "Tag.3.Key=spot-optimizer%3Aswap",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

#[tokio::test]
async fn a_twin_does_not_ask_for_what_its_type_gives_anyway() {
    let usual = "<cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>
        <maintenanceOptions><autoRecovery>default</autoRecovery></maintenanceOptions>";
    let request = launched_as(usual).await;
    for unwanted in ["CpuOptions", "MaintenanceOptions", "EnaSrd", "ConnectionTracking", "PrimaryIpv6"] {
        assert!(!request.contains(unwanted), "{unwanted} is in {request}");
    }
}

/// Returns the result of `examine` for an instance described with `more`, whose type has an instance store or
/// not.
async fn examined(more: &'static str, store: bool) -> spot_domain::swap::lab::Original {
    let ec2 = Endpoint::answering(move |action, body| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(more)),
        "DescribeInstanceTypes" => ScriptedAnswer::ok(format!(
            "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>m5.large</instanceType>\
             <instanceStorageSupported>{store}</instanceStorageSupported></item></instanceTypeSet>\
             </DescribeInstanceTypesResponse>"
        )),
        _ if body.contains("disableApiStop") => {
            ScriptedAnswer::ok(attribute("<disableApiStop><value>true</value></disableApiStop>"))
        }
        _ => ScriptedAnswer::ok(attribute(
            "<disableApiTermination><value>false</value></disableApiTermination>",
        )),
    })
    .await;
    examine(&clients(&ec2).await.ec2, &id()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_a_twin_could_not_have_is_seen() {
    let plain = examined(NIC, false).await;
    assert!(plain.stop_protected && !plain.termination_protected && !plain.has_instance_store);
    assert_eq!(plain.irreproducible, None);
    assert!(examined(NIC, true).await.has_instance_store);
    let two = "<networkInterfaceSet><item><interfaceType>interface</interfaceType></item>\
               <item><interfaceType>interface</interfaceType></item></networkInterfaceSet>";
    assert!(examined(two, false).await.irreproducible.unwrap().contains("2 network interfaces"));
    let efa = "<networkInterfaceSet><item><interfaceType>efa</interfaceType></item></networkInterfaceSet>";
    assert!(examined(efa, false).await.irreproducible.is_some());
    let licensed = "<networkInterfaceSet><item><interfaceType>interface</interfaceType></item>\
                    </networkInterfaceSet><licenseSet><item><licenseConfigurationArn>arn:lic</licenseConfigurationArn>\
                    </item></licenseSet>";
    assert!(
        examined(licensed, false).await.irreproducible.unwrap().contains("license configuration arn:lic")
    );
}

#[tokio::test]
async fn two_readings_differ_in_what_the_owner_has_changed() {
    let before = examined(NIC, false).await.traits;
    assert_eq!(before, examined(NIC, false).await.traits);
    let quarantined = "<networkInterfaceSet><item><interfaceType>interface</interfaceType>\
                       <networkInterfaceId>eni-1</networkInterfaceId><privateIpAddressesSet><item>\
                       <privateIpAddress>10.0.0.7</privateIpAddress></item></privateIpAddressesSet></item>\
                       </networkInterfaceSet><placement><groupName>far</groupName></placement>\
                       <groupSet><item><groupId>sg-9</groupId></item></groupSet>";
    let after = examined(quarantined, false).await.traits;
    let differing: Vec<_> = before.iter().filter(|(name, was)| after.get(*name) != Some(*was)).collect();
    let names: Vec<_> = differing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["network interfaces", "placement", "security groups"]);
    assert!(before.values().all(|value| !value.contains("aGVsbG8")), "no user data in a journal");
}

#[tokio::test]
async fn a_type_that_is_not_described_is_an_error_and_never_no_instance_store() {
    let ec2 = Endpoint::answering(|action, _| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(NIC)),
        "DescribeInstanceTypes" => ScriptedAnswer::ok("<DescribeInstanceTypesResponse/>"),
        _ => ScriptedAnswer::ok(attribute("")),
    })
    .await;
    let error = examine(&clients(&ec2).await.ec2, &id()).await.unwrap_err();
    assert_eq!((error.call, error.kind), ("ec2:DescribeInstanceTypes", Kind::Rejected));
}

#[tokio::test]
async fn an_image_bears_the_swaps_tag_with_its_snapshots_and_reboots_nothing() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ok(
        "<CreateImageResponse><imageId>ami-2</imageId></CreateImageResponse>",
    )])
    .await;
    let image = images::capture(&clients(&ec2).await.ec2, &id(), &swap()).await.unwrap();
    assert_eq!(image, "ami-2");
    let request = &ec2.requests()[0];
    for expected in [
        "NoReboot=true",
        "Name=spot-optimizer-i-0123456789abcdef0-1700000000000",
        "TagSpecification.1.ResourceType=image",
        "TagSpecification.2.ResourceType=snapshot",
        "TagSpecification.2.Tag.2.Key=spot-optimizer%3Aswap",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

#[tokio::test]
async fn an_address_is_ours_to_move_only_where_one_of_the_two_has_it_or_nobody() {
    let newcomer: InstanceId = "i-0123456789abcdef1".parse().unwrap();
    let address = |inner: &str| {
        ScriptedAnswer::ok(format!(
            "<DescribeAddressesResponse><addressesSet><item><allocationId>eipalloc-1</allocationId>{inner}\
             </item></addressesSet></DescribeAddressesResponse>"
        ))
    };
    let cases = [
        (address("<instanceId>i-0123456789abcdef0</instanceId>"), AddressAt::Old),
        (address("<instanceId>i-0123456789abcdef1</instanceId>"), AddressAt::Newcomer),
        (address("<instanceId>i-0123456789abcdef2</instanceId>"), AddressAt::Elsewhere),
        (address("<associationId>eipassoc-1</associationId>"), AddressAt::Elsewhere),
        (address(""), AddressAt::Nobody),
        (ScriptedAnswer::ec2_error(400, "InvalidAllocationID.NotFound"), AddressAt::Elsewhere),
    ];
    for (answer, expected) in cases {
        let ec2 = Endpoint::start(vec![answer]).await;
        let client = clients(&ec2).await.ec2;
        let seen = addresses::whereabouts(&client, "eipalloc-1", &id(), Some(&newcomer)).await.unwrap();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn starting_what_still_stops_is_no_error_but_a_lack_of_capacity_is() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(400, "IncorrectInstanceState")]).await;
    instances::start(&clients(&ec2).await.ec2, &id()).await.unwrap();
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity")]).await;
    instances::start(&clients(&ec2).await.ec2, &id()).await.unwrap_err();
}

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

/// Returns target groups by name, type and VPC, each of which answers `targets` of its name.
async fn load_balancing(
    groups: &'static [(&'static str, &'static str, &'static str)],
    targets: fn(&str) -> String,
) -> Endpoint {
    Endpoint::answering(move |action, body| {
        if action == "DescribeTargetGroups" {
            let group = |(name, kind, vpc): &(&str, &str, &str)| {
                format!(
                    "<member><TargetGroupArn>{name}</TargetGroupArn><TargetGroupName>{name}</TargetGroupName>\
                     <TargetType>{kind}</TargetType><VpcId>{vpc}</VpcId></member>"
                )
            };
            let groups: String = groups.iter().map(group).collect();
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
