//! Images that are made of instances, and their snapshots.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::catalog::ROOT_DEVICE;
use crate::fleet::ec2::{done, unknown_filter, unknown_instance};
use crate::fleet::launches::tags_for;
use crate::fleet::parameters::{matches, plays_only, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// The state of an image, as EC2 names it.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageState {
    Pending,
    Available,
    /// EC2 could not make it. Its snapshots stay, and it is deregistered as any other.
    Failed,
}

impl ImageState {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Failed => "failed",
        }
    }
}

/// An image that the account has made of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnImage {
    pub id: String,
    pub name: String,
    pub source_instance_id: String,
    pub snapshot_id: String,
    pub tags: BTreeMap<String, String>,
    pub state: ImageState,
    /// The volume of its instances outlives them: it has `DeleteOnTermination` from the instance that it was made of.
    pub keeps_volume: bool,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: String,
    pub description: String,
    pub started_at: Timestamp,
    pub completes_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}

/// The images of the account, those that were deregistered not included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnImages {
    /// By id.
    pub images: BTreeMap<String, OwnImage>,
    /// By id.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The ids of all images that there ever were.
    known: Vec<String>,
    /// By snapshot: its image, and the time until which EC2 takes the image for registered.
    released: BTreeMap<String, (String, Timestamp)>,
}

impl Fleet {
    /// Returns the account's own images and snapshots.
    #[must_use]
    pub fn own_images(&self) -> &OwnImages {
        &self.own_images
    }

