//! Identifiers as AWS spells them, parsed once at the edge. A value of one of these types is well-formed;
//! only AWS knows if it exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that does not match the syntax of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {given:?} is malformed: expected {expected}")]
pub struct MalformedText {
    /// The kind of identifier, in AWS's words ("instance id").
    pub kind: &'static str,
    /// The text that was given, cut to 80 characters.
    pub given: String,
    /// The syntax that the field expects.
    pub expected: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text, exactly as AWS spells it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedText;

            fn try_from(text: String) -> Result<Self, MalformedText> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    return Ok(Self(text));
                }
                Err(MalformedText { kind: $kind, given: text.chars().take(80).collect(), expected: $expected })
            }
        }

        impl FromStr for $name {
            type Err = MalformedText;

            fn from_str(text: &str) -> Result<Self, MalformedText> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// An AWS account, 12 digits.
    AccountId, "account id", "12 digits",
    |s| s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit())
);

identifier!(
    /// A region such as `us-east-1` or `us-gov-west-1`.
    Region, "region", "a region such as us-east-1", is_region
);

identifier!(
    /// An Availability Zone *id* such as `use1-az6`.
    ///
    /// Unlike a zone's name, the id names the same place in every account
    /// (<https://docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html>).
    AzId, "Availability Zone id", "an id such as use1-az6 (not a name such as us-east-1a)", is_az_id
);

impl AzId {
    /// Returns true for a Local Zone such as `usw2-lax1-az1`, whose id names its place, too.
    #[must_use]
    pub fn is_local_zone(&self) -> bool {
        self.as_str().rsplit_once('-').is_some_and(|(place, _)| place.contains('-'))
    }
}

identifier!(
    /// An instance type such as `m5.large` or `u-6tb1.112xlarge`.
    InstanceType, "instance type", "a type such as m5.large", is_instance_type
);

