//! The times of a week at which a group's owner lets swaps start: `Mon-Fri 09:00-17:00 Europe/Berlin`.
//!
//! A window is a list of days and times of day, and a time zone at its end. Times follow the days that they hold for;
//! days without times are open the whole day, times without days are open every day. Commas may separate the parts.
//! An end before its begin lies on the next day.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The days that hold every opening of a week, with one more on each side for openings over midnight.
const DAYS_AHEAD: i64 = 8;
const EXPECTED: &str = "expected days, times and a time zone, such as Mon-Fri 09:00-17:00 Europe/Berlin";
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A weekly window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    zone: TimeZone,
    openings: Vec<Opening>,
    text: String,
}

/// One opening of a day of the week. An end that is not after the begin lies on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    day: Weekday,
    begin: Time,
    end: Time,
}

impl Window {
    /// Returns true if a swap may start now.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.spans(now, -1..=0).any(|(begin, end)| begin <= now && now < end)
    }

    /// Returns the next time at which the window opens. `None` if it never does, or not in the years that a time can
    /// hold.
    #[must_use]
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.spans(now, 0..=DAYS_AHEAD).map(|(begin, _)| begin).filter(|begin| *begin > now).min()
    }

    /// Returns the openings that begin on these days, counted from today. The zone's rules decide how long each is: the
    /// clock may be changed in the middle.
    fn spans(
        &self,
        now: Timestamp,
        days: std::ops::RangeInclusive<i64>,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = now.to_zoned_datetime(self.zone.clone()).date();
        let dates = days.filter_map(move |days| today.checked_add(days.days()).ok());
        dates.flat_map(move |date| {
            let of_day = self.openings.iter().filter(move |opening| opening.day == date.weekday());
            of_day.filter_map(move |opening| {
                let last = if opening.end <= opening.begin { date.tomorrow().ok()? } else { date };
                Some((self.moment(date, opening.begin)?, self.moment(last, opening.end)?))
            })
        })
    }

    /// Returns the moment of a local time. A time that the clock skips counts as one hour later, of a time that it shows
    /// twice the first counts.
    fn moment(&self, date: Date, time: Time) -> Option<Timestamp> {
        Some(date.to_datetime(time).to_zoned_datetime(self.zone.clone()).ok()?.timestamp())
    }
}

impl fmt::Display for Window {
    /// Writes the window as its owner wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).map_err(|problem| format!("{text:?}: {problem}; {EXPECTED}"))
    }
}

fn read(text: &str) -> Result<Window, String> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()).collect();
    let Some((zone, words)) = words.split_last() else { return Err("is empty".to_owned()) };
    let zone = time_zone(zone)?;
    let (mut openings, mut days, mut has_times) = (Vec::new(), Vec::new(), false);
    for word in words {
        if let Some(more) = parse_days(word) {
            if has_times {
                days.clear();
                has_times = false;
            }
            days.extend(more.map_err(|problem| format!("{word:?} {problem}"))?);
            continue;
        }
        let (begin, end) = times(word).ok_or_else(|| format!("{word:?} is neither days nor times"))?;
        if !has_times && days.is_empty() {
            days.extend(DAYS.map(|(_, day)| day));
        }
        has_times = true;
        openings.extend(days.iter().map(|day| Opening { day: *day, begin, end }));
    }
    if !has_times {
        let (begin, end) = (Time::midnight(), Time::midnight());
        openings.extend(days.iter().map(|day| Opening { day: *day, begin, end }));
    }
    if openings.is_empty() {
        return Err("names neither days nor times".to_owned());
    }
    Ok(Window { zone, openings, text: text.to_owned() })
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("time zone {name:?} is unknown");
    let zone = TimeZone::get(name).map_err(|_| unknown())?;
    if zone.is_unknown() { Err(unknown()) } else { Ok(zone) }
}

/// Parses `Mon` or `Mon-Fri`; `None` if the word does not begin as a day does.
fn parse_days(word: &str) -> Option<Result<Vec<Weekday>, &'static str>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let first = day(first)?;
    let Some(last) = day(last) else { return Some(Err("ends with no day")) };
    let count = last.since(jiff::civil::Weekday::Monday) - first.since(jiff::civil::Weekday::Monday);
    Some(Ok((0..=count.rem_euclid(7)).map(|days| first.wrapping_add(days)).collect()))
}

fn day(word: &str) -> Option<Weekday> {
    DAYS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, day)| *day)
}

/// Parses `09:00-17:00`. `24:00` is the end of the day.
fn times(word: &str) -> Option<(Time, Time)> {
    let (begin, end) = word.split_once('-')?;
    let is_end_of_day = end == "24:00";
    let (begin, end) = (time(begin)?, if is_end_of_day { Time::midnight() } else { time(end)? });
    (begin != end || is_end_of_day).then_some((begin, end))
}

fn time(word: &str) -> Option<Time> {
    let (hour, minute) = word.split_once(':')?;
    let number = |digits: &str, most: usize| {
        let is_number = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<i8>().ok()).flatten()
    };
    let minute = number(minute, 2).filter(|_| minute.len() == 2)?;
    Time::new(number(hour, 2)?, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests;
