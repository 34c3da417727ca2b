use proptest::prelude::*;

use super::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(text: &str, now: &str) -> String {
    window(text).next_opening(at(now)).unwrap().to_string()
}

#[test]
fn office_hours_are_those_of_the_zone_in_winter_and_in_summer() {
    let office = window("Mon-Fri 09:00-17:00 Europe/Berlin");
    // 2026-01-05 and 2026-07-06 are Mondays: 09:00 is 08:00 UTC, then 07:00 UTC.
    for (moment, is_open) in [
        ("2026-01-05T07:59:59Z", false),
        ("2026-01-05T08:00:00Z", true),
        ("2026-01-05T15:59:59Z", true),
        ("2026-01-05T16:00:00Z", false),
        ("2026-07-06T06:59:59Z", false),
        ("2026-07-06T07:00:00Z", true),
        ("2026-07-06T14:59:59Z", true),
        ("2026-07-06T15:00:00Z", false),
        ("2026-01-10T10:00:00Z", false), // Saturday
    ] {
        assert_eq!(office.is_open(at(moment)), is_open, "{moment}");
    }
}

#[test]
fn the_next_opening_is_the_first_after_now() {
    let office = "Mon-Fri 09:00-17:00 Europe/Berlin";
    assert_eq!(next(office, "2026-01-05T07:00:00Z"), "2026-01-05T08:00:00Z");
    assert_eq!(next(office, "2026-01-05T08:00:00Z"), "2026-01-06T08:00:00Z", "after, not at");
    assert_eq!(next(office, "2026-01-09T20:00:00Z"), "2026-01-12T08:00:00Z", "over the weekend");
    assert_eq!(next("Mon 09:00-10:00 UTC", "2026-01-05T09:30:00Z"), "2026-01-12T09:00:00Z", "a week ahead");
    assert_eq!(next(office, "2026-03-27T20:00:00Z"), "2026-03-30T07:00:00Z", "the clock changes in between");
}

#[test]
fn a_night_belongs_to_the_day_on_which_it_begins() {
    let night = window("Fri 22:00-02:00 UTC");
    for (moment, is_open) in [
        ("2026-01-09T21:59:59Z", false),
        ("2026-01-09T22:00:00Z", true),
        ("2026-01-10T01:59:59Z", true),
        ("2026-01-10T02:00:00Z", false),
        ("2026-01-09T01:00:00Z", false), // the night from Thursday to Friday
    ] {
        assert_eq!(night.is_open(at(moment)), is_open, "{moment}");
    }
}

#[test]
fn a_night_is_an_hour_shorter_or_longer_when_the_clock_is_changed() {
    let night = window("Sat 23:00-05:00 Europe/Berlin");
    let hours = |from: &str| {
        let begin = at(from);
        let ends =
            (0..600).map(|m| begin + jiff::SignedDuration::from_mins(m)).find(|now| !night.is_open(*now));
        ends.unwrap().duration_since(begin).as_hours()
    };
    assert_eq!(hours("2026-03-28T22:00:00Z"), 5, "the hour from 2 to 3 is skipped");
    assert_eq!(hours("2026-10-24T21:00:00Z"), 7, "the hour from 2 to 3 comes twice");
    assert_eq!(hours("2026-06-06T21:00:00Z"), 6);
    // A begin that the clock skips counts as one hour later.
    assert_eq!(next("Sun 02:30-04:00 Europe/Berlin", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
}

#[test]
fn several_days_and_times_may_be_given() {
    let many = window("Mon,Wed-Thu 08:00-10:00, 20:00-21:00 Sat-Sun America/New_York");
    for (moment, is_open) in [
        ("2026-01-05T13:30:00Z", true),  // Monday 08:30
        ("2026-01-06T13:30:00Z", false), // Tuesday
        ("2026-01-07T13:30:00Z", true),
        ("2026-01-09T01:30:00Z", true),  // Thursday 20:30
        ("2026-01-09T13:30:00Z", false), // Friday
        ("2026-01-10T05:00:00Z", true),  // Saturday 00:00
        ("2026-01-12T04:59:59Z", true),  // Sunday 23:59
        ("2026-01-12T05:00:00Z", false),
    ] {
        assert_eq!(many.is_open(at(moment)), is_open, "{moment}");
    }
    let daily = window("9:00-17:00 utc");
    assert!(daily.is_open(at("2026-01-10T09:00:00Z")) && !daily.is_open(at("2026-01-10T17:00:00Z")));
    let turn = window("fri-mon 00:00-24:00 UTC");
    assert!(turn.is_open(at("2026-01-12T23:59:59Z")) && !turn.is_open(at("2026-01-13T00:00:00Z")));
    assert!(turn.is_open(at("2026-01-09T00:00:00Z")));
}

#[test]
fn a_window_that_cannot_be_read_is_refused_with_its_fault() {
    for (text, fault) in [
        ("", "is empty"),
        ("Mon-Fri 09:00-17:00", "time zone \"09:00-17:00\" is unknown"),
        ("Mon-Fri 09:00-17:00 Mars/Olympus", "time zone \"Mars/Olympus\" is unknown"),
        ("Mon-Fri 09:00-17:00 Etc/Unknown", "time zone \"Etc/Unknown\" is unknown"),
        ("Mon-Fir 09:00-17:00 UTC", "\"Mon-Fir\" ends with no day"),
        ("Monday 09:00-17:00 UTC", "\"Monday\" is neither days nor times"),
        ("Mon 9-17 UTC", "\"9-17\" is neither days nor times"),
        ("Mon 09:00-25:00 UTC", "\"09:00-25:00\" is neither"),
        ("Mon 09:00-09:00 UTC", "\"09:00-09:00\" is neither"),
        ("Mon 09:0-10:00 UTC", "\"09:0-10:00\" is neither"),
        ("Mon 24:00-25:00 UTC", "\"24:00-25:00\" is neither"),
        ("UTC", "names neither days nor times"),
    ] {
        let problem = text.parse::<Window>().unwrap_err();
        assert!(
            problem.contains(fault) && problem.contains("Mon-Fri 09:00-17:00 Europe/Berlin"),
            "{problem}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[A-Za-z0-9:, /-]{0,40}") {
        let _ = text.parse::<Window>();
    }

    /// A window that is closed opens at its next opening, and not before.
    #[test]
    fn a_window_opens_when_it_says(
        days in prop::sample::subsequence(DAYS.map(|(name, _)| name).to_vec(), 1..=7),
        begin in 0..24_u32, end in 0..24_u32,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
        second in 1_750_000_000_i64..1_850_000_000,
    ) {
        prop_assume!(begin != end);
        let window = window(&format!("{} {begin}:30-{end}:15 {zone}", days.join(",")));
        let now = Timestamp::from_second(second).unwrap();
        let next = window.next_opening(now).unwrap();
        prop_assert!(next > now && window.is_open(next));
        if !window.is_open(now) {
            let minutes = next.duration_since(now).as_mins();
            for minute in (0..minutes).step_by(7) {
                prop_assert!(!window.is_open(now + jiff::SignedDuration::from_mins(minute)));
            }
        }
    }
}
