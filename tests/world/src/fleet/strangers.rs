//! What somebody else has launched and made in the account, beside the group or the instance of a scene.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::instances::Ec2Instance;
use crate::fleet::launches::InstanceLaunch;

/// The ClientToken of each launch by a stranger.
const STRANGERS_TOKEN: &str = "a-stranger-s-own";

impl Ec2Instance {
    /// Returns true if a stranger has launched the instance, whatever its tags say.
    #[must_use]
    pub fn is_a_strangers(&self) -> bool {
        self.client_token == STRANGERS_TOKEN
    }
}

impl Fleet {
    /// Lets a stranger launch an instance in no group, with these tags on it and on its volume. Returns its id.
    pub fn stranger_launches(
        &mut self,
        is_spot: bool,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<String> {
        let launch = InstanceLaunch {
            instance_type: "m5.large".to_owned(),
            image_id: "ami-0a000001".to_owned(),
            zone: self.catalog.zones.first()?.clone(),
            is_spot,
            max_price: None,
            client_token: STRANGERS_TOKEN.to_owned(),
            tags: tags.clone(),
            disable_api_termination: false,
            disable_api_stop: false,
            placement_group: None,
            volume_tags: tags.clone(),
        };
        Some(self.launch(launch, now).id)
    }
}
