//! The volumes of the instance that a twin repeats, with their tags.

use spot_domain::swap::group::Instance;
use spot_domain::swap::lab::losses::TwinVolume;
use spot_domain::tags::Tags;

use super::TwinSource;

/// Returns the instance's EBS volumes as the rules use them.
pub(super) fn of(source: &TwinSource, known: &Instance) -> Vec<TwinVolume> {
    let tags = |id: &str| -> Tags {
        let described = source.volumes.iter().find(|volume| volume.volume_id() == Some(id));
        let tags = described.map(|volume| volume.tags()).unwrap_or_default().iter();
        tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
            .collect()
    };
    let volumes = known.belongings.volumes.iter();
    volumes
        .map(|volume| TwinVolume {
            id: volume.id.clone(),
            device: volume.device.clone(),
            is_from_launch: volume.is_from_launch,
            is_deleted_on_termination: volume.is_deleted_on_termination,
            tags: tags(&volume.id),
        })
        .collect()
}