    /// Makes an image with one snapshot. A name is taken until its image is deregistered.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html>
    pub(super) fn create_image(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["InstanceId", "Name", "Description", "NoReboot", "TagSpecification"])?;
        let (source, name) = (required(call, "InstanceId")?, required(call, "Name")?);
        if call.parameter("NoReboot") != Some("true") {
            return Err(ApiError::not_played("an image with a reboot"));
        }
        let instance = self.visible(source, now).ok_or_else(|| unknown_instance(source))?;
        if instance.state.is_ending() {
            return Err(ApiError::new("IncorrectState", format!("instance {source} has ended")));
        }
        if let Some(taken) = self.own_images.images.values().find(|image| image.name == name) {
            let text = format!("AMI name {name} is already in use by AMI {}", taken.id);
            return Err(ApiError::new("InvalidAMIName.Duplicate", text));
        }
        let tags = (tags_for(call, "image"), tags_for(call, "snapshot"));
        let (id, _) = self.make_image(source, name, tags, now);
        let mut xml = Xml::default();
        xml.text("imageId", id);
        Ok(xml)
    }

    /// Makes an image and its snapshot, each with its tags. Returns their ids.
    pub fn make_image(
        &mut self,
        source: &str,
        name: &str,
        (of_image, of_snapshot): (BTreeMap<String, String>, BTreeMap<String, String>),
        now: Timestamp,
    ) -> (String, String) {
        let keeps_volume = self.instances.get(source).is_some_and(|instance| instance.keeps_volume);
        self.counter += 1;
        let (id, snapshot_id) =
            (format!("ami-1{:016x}", self.counter), format!("snap-{:017x}", self.counter));
        let snapshot = Snapshot {
            id: snapshot_id.clone(),
            // <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-create-snapshot.html>
            description: format!("Created by CreateImage({source}) for {id}"),
            started_at: now,
            completes_at: now + self.habits.images_after,
            tags: of_snapshot,
        };
        let image = OwnImage {
            id: id.clone(),
            name: name.to_owned(),
            source_instance_id: source.to_owned(),
            snapshot_id: snapshot_id.clone(),
            tags: of_image,
            state: ImageState::Pending,
            keeps_volume,
        };
        self.own_images.snapshots.insert(snapshot_id.clone(), snapshot);
        self.own_images.images.insert(id.clone(), image);
        self.own_images.known.push(id.clone());
        self.at(now + self.habits.images_after, DueChange::ImageIsMade(id.clone()));
        (id, snapshot_id)
    }

    pub(super) fn snapshot_goes(&mut self, id: &str) {
        self.own_images.snapshots.remove(id);
    }

    pub(super) fn image_is_made(&mut self, id: &str) {
        if let Some(image) = self.own_images.images.get_mut(id) {
            image.state = if self.habits.images_fail { ImageState::Failed } else { ImageState::Available };
        }
    }

    /// Shows the account's own images and, unless the call asks for those alone, the public ones. One that has failed never
    /// names its snapshot.
    pub(super) fn describe_images(&self, call: &ApiCall) -> Answered {
        let filters = call.filters();
        let mut own = Vec::new();
        for image in self.own_images.images.values() {
            if image_passes(image, &filters)? {
                own.push(image);
            }
        }
        let wanted = filters.iter().find(|(name, _)| name == "image-id").map(|(_, ids)| ids);
        let is_public = !call.list("Owner").contains(&"self");
        let mut xml = Xml::default();
        xml.within("imagesSet", |xml| {
            for image in own {
                xml.within("item", |xml| self.write_image(xml, image));
            }
            if is_public {
                self.write_public_images(xml, wanted);
            }
        });
        Ok(xml)
    }

    pub(super) fn describe_snapshots(&self, call: &ApiCall) -> Answered {
        let filters = call.filters();
        let mut shown = Vec::new();
        for snapshot in self.own_images.snapshots.values() {
            if snapshot_passes(snapshot, &filters)? {
                shown.push(snapshot);
            }
        }
        let mut xml = Xml::default();
        xml.list("snapshotSet", "item", shown, |xml, snapshot| {
            xml.text("snapshotId", &snapshot.id);
            xml.text("description", &snapshot.description);
            xml.text("ownerId", &self.account);
            xml.time("startTime", snapshot.started_at);
            xml.tags(&snapshot.tags);
        });
        Ok(xml)
    }

    /// Deregisters an image. Its snapshots stay.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html>
    pub(super) fn deregister_image(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["ImageId"])?;
        let id = required(call, "ImageId")?;
        let is_pending =
            self.own_images.images.get(id).is_some_and(|image| image.state == ImageState::Pending);
        if is_pending && !self.habits.pending_image_deregisters {
            return Err(unavailable(id));
        }
        match self.own_images.images.remove(id) {
            Some(image) => {
                let until = now + self.habits.snapshot_in_use_after;
                self.own_images.released.insert(image.snapshot_id, (image.id, until));
                Ok(done())
            }
            None if self.own_images.known.iter().any(|known| known == id) => Err(unavailable(id)),
            None => Err(no_image(id)),
        }
    }

    /// Deletes a snapshot that no image needs. One that is in progress goes once it is complete.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSnapshot.html>
    /// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html>
    pub(super) fn delete_snapshot(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["SnapshotId"])?;
        let id = required(call, "SnapshotId")?;
        if let Some(user) = self.user_of_snapshot(id, now) {
            let text = format!("The snapshot {id} is currently in use by {user}");
            return Err(ApiError::new("InvalidSnapshot.InUse", text));
        }
        let snapshot = self.own_images.snapshots.get(id);
        let Some(completes_at) = snapshot.map(|snapshot| snapshot.completes_at) else {
            let text = format!("The snapshot '{id}' does not exist.");
            return Err(ApiError::new("InvalidSnapshot.NotFound", text));
        };
        if now < completes_at {
            self.at(completes_at, DueChange::SnapshotGoes(id.to_owned()));
        } else {
            self.snapshot_goes(id);
        }
        Ok(done())
    }

    /// Returns the image that needs the snapshot, or that needed it a moment ago.
    fn user_of_snapshot(&self, id: &str, now: Timestamp) -> Option<&str> {
        let OwnImages { images, released, .. } = &self.own_images;
        let user = images.values().find(|image| image.snapshot_id == id).map(|image| image.id.as_str());
        let late = released.get(id).filter(|(_, until)| now < *until);
        user.or_else(|| late.map(|(image, _)| image.as_str()))
    }

    /// Refuses a launch from an image that is pending, has failed, or is deregistered.
    pub(super) fn refuse_image(&self, id: &str) -> Result<(), ApiError> {
        match self.own_images.images.get(id) {
            Some(image) if image.state == ImageState::Available => Ok(()),
            None if !self.own_images.known.iter().any(|known| known == id) => Ok(()),
            _ => Err(unavailable(id)),
        }
    }

    fn write_image(&self, xml: &mut Xml, image: &OwnImage) {
        let is_pending = image.state == ImageState::Pending;
        let names_source = !is_pending || self.habits.pending_image_names_source;
        let names_snapshots = match image.state {
            ImageState::Pending => self.habits.pending_image_names_snapshots,
            ImageState::Available => true,
            ImageState::Failed => false,
        };
        xml.text("imageId", &image.id);
        xml.text("name", &image.name);
        xml.text("imageState", image.state.name());
        if image.state == ImageState::Failed {
            xml.within("stateReason", |xml| {
                xml.text("code", "Client.InternalError");
                xml.text("message", "Client.InternalError: the key of a volume is disabled");
            });
        }
        xml.optional("sourceInstanceId", names_source.then_some(&image.source_instance_id));
        xml.text("rootDeviceName", ROOT_DEVICE);
        xml.list("blockDeviceMapping", "item", [ROOT_DEVICE], |xml, device| {
            xml.text("deviceName", device);
            xml.within("ebs", |xml| {
                xml.optional("snapshotId", names_snapshots.then_some(&image.snapshot_id));
                xml.text("deleteOnTermination", !image.keeps_volume);
            });
        });
        xml.tags(&image.tags);
    }
}

fn image_passes(image: &OwnImage, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    all_pass(filters, |name| match (name, name.strip_prefix("tag:")) {
        ("image-id", _) => Ok(Some(&image.id)),
        ("name", _) => Ok(Some(&image.name)),
        (_, Some(key)) => Ok(image.tags.get(key)),
        (other, None) => Err(unknown_filter(other)),
    })
}

fn snapshot_passes(snapshot: &Snapshot, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    all_pass(filters, |name| match name.strip_prefix("tag:") {
        Some(key) => Ok(snapshot.tags.get(key)),
        None => Err(unknown_filter(name)),
    })
}

/// Returns true if the value of each filter matches one of its patterns. What has no value passes none.
fn all_pass<'a>(
    filters: &[(String, Vec<String>)],
    value: impl Fn(&str) -> Result<Option<&'a String>, ApiError>,
) -> Result<bool, ApiError> {
    for (name, wanted) in filters {
        let value = value(name)?;
        if !value.is_some_and(|value| wanted.iter().any(|pattern| matches(pattern, value))) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_image(id: &str) -> ApiError {
    ApiError::new("InvalidAMIID.NotFound", format!("The image id '[{id}]' does not exist"))
}

fn unavailable(id: &str) -> ApiError {
    ApiError::new("InvalidAMIID.Unavailable", format!("The image ID '{id}' is not available"))
}
