//! The belongings of a member that its replacement would not have: an Elastic IP, a data volume, a further
//! network interface. A member with such belongings is left alone.

use std::collections::BTreeSet;

use crate::ids::InstanceType;
use crate::tags::{MAX_TAGS, Tags, inherited};

/// A volume of an instance, as far as it bears on a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The volume's id.
    pub id: String,
    /// The device name that it is attached as.
    pub device: String,
    /// EC2 deletes the volume with the instance.
    pub is_deleted_on_termination: bool,
    /// The volume was attached within a minute of the launch.
    pub is_from_launch: bool,
}

/// A network interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface's id.
    pub id: String,
    /// The index at which the interface is attached (`DeviceIndex`).
    pub device_index: i32,
    /// The number of private IPv4 addresses, the primary one included.
    pub private_addresses: usize,
    /// The number of IPv6 addresses.
    pub ipv6_addresses: usize,
    /// The interface has address prefixes.
    pub has_prefixes: bool,
    /// An address that its owner keeps when the instance goes (Elastic IP, carrier or customer-owned).
    pub kept_address: Option<String>,
}

/// The belongings of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belongings {
    /// The image that the instance was launched from.
    pub image_id: Option<String>,
    /// The device name of the root volume.
    pub root_device: Option<String>,
    /// The instance's volumes.
    pub volumes: Vec<Volume>,
    /// The instance's network interfaces.
    pub interfaces: Vec<Interface>,
    /// The source/destination check is off: routes point at the instance.
    pub forwards_traffic: bool,
    /// Another thing that no launch gives back, in words.
    pub other: Option<String>,
    /// The VPC.
    pub vpc_id: Option<String>,
    /// Every private address, IPv4 and IPv6.
    pub addresses: BTreeSet<String>,
    /// The instance runs AWS Marketplace software, whose price is in no list of ours.
    pub has_marketplace_software: bool,
    /// A target group in which the instance is registered by its private address.
    pub by_address_in: Option<String>,
}

/// The part of every instance that comes from a launch template or configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The instance type; `None` if the template leaves it to the group's policy.
    pub instance_type: Option<InstanceType>,
    /// The tenancy is `dedicated`.
    pub is_dedicated: bool,
    /// Device names of the block device mappings.
    pub devices: BTreeSet<String>,
    /// Device indexes of the network interfaces; empty if the launch asks for one interface alone.
    pub interfaces: BTreeSet<i32>,
    /// IPv6 addresses that the launch asks for, per interface.
    pub ipv6_addresses: usize,
    /// Keys of the tags that the launch puts on instances.
    pub tag_keys: BTreeSet<String>,
}

impl Belongings {
    /// Returns the volumes that `given` does not explain; the image may explain them.
    ///
    /// A volume that came with the launch and is deleted with the instance is explained by an older version
    /// of the template.
    pub fn unexplained<'a>(&'a self, given: &'a Given) -> impl Iterator<Item = &'a Volume> {
        self.volumes.iter().filter(|volume| {
            let is_root = self.root_device.as_deref() == Some(volume.device.as_str());
            let came_with_launch = volume.is_from_launch && volume.is_deleted_on_termination;
            !is_root && !came_with_launch && !given.devices.contains(&volume.device)
        })
    }

    /// Returns the ids of the instance's volumes and network interfaces.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        let volumes = self.volumes.iter().map(|volume| volume.id.clone());
        volumes.chain(self.interfaces.iter().map(|interface| interface.id.clone())).collect()
    }

    /// Returns the address that its owner keeps, in words.
    #[must_use]
    pub fn kept_address(&self) -> Option<String> {
        let address = self.interfaces.iter().find_map(|interface| interface.kept_address.as_ref())?;
        Some(format!("it has the Elastic IP {address}, which a replacement would not get"))
    }

    /// Returns what the replacement of a Kubernetes node would not have, in words.
    ///
    /// Volumes move with the pods. Addresses and interfaces come from the cluster's network.
    #[must_use]
    pub fn irreproducible_in_a_node(&self) -> Option<String> {
        self.kept_address().or_else(|| self.other.clone())
    }

    /// Returns what a replacement launched from `given` would not have, in words.
    #[must_use]
    pub fn irreproducible(&self, given: &Given, image_devices: &BTreeSet<String>) -> Option<String> {
        if let Some(why) = self.given_by_no_launch() {
            return Some(why);
        }
        if let Some(volume) = self.unexplained(given).find(|v| !image_devices.contains(&v.device)) {
            let (id, device) = (&volume.id, &volume.device);
            return Some(format!("volume {id} at {device} is in neither its template nor its image"));
        }
        self.interfaces.iter().find_map(|i| foreign(i, given))
    }

    /// Returns what a replacement would not have, whatever it is launched from, in words.
    #[must_use]
    pub fn given_by_no_launch(&self) -> Option<String> {
        if let Some(address) = self.kept_address() {
            return Some(address);
        }
        if self.forwards_traffic {
            return Some(
                "its source/destination check is off: routes point at its network interface".to_owned(),
            );
        }
        if let Some(group) = &self.by_address_in {
            return Some(format!("target group {group} has it by its private address"));
        }
        // A template that asks for more than one address per interface is refused as a whole.
        let has_more = |i: &&Interface| i.private_addresses > 1 || i.has_prefixes;
        self.interfaces.iter().find(has_more).map(more_addresses).or_else(|| self.other.clone())
    }
}

fn more_addresses(interface: &Interface) -> String {
    format!("network interface {} has more private addresses than its template asks for", interface.id)
}

