//! The rules of [`super`], example by example and under any sequence of runs.

use super::*;
use proptest::prelude::*;

const RULES: Rules =
    Rules { grace: SignedDuration::from_hours(24), run_before_within: SignedDuration::from_mins(90) };
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const T0: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(T0 + seconds).unwrap()
}

fn look(seconds: i64) -> AuditRun {
    AuditRun { at: at(seconds), run: format!("run-{seconds}") }
}

/// A row that was flagged and noticed at zero, and last seen an hour before `now`.
fn flagged(now: i64) -> Record {
    Record {
        status: Some(AuthStatus::Flagged),
        flagged_at: Some(at(0)),
        notice_delay: Some(SignedDuration::ZERO),
        told_at: None,
        last_seen: Some(at(now - HOUR)),
        seen_by: Some("the run before".into()),
        terminating_at: None,
        reason: String::new(),
    }
}

#[test]
fn an_instance_is_due_at_the_very_end_of_its_grace_and_not_a_second_before() {
    assert_eq!(due(&flagged(DAY), &look(DAY), RULES), Ok(()));
    assert_eq!(due(&flagged(DAY - 1), &look(DAY - 1), RULES), Err(NotDue::Grace));
}

#[test]
fn a_blocked_one_stays_due() {
    let blocked = Record { status: Some(AuthStatus::TerminationBlocked), ..flagged(DAY) };
    assert_eq!(due(&blocked, &look(DAY), RULES), Ok(()));
}

#[test]
fn every_missing_condition_keeps_it_alive() {
    let good = || flagged(DAY);
    let seconds = SignedDuration::from_secs;
    let cases = [
        (Record { status: None, ..good() }, NotDue::OtherStatus),
        (Record { status: Some(AuthStatus::Suspicious), ..good() }, NotDue::OtherStatus),
        (Record { status: Some(AuthStatus::Cleared), ..good() }, NotDue::OtherStatus),
        (Record { status: Some(AuthStatus::Terminated), ..good() }, NotDue::OtherStatus),
        (Record { flagged_at: None, ..good() }, NotDue::NoClock),
        (Record { flagged_at: Some(at(2 * DAY)), ..good() }, NotDue::NoClock),
        (Record { flagged_at: Some(Timestamp::MAX), ..good() }, NotDue::NoClock),
        (Record { notice_delay: None, ..good() }, NotDue::NoNotice),
        (Record { notice_delay: Some(seconds(-1)), ..good() }, NotDue::NoNotice),
        (Record { notice_delay: Some(seconds(1)), ..good() }, NotDue::Grace),
        (Record { notice_delay: Some(SignedDuration::MAX), ..good() }, NotDue::NoClock),
        (Record { last_seen: None, ..good() }, NotDue::NotSeenBefore),
        (Record { last_seen: Some(at(DAY - 2 * HOUR)), ..good() }, NotDue::NotSeenBefore),
        (Record { last_seen: Some(at(2 * DAY)), ..good() }, NotDue::NotSeenBefore),
        (Record { seen_by: None, ..good() }, NotDue::NotSeenBefore),
        (Record { seen_by: Some(look(DAY).run), ..good() }, NotDue::NotSeenBefore),
    ];
    for (record, expected) in cases {
        assert_eq!(due(&record, &look(DAY), RULES), Err(expected), "{record:?}");
    }
}

#[test]
fn the_clock_starts_at_the_first_flag_and_no_later_run_moves_it() {
    let first = observe(None, &Authorization::Unauthorised, &look(0)).unwrap();
    assert_eq!((first.record.flagged_at, first.news), (Some(at(0)), Some(AuditNotice::Flagged)));
    let noticed = noticed(first.record, at(0));
    let again = observe(Some(&noticed), &Authorization::Unauthorised, &look(HOUR)).unwrap();
    assert_eq!(again.news, None);
    assert_eq!((again.record.flagged_at, again.record.last_seen), (Some(at(0)), Some(at(HOUR))));
}

