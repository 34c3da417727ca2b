//! Volumes: each instance has one from its launch, which goes with it or outlives it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::catalog::ROOT_DEVICE;
use crate::fleet::ec2::{done, unknown_filter};
use crate::fleet::instances::{Ec2Instance, Ec2State};
use crate::fleet::parameters::{matches, plays_only, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// A volume that is attached to no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeVolume {
    pub id: String,
    /// The name of its zone.
    pub zone: String,
    pub created_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}

impl Fleet {
    /// Returns the volumes that are attached to no instance, by id.
    #[must_use]
    pub fn free_volumes(&self) -> &BTreeMap<String, FreeVolume> {
        &self.free_volumes
    }

    /// Makes a new volume with the tags of an instance's volume, as a backup policy of the account may. Returns its id.
    pub fn owner_copies_volume(&mut self, instance_id: &str, now: Timestamp) -> Option<String> {
        let instance = self.instances.get(instance_id)?;
        let (zone, tags) = (instance.zone.clone(), instance.volume_tags.clone());
        self.counter += 1;
        let id = format!("vol-{:017x}", self.counter);
        let volume = FreeVolume { id: id.clone(), zone, created_at: now, tags };
        self.free_volumes.insert(id.clone(), volume);
        Some(id)
    }

    /// Returns true if the volumes of the image's instances outlive them.
    pub(super) fn keeps_volume(&self, image_id: &str) -> bool {
        let own = self.own_images.images.get(image_id);
        own.is_some_and(|image| image.keeps_volume) || self.keeping_images.contains(image_id)
    }

    /// Frees the volume of an instance that is terminated, if it outlives the instance.
    pub(super) fn lets_go_of_volume(&mut self, instance_id: &str) {
        let Some(instance) = self.instances.get(instance_id).filter(|it| it.keeps_volume) else { return };
        let volume = FreeVolume {
            id: instance.volume_id(),
            zone: instance.zone.clone(),
            created_at: instance.launched_at,
            tags: instance.volume_tags.clone(),
        };
        self.free_volumes.insert(volume.id.clone(), volume);
    }

    pub(super) fn describe_volumes(&self, call: &ApiCall, now: Timestamp) -> Answered {
        let filters = call.filters();
        let is_shown =
            |it: &&Ec2Instance| it.state != Ec2State::Terminated && self.visible(&it.id, now).is_some();
        let attached = self.instances.values().filter(is_shown).map(DescribedVolume::of_instance);
        let free = self.free_volumes.values().map(DescribedVolume::of_nobody);
        let mut shown = Vec::new();
        for volume in attached.chain(free) {
            if volume.passes(&filters)? {
                shown.push(volume);
            }
        }
        let mut xml = Xml::default();
        xml.list("volumeSet", "item", &shown, |xml, volume| volume.write(xml));
        Ok(xml)
    }

    /// Deletes a volume that is attached to no instance.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteVolume.html>
    pub(super) fn delete_volume(&mut self, call: &ApiCall) -> Answered {
        plays_only(call, &["VolumeId"])?;
        let id = required(call, "VolumeId")?;
        let has_it = |it: &&Ec2Instance| it.state != Ec2State::Terminated && it.volume_id() == id;
        if let Some(holder) = self.instances.values().find(has_it) {
            let text = format!("Volume {id} is currently attached to {}", holder.id);
            return Err(ApiError::new("VolumeInUse", text));
        }
        let missing =
            || ApiError::new("InvalidVolume.NotFound", format!("The volume '{id}' does not exist."));
        self.free_volumes.remove(id).map(|_| done()).ok_or_else(missing)
    }
}

/// A volume as EC2 describes it.
struct DescribedVolume<'a> {
    id: String,
    zone: &'a str,
    created_at: Timestamp,
    tags: &'a BTreeMap<String, String>,
    holder: Option<&'a Ec2Instance>,
}

impl<'a> DescribedVolume<'a> {
    fn of_instance(holder: &'a Ec2Instance) -> Self {
        Self {
            id: holder.volume_id(),
            zone: &holder.zone,
            created_at: holder.launched_at,
            tags: &holder.volume_tags,
            holder: Some(holder),
        }
    }

    fn of_nobody(volume: &'a FreeVolume) -> Self {
        Self {
            id: volume.id.clone(),
            zone: &volume.zone,
            created_at: volume.created_at,
            tags: &volume.tags,
            holder: None,
        }
    }

    fn passes(&self, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
        for (name, wanted) in filters {
            let text = |text: &str| wanted.iter().any(|pattern| matches(pattern, text));
            let passes = match (name.as_str(), name.strip_prefix("tag:")) {
                ("volume-id", _) => text(&self.id),
                (_, Some(key)) => self.tags.get(key).is_some_and(|value| text(value)),
                (other, None) => return Err(unknown_filter(other)),
            };
            if !passes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&self, xml: &mut Xml) {
        xml.text("volumeId", &self.id);
        xml.text("availabilityZone", self.zone);
        xml.text("status", if self.holder.is_some() { "in-use" } else { "available" });
        xml.text("volumeType", "gp3");
        xml.text("size", 8);
        xml.time("createTime", self.created_at);
        xml.list("attachmentSet", "item", self.holder, |xml, holder| {
            xml.text("volumeId", &self.id);
            xml.text("instanceId", &holder.id);
            xml.text("device", ROOT_DEVICE);
            xml.text("status", "attached");
            xml.time("attachTime", holder.launched_at);
            xml.text("deleteOnTermination", !holder.keeps_volume);
        });
        xml.tags(self.tags);
    }
}