identifier!(
    /// An EC2 instance, `i-` and 8 or 17 hexadecimal digits.
    InstanceId, "instance id", "i- and 8 or 17 hexadecimal digits",
    |s| s.strip_prefix("i-").is_some_and(|hex| {
        (hex.len() == 17 || hex.len() == 8) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
);

identifier!(
    /// The name of an Auto Scaling group: 1 to 255 characters, spaces allowed, no colon, no control
    /// characters (`CreateAutoScalingGroup`).
    GroupName, "Auto Scaling group name", "1 to 255 characters without colon or control characters",
    |s| (1..=255).contains(&s.chars().count()) && !s.chars().any(|c| c.is_control() || c == ':')
);

identifier!(
    /// The ARN of an Auto Scaling group. The ARN holds a UUID: a group that is deleted and created again
    /// under its old name has another ARN.
    GroupArn, "Auto Scaling group ARN", "arn:aws:autoscaling:<region>:<account>:autoScalingGroup:…",
    |s| is_arn_of(s, "autoscaling") && s.contains(":autoScalingGroup:")
);

identifier!(
    /// The name of a Kubernetes cluster.
    ///
    /// EKS takes 1 to 100 letters, digits, hyphens and underscores (`CreateCluster`). Names of self-managed
    /// clusters often hold dots, too.
    ClusterName, "cluster name", "1 to 100 letters, digits, hyphens, underscores or dots",
    |s| (1..=100).contains(&s.len())
        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
);

identifier!(
    /// The name of a Kubernetes node: a DNS subdomain name, at most 253 characters.
    NodeName, "node name", "a DNS name of at most 253 characters",
    |s| (1..=253).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
);

identifier!(
    /// The ARN of a Step Functions execution.
    ExecutionArn, "execution ARN", "arn:aws:states:<region>:<account>:execution:…",
    |s| is_arn_of(s, "states") && s.contains(":execution:")
);

impl ExecutionArn {
    /// Returns the execution's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(_, name)| name)
    }
}

fn is_region(s: &str) -> bool {
    let parts: Vec<&str> = s.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    (2..=4).contains(&words.len())
        && words.iter().all(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase()))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_az_id(s: &str) -> bool {
    // The id of a Local Zone reads `usw2-lax1-az1`. Every form ends in `-az<n>`.
    let Some((place, number)) = s.rsplit_once("-az") else { return false };
    !place.is_empty()
        && place.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_instance_type(s: &str) -> bool {
    let Some((family, size)) = s.split_once('.') else { return false };
    let word = |w: &str, extra: &[u8]| {
        !w.is_empty()
            && w.len() <= 32
            && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.contains(&b))
    };
    word(family, b"-") && word(size, b"-")
}

fn is_arn_of(s: &str, service: &str) -> bool {
    let mut parts = s.splitn(6, ':');
    s.len() <= 1_600
        && parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| partition.starts_with("aws"))
        && parts.next() == Some(service)
        && parts.next().is_some_and(is_region)
        && parts.next().is_some_and(|account| AccountId::from_str(account).is_ok())
        && parts.next().is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
        }
    }

    fn refuses<T: FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
        }
    }

    #[test]
    fn account_ids_are_twelve_digits() {
        accepts::<AccountId>(&["123456789012", "000000000000"]);
        refuses::<AccountId>(&[
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "１２３４５６７８９０１２",
        ]);
    }

    #[test]
    fn regions_of_every_partition_are_accepted() {
        accepts::<Region>(&["us-east-1", "ap-southeast-4", "us-gov-west-1", "us-isob-east-1", "cn-north-1"]);
        accepts::<Region>(&["eusc-de-east-1"]);
        refuses::<Region>(&["", "us-east", "us-east-1a", "US-EAST-1", "us--1", "us-east-1#x", "-east-1"]);
    }

    #[test]
    fn a_zone_name_is_not_a_zone_id() {
        accepts::<AzId>(&["use1-az6", "usw2-lax1-az1", "apne1-az4"]);
        refuses::<AzId>(&["us-east-1a", "use1-az", "", "-az1", "use1-az123", "use1#az1-az1"]);
    }

    #[test]
    fn a_local_zone_is_told_by_its_id() {
        let is_local = |id: &str| id.parse::<AzId>().unwrap().is_local_zone();
        assert!(is_local("usw2-lax1-az1") && is_local("use1-bos1-az2"));
        assert!(!is_local("use1-az6") && !is_local("usgw1-az1"));
    }

    #[test]
    fn instance_types_have_a_family_and_a_size() {
        accepts::<InstanceType>(&[
            "m5.large",
            "u-6tb1.112xlarge",
            "m7i-flex.large",
            "mac2-m2pro.metal",
            "c7g.metal-48xl",
        ]);
        refuses::<InstanceType>(&["m5", "m5.", ".large", "m5.lar ge", "m5#large", "m5.large.x", "M5.large"]);
    }

    #[test]
    fn instance_ids_are_old_or_new_style() {
        accepts::<InstanceId>(&["i-0123456789abcdef0", "i-12345678"]);
        refuses::<InstanceId>(&[
            "",
            "i-",
            "i-xyz",
            "0123456789abcdef0",
            "i-0123456789ABCDEF0",
            "i-0123456789abcdef01",
        ]);
    }

    #[test]
    fn group_names_may_hold_spaces_and_be_long() {
        let longest = "x".repeat(255);
        accepts::<GroupName>(&["web", "my group / blue #1", &longest]);
        refuses::<GroupName>(&["", "a:b", "a\nb", &"x".repeat(256)]);
    }

    #[test]
    fn arns_name_their_service() {
        accepts::<GroupArn>(&[
            "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:ab-cd:autoScalingGroupName/my group",
            "arn:aws-us-gov:autoscaling:us-gov-west-1:123456789012:autoScalingGroup:u:autoScalingGroupName/x",
        ]);
        refuses::<GroupArn>(&["arn:aws:ec2:us-east-1:123456789012:autoScalingGroup:u:x", "web"]);
        accepts::<ExecutionArn>(&["arn:aws:states:us-east-1:123456789012:execution:swap:run-1"]);
        refuses::<ExecutionArn>(&["arn:aws:states:us-east-1:123456789012:stateMachine:swap"]);
    }

    #[test]
    fn a_malformed_id_says_what_it_should_look_like() {
        let error = "us-east-1a".parse::<AzId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "Availability Zone id \"us-east-1a\" is malformed: expected an id such as use1-az6 (not a name such as us-east-1a)"
        );
    }
}