#[test]
fn an_unreadable_or_future_flag_starts_anew_with_a_new_notice() {
    for flagged_at in [None, Some(at(10 * DAY)), Some(Timestamp::MAX)] {
        let odd = Record { flagged_at, ..flagged(DAY) };
        let change = observe(Some(&odd), &Authorization::Unauthorised, &look(DAY)).unwrap();
        assert_eq!(change.record.flagged_at, Some(at(DAY)));
        assert_eq!((change.record.notice_delay, change.news), (None, Some(AuditNotice::Flagged)));
    }
}

#[test]
fn a_clock_a_little_behind_moves_nothing() {
    let ahead = Record { flagged_at: Some(at(60)), ..flagged(0) };
    let change = observe(Some(&ahead), &Authorization::Unauthorised, &look(0)).unwrap();
    assert_eq!((change.record.flagged_at, change.news), (Some(at(60)), None));
}

#[test]
fn a_notice_that_did_not_go_out_is_owed_and_gives_the_whole_grace() {
    let unnoticed = Record { notice_delay: None, ..flagged(5 * HOUR) };
    let change = observe(Some(&unnoticed), &Authorization::Unauthorised, &look(5 * HOUR)).unwrap();
    assert_eq!(change.news, Some(AuditNotice::NoticeOwed));
    let late = noticed(change.record, at(5 * HOUR));
    assert_eq!(late.flagged_at, Some(at(0)));
    let seen = |now| Record { last_seen: Some(at(now - HOUR)), seen_by: Some("x".into()), ..late.clone() };
    assert_eq!(due(&seen(DAY), &look(DAY), RULES), Err(NotDue::Grace));
    assert_eq!(due(&seen(DAY + 5 * HOUR), &look(DAY + 5 * HOUR), RULES), Ok(()));
}

#[test]
fn authorised_again_clears_and_the_next_violation_starts_anew() {
    let authorised = Authorization::Authorised("aws:autoscaling:groupName".into());
    for status in [AuthStatus::Flagged, AuthStatus::TerminationBlocked, AuthStatus::Suspicious] {
        let open = Record { status: Some(status), ..flagged(HOUR) };
        let cleared = observe(Some(&open), &authorised, &look(HOUR)).unwrap();
        assert_eq!(
            (cleared.record.status, cleared.news),
            (Some(AuthStatus::Cleared), Some(AuditNotice::Cleared))
        );
        assert_eq!(observe(Some(&cleared.record), &authorised, &look(2 * HOUR)), None);
        let again = observe(Some(&cleared.record), &Authorization::Unauthorised, &look(3 * HOUR)).unwrap();
        assert_eq!(again.record.flagged_at, Some(at(3 * HOUR)));
    }
}

#[test]
fn a_suspicious_one_is_news_once_and_never_due() {
    let doubt = Authorization::Suspicious("it is not Spot");
    let first = observe(None, &doubt, &look(0)).unwrap();
    assert_eq!(first.news, Some(AuditNotice::Suspicious));
    let owed = observe(Some(&first.record), &doubt, &look(1)).unwrap();
    assert_eq!(owed.news, Some(AuditNotice::Suspicious));
    let again = observe(Some(&noticed(owed.record, at(1))), &doubt, &look(HOUR)).unwrap();
    assert_eq!(again.news, None);
    let much_later = observe(Some(&again.record), &doubt, &look(2 * DAY)).unwrap();
    assert_eq!(much_later.news, Some(AuditNotice::StillRuns));
    let forever = Record { last_seen: Some(at(100 * DAY - HOUR)), ..noticed(again.record, at(0)) };
    assert_eq!(due(&forever, &look(100 * DAY), RULES), Err(NotDue::OtherStatus));
}

#[test]
fn whatever_still_runs_is_told_of_once_a_day() {
    let doubt = Authorization::Suspicious("it is not Spot");
    for (status, standing) in [
        (AuthStatus::Flagged, &Authorization::Unauthorised),
        (AuthStatus::TerminationBlocked, &Authorization::Unauthorised),
        (AuthStatus::Suspicious, &doubt),
    ] {
        let mut row = Record { status: Some(status), ..flagged(HOUR) };
        let mut told_in = vec![];
        for hour in 1..=72 {
            let change = observe(Some(&row), standing, &look(hour * HOUR + hour)).unwrap();
            row = change.record;
            if let Some(news) = change.news {
                assert_eq!(news, AuditNotice::StillRuns, "{status}");
                told_in.push(hour);
                row = told(row, at(hour * HOUR + hour));
            }
        }
        assert_eq!(told_in, [23, 46, 69], "{status}");
        assert_eq!(row.flagged_at, Some(at(0)), "a reminder moves no clock");
        assert_eq!(row.notice_delay, Some(SignedDuration::ZERO));
    }
}

