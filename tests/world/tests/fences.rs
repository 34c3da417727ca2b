//! The conditions under which the Swaps table is written, over the world's DynamoDB.

use spot_cloud::tables::swaps::{Entered, Lease, Leased, Owner, Release, Swaps, SwapsError};
use spot_cloud::{Stack, environment};
use spot_domain::swap::journal::{Journal, Retirement, Stage, SwapKind};
use spot_domain::swap::recovery::End;
use spot_world::fault::Plan;
use spot_world::scene::{ACCOUNT, REGION, Scene};
use spot_world::transport::Network;
use spot_world::virtual_time::{self, now};
use tokio::runtime::Builder;

const GROUP: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:\
                     00000000-0000-4000-8000-000000000000:autoScalingGroupName/web";
const EXECUTION: &str = "arn:aws:states:us-east-1:123456789012:execution:spot-optimizer-ClusterSwap:by-hand";

/// Begins a swap, and gives the test its lease and its first journal.
fn in_a_swap(test: impl AsyncFnOnce(Swaps, Lease, Journal)) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        virtual_time::begin();
        let scene = Scene::default();
        environment::replace(scene.environment());
        let network = Network::around(scene.world(Plan::none()));
        let swaps = Swaps::new(&Stack::over(network.sdk_config(REGION)).unwrap()).unwrap();
        let lease = Lease {
            on: Leased::Group { arn: GROUP.parse().unwrap(), name: "web".parse().unwrap() },
            account_id: ACCOUNT.parse().unwrap(),
            region: REGION.parse().unwrap(),
            owner: Owner::Execution(EXECUTION.parse().unwrap()),
            since: now(),
        };
        let old = "i-00000000000000002".parse().unwrap();
        let mut journal = Journal::new(&old, lease.since, Retirement::Detach, SwapKind::Group);
        swaps.take(&lease).await.unwrap();
        assert_eq!(swaps.enter(&lease, &mut journal).await.unwrap(), Entered::First);
        test(swaps, lease, journal).await;
    });
}

#[test]
fn of_two_that_have_read_the_same_journal_one_goes_on() {
    in_a_swap(async |swaps, lease, journal| {
        let (mut first, mut second) = (journal.clone(), journal);
        second.stage = Stage::Undoing;
        swaps.revise(&lease, &mut first).await.unwrap();
        let refused = swaps.revise(&lease, &mut second).await;
        assert!(matches!(refused, Err(SwapsError::Overtaken { .. })), "{refused:?}");
    });
}

#[test]
fn a_step_that_was_overtaken_closes_nothing() {
    in_a_swap(async |swaps, lease, journal| {
        let mut latest = journal.clone();
        swaps.revise(&lease, &mut latest).await.unwrap();
        let refused = swaps.close(&lease, &journal, End::Undone, Release::Keep).await;
        assert!(matches!(refused, Err(SwapsError::Overtaken { .. })), "{refused:?}");
        assert_eq!(swaps.read(&lease).await.unwrap().unwrap().journal, Some(latest));
    });
}
