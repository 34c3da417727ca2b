//! The images of an account, those in the Recycle Bin included, and the snapshots that they need.

use std::collections::HashSet;

use spot_cloud::CallError;
use spot_domain::waste::resources::{BinnedImage, images_named};

use super::ids::Ids;

/// The images of an account and the snapshots that they need.
#[derive(Debug, Default)]
pub struct Images {
    /// Snapshots that a registered image refers to, by id.
    pub(crate) snapshots: HashSet<Box<str>>,
    /// The registered images, by id.
    pub(crate) registered: HashSet<Box<str>>,
    /// The images in the Recycle Bin, by id, or why they can't be read.
    pub(crate) recycle_bin: Ids,
}

impl Images {
    /// Returns true if a registered image refers to the snapshot.
    #[must_use]
    pub fn use_snapshot(&self, id: &str) -> bool {
        self.snapshots.contains(id)
    }

    /// Returns the state of the image that a snapshot of this description belongs to, by the Recycle Bin.
    #[must_use]
    pub fn in_recycle_bin(&self, description: &str) -> BinnedImage {
        let mut named = images_named(description);
        match &self.recycle_bin {
            Ids::Read(binned) if named.any(|id| binned.contains(id)) => BinnedImage::Named,
            Ids::Unread(_) if named.any(|id| !self.registered.contains(id)) => BinnedImage::Unknown,
            Ids::Read(_) | Ids::Unread(_) => BinnedImage::None,
        }
    }

    /// Returns the error by which the Recycle Bin could not be read, if any.
    #[must_use]
    pub fn unread(&self) -> Option<&CallError> {
        self.recycle_bin.unread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "Created by CreateImage(i-0123456789abcdef0) for ami-0123456789abcdef0";

    fn ids(ids: &[&str]) -> HashSet<Box<str>> {
        ids.iter().map(|id| Box::from(*id)).collect()
    }

    #[test]
    fn a_snapshot_is_needed_by_the_binned_image_that_its_description_names() {
        let binned = Ids::Read(ids(&["ami-0123456789abcdef0"]));
        let images = Images { recycle_bin: binned, ..Images::default() };
        assert_eq!(images.in_recycle_bin(MADE), BinnedImage::Named);
        assert_eq!(images.in_recycle_bin("nightly of ami-0fedcba9876543210"), BinnedImage::None);
        assert_eq!(Images::default().in_recycle_bin(MADE), BinnedImage::None, "the bin is empty");
    }

    #[test]
    fn without_the_bin_only_snapshots_of_vanished_images_are_in_doubt() {
        let unread = Ids::Unread(CallError::malformed("ec2:ListImagesInRecycleBin", "denied"));
        let registered = ids(&["ami-0fedcba9876543210"]);
        let images = Images { registered, recycle_bin: unread, ..Images::default() };
        assert_eq!(images.in_recycle_bin(MADE), BinnedImage::Unknown);
        assert_eq!(
            images.in_recycle_bin("made for ami-0fedcba9876543210"),
            BinnedImage::None,
            "it is registered"
        );
        assert_eq!(images.in_recycle_bin("nightly"), BinnedImage::None);
    }
}