#[test]
fn a_reminder_that_did_not_go_out_stays_due() {
    let row = flagged(30 * HOUR);
    let change = observe(Some(&row), &Authorization::Unauthorised, &look(30 * HOUR)).unwrap();
    assert_eq!(change.news, Some(AuditNotice::StillRuns));
    let again = observe(Some(&change.record), &Authorization::Unauthorised, &look(31 * HOUR)).unwrap();
    assert_eq!(again.news, Some(AuditNotice::StillRuns));
}

#[test]
fn a_time_of_telling_that_lies_in_the_future_silences_nobody() {
    for told_at in [at(10 * DAY), Timestamp::MAX, Timestamp::MIN] {
        let odd = Record { told_at: Some(told_at), ..flagged(2 * HOUR) };
        let change = observe(Some(&odd), &Authorization::Unauthorised, &look(2 * HOUR)).unwrap();
        assert_eq!(change.news, Some(AuditNotice::StillRuns), "{told_at}");
    }
}

#[test]
fn the_end_of_the_grace_counts_from_the_later_of_flag_and_notice() {
    let grace = RULES.grace;
    assert_eq!(grace_ends(&flagged(0), grace), Some(at(DAY)));
    let late = Record { notice_delay: Some(SignedDuration::from_hours(5)), ..flagged(0) };
    assert_eq!(grace_ends(&late, grace), Some(at(DAY + 5 * HOUR)));
    assert_eq!(grace_ends(&Record { notice_delay: None, ..flagged(0) }, grace), None);
    let odd = Record { notice_delay: Some(SignedDuration::MAX), ..flagged(0) };
    assert_eq!(grace_ends(&odd, grace), None);
}

#[test]
fn what_a_swap_replaces_keeps_its_row() {
    assert_eq!(observe(Some(&flagged(DAY)), &Authorization::BeingReplaced, &look(DAY)), None);
}

#[test]
fn a_terminated_one_that_ec2_still_lists_is_left_alone_for_an_hour() {
    let done = Record { status: Some(AuthStatus::Terminated), last_seen: Some(at(0)), ..flagged(0) };
    assert_eq!(observe(Some(&done), &Authorization::Unauthorised, &look(HOUR - 1)), None);
    let change = observe(Some(&done), &Authorization::Unauthorised, &look(HOUR)).unwrap();
    assert_eq!(change.record.flagged_at, Some(at(HOUR)));
}

#[test]
fn one_that_is_gone_is_ours_only_if_the_call_was_announced() {
    let status = |record: &Record| gone(record, &look(DAY)).map(|change| change.record.status.unwrap());
    assert_eq!(status(&flagged(DAY)), Some(AuthStatus::Cleared));
    let cut = Record { terminating_at: Some(at(DAY - 1)), ..flagged(DAY) };
    assert_eq!(status(&cut), Some(AuthStatus::Terminated));
    for closed in [AuthStatus::Cleared, AuthStatus::Terminated] {
        assert_eq!(status(&Record { status: Some(closed), ..flagged(DAY) }), None);
    }
}

#[test]
fn every_status_is_read_as_it_is_written() {
    for status in AuthStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
        assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
    }
    assert!("flagged".parse::<AuthStatus>().is_err());
}

/// An event in the life of one instance.
#[derive(Debug, Clone)]
enum Happening {
    Pass(i64),
    Authorise(bool),
    Stop(bool),
    SpoilFlag(Option<i64>),
    Run { auto_terminate: bool, notice_goes_out: bool },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0_i64..3 * HOUR).prop_map(Happening::Pass),
        1 => (0_i64..40 * HOUR).prop_map(Happening::Pass),
        1 => prop::bool::weighted(0.2).prop_map(Happening::Authorise),
        1 => prop::bool::weighted(0.2).prop_map(Happening::Stop),
        1 => prop::option::of(HOUR..2 * DAY).prop_map(Happening::SpoilFlag),
        6 => (any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(auto_terminate, notice_goes_out)| Happening::Run { auto_terminate, notice_goes_out }),
    ]
}

