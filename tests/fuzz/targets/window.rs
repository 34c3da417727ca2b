//! The tag `spot-optimizer:window`: the times at which a swap may start, as an owner writes them.
//!
//! The parser promises: no panic. A window prints as its owner wrote it, and reads back the same. Its next opening lies
//! in the future, and no more than a week and a day ahead. The error of a text quotes it and shows a window. A tag that
//! can't be read starts nothing: the group's and the instance's terms are an error then, which names the tag.

use jiff::{SignedDuration, Timestamp};
use spot_domain::settings::Settings;
use spot_domain::tags::Tags;
use spot_domain::watch::enrolment::{ENABLED_TAG, WINDOW_TAG, terms, terms_of_instance};
use spot_domain::watch::window::Window;
use spot_fuzz::Target;

use crate::promise;

/// The beginning of an opening on the day before, with its clock set forward, is the furthest ahead.
const FURTHEST: SignedDuration = SignedDuration::from_hours(8 * 24 + 2);
/// Days of ordinary length, both changes of the clock, and the ends of what a time can hold.
const MOMENTS: [&str; 6] = [
    "2026-01-05T08:00:00Z",
    "2026-03-28T23:30:00Z",
    "2026-10-24T23:30:00Z",
    "2028-02-29T12:00:00Z",
    "-009999-01-02T01:59:59Z",
    "9999-12-30T22:00:00Z",
];

#[test]
fn window() {
    let words = &[
        "Mon",
        "sun",
        "Tue-Sun",
        "23:59-00:00",
        "24:00",
        "Asia/Kathmandu",
        "Etc/GMT+12",
        "utc",
        "2:30-3:00",
    ];
    Target { name: "window", samples: &[], words, cases: 4_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text.parse::<Window>();
    let tags: Tags =
        [(ENABLED_TAG, "true"), (WINDOW_TAG, &*text)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let settings = Settings::default();
    let of_group = terms(&tags, &settings).map(|terms| terms.and_then(|terms| terms.window));
    let of_instance = terms_of_instance(&tags, &settings).map(|terms| terms.and_then(|terms| terms.window));
    for told in [of_group, of_instance] {
        match (&parsed, told) {
            (Ok(window), Ok(Some(told))) if told == *window => {}
            (Err(problem), Err(bad)) if bad.tag == WINDOW_TAG && bad.problem == *problem => {}
            (parsed, told) => return Err(format!("the window is {parsed:?}, and the terms are {told:?}")),
        }
    }
    match parsed {
        Err(problem) => promise(
            problem.contains(&format!("{text:?}")) && problem.contains("Mon-Fri 09:00-17:00 Europe/Berlin"),
            || problem,
        ),
        Ok(window) => holds(&window, &text),
    }
}

fn holds(window: &Window, text: &str) -> Result<(), String> {
    let again = window.to_string().parse::<Window>();
    promise(window.to_string() == text && again.as_ref() == Ok(window), || {
        format!("reads back as {again:?}")
    })?;
    for moment in MOMENTS {
        let now: Timestamp = moment.parse().unwrap();
        let _is_open: bool = window.is_open(now);
        let next = window.next_opening(now);
        promise(next.is_none_or(|next| next > now && next.duration_since(now) <= FURTHEST), || {
            format!("at {now} the next opening is {next:?}")
        })?;
        promise(next.is_some() || moment.starts_with("9999"), || format!("at {now} it never opens again"))?;
    }
    Ok(())
}