fn foreign(interface: &Interface, given: &Given) -> Option<String> {
    let index = interface.device_index;
    let is_given = if given.interfaces.is_empty() { index == 0 } else { given.interfaces.contains(&index) };
    let id = &interface.id;
    if !is_given {
        return Some(format!("network interface {id} is not in its template"));
    }
    let more_ipv6 = interface.ipv6_addresses > given.ipv6_addresses.max(1); // a subnet may assign one
    more_ipv6.then(|| more_addresses(interface))
}

/// Returns why the tags of a replacement would not fit, in words.
///
/// EC2 merges the template's tags with ours at launch, and the group adds its own at the attach. Tags that
/// AWS reserves don't count. A node's replacement may have to name its cluster.
#[must_use]
pub fn too_many_tags(old: &Tags, given: &Given, propagated: &Tags, is_node: bool) -> Option<String> {
    let ours = inherited(old, "", is_node.then_some(""));
    let keys: BTreeSet<&String> = ours
        .keys()
        .chain(&given.tag_keys)
        .chain(propagated.keys())
        .filter(|key| !key.starts_with("aws:"))
        .collect();
    (keys.len() > MAX_TAGS).then(|| {
        let count = keys.len();
        format!("a replacement would carry {count} tags, ours among them, and EC2 allows {MAX_TAGS}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(device: &str) -> Volume {
        Volume {
            id: "vol-1".into(),
            device: device.into(),
            is_deleted_on_termination: false,
            is_from_launch: false,
        }
    }

    fn interface(device_index: i32) -> Interface {
        Interface {
            id: format!("eni-{device_index}"),
            device_index,
            private_addresses: 1,
            ipv6_addresses: 1,
            has_prefixes: false,
            kept_address: None,
        }
    }

    fn ordinary() -> Belongings {
        Belongings {
            root_device: Some("/dev/xvda".into()),
            volumes: vec![volume("/dev/xvda")],
            interfaces: vec![interface(0)],
            ..Belongings::default()
        }
    }

    fn why(belongings: &Belongings) -> Option<String> {
        let image = BTreeSet::from(["/dev/xvda".to_owned(), "/dev/xvdz".to_owned()]);
        let given = Given { devices: BTreeSet::from(["/dev/sdb".to_owned()]), ..Given::default() };
        belongings.irreproducible(&given, &image)
    }

    #[test]
    fn an_ordinary_member_has_nothing_of_its_own() {
        assert_eq!(why(&ordinary()), None);
        let mut more = ordinary();
        more.volumes.extend([volume("/dev/sdb"), volume("/dev/xvdz")]);
        assert_eq!(why(&more), None, "from template and image");
    }

    #[test]
    fn what_a_replacement_would_not_have_is_named() {
        type Change = fn(&mut Belongings);
        let cases: [(Change, &str); 9] = [
            (|b| b.interfaces[0].ipv6_addresses = 2, "more private addresses"),
            (|b| b.interfaces[0].kept_address = Some("203.0.113.7".into()), "Elastic IP 203.0.113.7"),
            (|b| b.volumes.push(volume("/dev/sdf")), "volume vol-1 at /dev/sdf"),
            (|b| b.interfaces.push(interface(1)), "eni-1 is not in its template"),
            (|b| b.interfaces[0].private_addresses = 2, "more private addresses"),
            (|b| b.interfaces[0].has_prefixes = true, "more private addresses"),
            (|b| b.forwards_traffic = true, "source/destination check"),
            (|b| b.by_address_in = Some("web".into()), "target group web"),
            (|b| b.other = Some("an Elastic Graphics".into()), "Elastic Graphics"),
        ];
        for (change, expected) in cases {
            let mut changed = ordinary();
            change(&mut changed);
            assert!(why(&changed).is_some_and(|why| why.contains(expected)), "{expected}");
        }
    }

    #[test]
    fn a_disk_of_an_older_template_version_goes_with_its_instance() {
        let mut older = ordinary();
        older.volumes.push(Volume {
            is_from_launch: true,
            is_deleted_on_termination: true,
            ..volume("/dev/sdf")
        });
        assert_eq!(why(&older), None);
        older.volumes[1].is_deleted_on_termination = false;
        assert!(why(&older).is_some(), "it would stay behind");
    }

    #[test]
    fn interfaces_of_the_template_are_its_own() {
        let given = Given { interfaces: BTreeSet::from([0, 1]), ..Given::default() };
        let mut two = ordinary();
        two.interfaces.push(interface(1));
        assert_eq!(two.irreproducible(&given, &BTreeSet::new()), None);
        two.interfaces.push(interface(2));
        assert!(two.irreproducible(&given, &BTreeSet::new()).is_some());
    }

    #[test]
    fn the_tags_of_template_instance_and_group_are_counted_once() {
        let tags =
            |n: std::ops::Range<u32>| (n).map(|n| (format!("k{n:02}"), String::new())).collect::<Tags>();
        let given = |n| Given { tag_keys: tags(n).into_keys().collect(), ..Given::default() };
        let none = Tags::new();
        assert_eq!(too_many_tags(&tags(0..48), &given(0..48), &none, false), None);
        assert!(too_many_tags(&tags(0..48), &given(0..48), &none, true).unwrap().contains("51 tags"));
        assert!(too_many_tags(&tags(0..49), &given(0..49), &none, false).unwrap().contains("51 tags"));
        assert!(too_many_tags(&tags(0..40), &given(0..45), &tags(40..49), false).is_some());
        let mut reserved = tags(0..48);
        reserved.insert("aws:autoscaling:groupName".into(), "web".into());
        assert_eq!(too_many_tags(&reserved, &given(0..48), &none, false), None);
        let mut managed = tags(0..48);
        managed.insert("ManagedBy".into(), "terraform".into());
        assert_eq!(too_many_tags(&managed, &given(0..48), &none, false), None, "ours takes its place");
    }
}
