//! The turns of the places: a sweep whose time does not suffice for all of them is continued by the next one.

use spot_cloud::scopes::{AccountRegion, Scope};

/// Sorts the places, and puts those after `begin_after` first.
pub fn begin_after(visits: &mut [Scope], begin_after: Option<&AccountRegion>) {
    visits.sort_by(|a, b| a.place.cmp(&b.place));
    // A place that is visited no more still says where its successor stands.
    let before = begin_after.map_or(0, |place| visits.partition_point(|scope| scope.place <= *place));
    visits.rotate_left(before);
}

#[cfg(test)]
mod tests {
    use spot_cloud::access::Access;
    use spot_domain::EnvironmentType;
    use spot_domain::settings::Settings;

    use super::*;

    fn place(account: u64, region: &str) -> AccountRegion {
        AccountRegion {
            account_id: format!("{account:012}").parse().unwrap(),
            region: region.parse().unwrap(),
        }
    }

    /// Returns the order of the places `a` to `d` for a sweep that begins after a place.
    fn order(after: Option<&AccountRegion>) -> String {
        let places =
            [(2, "us-east-1", 'd'), (1, "us-east-1", 'b'), (2, "eu-west-1", 'c'), (1, "eu-west-1", 'a')];
        let access = Access { environment_type: EnvironmentType::Prod, role: None };
        let scope = |(account, region, _)| Scope {
            place: place(account, region),
            access: access.clone(),
            settings: Settings::default(),
            auto_terminate: false,
            is_named: true,
        };
        let mut visits: Vec<Scope> = places.map(scope).into();
        begin_after(&mut visits, after);
        let name = |scope: &Scope| {
            places
                .iter()
                .find(|(account, region, _)| place(*account, region) == scope.place)
                .map(|found| found.2)
        };
        visits.iter().filter_map(name).collect()
    }

    #[test]
    fn a_sweep_begins_after_the_place_that_had_its_turn() {
        assert_eq!(order(None), "abcd");
        assert_eq!(order(Some(&place(1, "eu-west-1"))), "bcda");
        assert_eq!(order(Some(&place(2, "us-east-1"))), "abcd");
        assert_eq!(order(Some(&place(1, "us-west-2"))), "cdab", "that place is visited no more");
        assert_eq!(order(Some(&place(3, "us-east-1"))), "abcd", "nor is this one");
    }

    #[test]
    fn nothing_to_visit_has_no_order() {
        begin_after(&mut [], Some(&place(1, "us-east-1")));
    }
}
