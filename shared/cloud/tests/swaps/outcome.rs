//! What the end of a swap has to tell stays in the row until it is told.

use serde_json::json;
use spot_cloud::tables::swaps::{Entered, Lease, Owner, Release};
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::{End, Ended};

use crate::row::{Row, is_lease_lost, journal, lease, table, with_two_ahead};

fn ended(end: End) -> Ended {
    let remarks = vec!["image ami-1 stays".to_owned()];
    Ended { end, newcomer: None, pool: None, remarks, doubt: Some("lower desired by one".to_owned()) }
}

#[tokio::test]
async fn what_the_end_of_a_swap_tells_stays_in_the_row_until_it_is_told() {
    let (undone, row) = (with_two_ahead(), Row::new(&with_two_ahead()));
    let (swaps, _endpoint) = table(&row, 0).await;
    let outcome = swaps.close_with_outcome(&lease(), &undone, &ended(End::Undone)).await.unwrap();
    assert_eq!(outcome.journal, Journal { ahead: Vec::new(), ..undone.clone() });
    let held = swaps.read(&lease()).await.unwrap().unwrap();
    assert_eq!((held.outcome, &held.journal), (Some(outcome), &undone.successor()), "beside the next swap");

    let of_another = swaps.told(&lease(), &held.journal.unwrap().swap_id).await;
    assert!(is_lease_lost(&of_another) && row.has("closed_outcome"), "{of_another:?}");
    swaps.told(&lease(), &undone.swap_id).await.unwrap();
    let held = swaps.read(&lease()).await.unwrap().unwrap();
    assert_eq!((held.outcome, held.closed.unwrap().end), (None, End::Undone), "it was told");
}

#[tokio::test]
async fn the_next_end_and_the_end_of_the_lease_take_the_place_of_what_was_to_be_told() {
    for lets_go in [false, true] {
        let row = Row::new(&with_two_ahead());
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &with_two_ahead(), &ended(End::Undone)).await.unwrap();
        assert!(row.has("closed_outcome"));
        if lets_go {
            swaps.let_go(&lease(), "done").await.unwrap();
        } else {
            let next = swaps.read(&lease()).await.unwrap().unwrap().journal.unwrap();
            swaps.close(&lease(), &next, End::Finished, Release::Keep).await.unwrap();
        }
        assert!(!row.has("closed_outcome"), "lets go: {lets_go}");
    }
}

/// The reconciler would tell of it a second time, in the place of the swap that its execution has died in.
#[tokio::test]
async fn the_next_swap_begins_without_what_the_last_one_had_to_tell() {
    for is_ahead in [false, true] {
        let undone = if is_ahead { with_two_ahead() } else { journal() };
        let row = Row::new(&undone);
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &undone, &ended(End::Undone)).await.unwrap();
        let mut next = undone.successor().unwrap_or_else(journal);
        let entered = swaps.enter(&lease(), &mut next).await.unwrap();
        assert_eq!(matches!(entered, Entered::Again(_)), is_ahead);
        assert!(row.has("journal") && !row.has("closed_outcome"), "ahead: {is_ahead}");
    }
}

/// An older release closes a swap without it, and leaves the attribute as it is.
#[tokio::test]
async fn what_another_swap_or_another_run_had_to_tell_is_not_told_again() {
    let other_run =
        Owner::Execution("arn:aws:states:us-east-1:123456789012:execution:swap:run-2".parse().unwrap());
    for (attribute, value) in [
        ("closed_swap", json!({"S": "i-0123456789abcdef1-0"})),
        ("closed_as", json!({"S": "Finished"})),
        ("lease_owner", json!({"S": other_run.to_string()})),
        ("closed_outcome", json!({"S": "garbage"})),
        ("closed_outcome", json!({"M": {}})),
    ] {
        let row = Row::new(&journal());
        let (swaps, _endpoint) = table(&row, 0).await;
        swaps.close_with_outcome(&lease(), &journal(), &ended(End::Undone)).await.unwrap();
        row.set(attribute, value);
        let owner = if attribute == "lease_owner" { other_run.clone() } else { lease().owner };
        let held = swaps.read(&Lease { owner, ..lease() }).await.unwrap();
        assert_eq!(held.expect("it locks no row").outcome, None, "{attribute}");
    }
}