/// An independent account of the promises, which never reads the row.
#[derive(Debug, Default)]
struct Promises {
    first_flag: Option<i64>,
    notice: Option<i64>,
    run_before: Option<(i64, bool)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No sequence of runs, tags and spoilt rows breaks a promise.
    ///
    /// - A termination happens only after the whole grace from the first flag and from its notice.
    /// - A termination never hits an authorised or stopped instance.
    /// - The run before must have seen the instance unauthorised.
    /// - The first flag never moves.
    #[test]
    fn no_sequence_of_runs_terminates_early(happenings in prop::collection::vec(happening(), 0..60)) {
        let (mut now, mut authorised, mut stopped) = (0_i64, false, false);
        let mut row: Option<Record> = None;
        let mut promised = Promises::default();
        for (n, happening) in happenings.into_iter().enumerate() {
            match happening {
                Happening::Pass(seconds) => now += seconds,
                Happening::Authorise(is) => authorised = is,
                Happening::Stop(is) => stopped = is,
                Happening::SpoilFlag(ahead) => {
                    if let Some(row) = row.as_mut().filter(|r| r.status == Some(AuthStatus::Flagged)) {
                        row.flagged_at = ahead.map(|ahead| at(now + ahead));
                        promised.first_flag = ahead.map(|ahead| now + ahead);
                    }
                }
                Happening::Run { auto_terminate, notice_goes_out } => {
                    let look = AuditRun { at: at(now), run: n.to_string() };
                    let unauthorised = !stopped && !authorised;
                    if stopped {
                        row = row.map(|r| not_running(&r).map_or(r, |change| change.record));
                    } else {
                        let standing =
                            if authorised { Authorization::Authorised("x".into()) } else { Authorization::Unauthorised };
                        let is_due = auto_terminate && unauthorised
                            && row.as_ref().is_some_and(|r| due(r, &look, RULES).is_ok());
                        if is_due {
                            let flag = promised.first_flag.expect("a termination without a flag");
                            let notice = promised.notice.expect("a termination without a notice");
                            prop_assert!(now - flag >= DAY && now - notice >= DAY);
                            let (before, saw) = promised.run_before.expect("a termination in the first run");
                            prop_assert!(saw && now - before <= 90 * 60);
                            return Ok(());
                        }
                        if let Some(change) = observe(row.as_ref(), &standing, &look) {
                            let tells = matches!(change.news, Some(AuditNotice::Flagged | AuditNotice::NoticeOwed));
                            let usable = promised.first_flag.is_some_and(|flag| flag <= now + 300);
                            if change.record.status == Some(AuthStatus::Flagged) && !usable {
                                promised.first_flag = Some(now);
                                promised.notice = None;
                            }
                            if tells && notice_goes_out {
                                promised.notice = Some(now);
                            }
                            row = Some(if tells && notice_goes_out {
                                noticed(change.record, look.at)
                            } else {
                                change.record
                            });
                        }
                        if authorised {
                            promised = Promises::default();
                        }
                    }
                    promised.run_before = Some((now, unauthorised));
                    if let (Some(first), Some(row)) = (promised.first_flag, &row) {
                        prop_assert_eq!(row.flagged_at, Some(at(first)), "the first flag moved");
                    }
                }
            }
        }
    }

    /// An authorised instance is due under no row: observing it leaves no row that is due.
    #[test]
    fn an_authorised_one_is_never_left_with_a_flag(
        status in prop::sample::select(AuthStatus::ALL.to_vec()),
        now in 0_i64..10 * DAY,
    ) {
        let before = Record { status: Some(status), ..flagged(now) };
        let look_now = look(now);
        let after = observe(Some(&before), &Authorization::Authorised("x".into()), &look_now)
            .map_or(before, |change| change.record);
        let next = AuditRun { run: "next".into(), ..look_now };
        prop_assert!(due(&after, &next, RULES).is_err());
    }
}
