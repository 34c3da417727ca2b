//! The twin of an instance: its launch, what it has, and what it could not have.

use super::*;

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
    let clients = clients(&ec2).await;
    let order = Order { tags, ..order_for(twin_of(&clients, None).await) };
    let launcher = Launcher::new(&clients);
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
    let clients = clients(&ec2).await;
    let order = order_for(twin_of(&clients, Some("ami-captured")).await);
    let launcher = Launcher::new(&clients);
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
    let clients = clients(&ec2).await;
    let order = Order { tags, ..order_for(twin_of(&clients, None).await) };
    let launcher = Launcher::new(&clients);
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
