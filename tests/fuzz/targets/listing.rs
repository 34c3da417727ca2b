//! EC2's listings (`shared/listing`, and what waste scan and audit read of an item).
//!
//! The parser promises: no panic. The pieces in which an answer comes change nothing. What is not well-formed is never
//! a listing. Memory holds an item and a piece, however long the listing and however deep the item. An error says what
//! is wrong, in a line.

use quick_xml::Reader;
use quick_xml::events::Event;
use security_enforcer::fleet::facts::Facts;
use spot_fuzz::Target;
use spot_listing::collector::Collector;
use spot_listing::{Item, ListingReader, MalformedListing, Shape};
use waste_scanner::listings::describe;
use waste_scanner::listings::images::Images;
use waste_scanner::listings::launches::Launches;
use waste_scanner::listings::locks::Locks;

use crate::promise;

const SHAPES: [Shape; 4] = [
    Shape { root: "DescribeVolumesResponse", items: "volumeSet/item" },
    Shape { root: "DescribeAddressesResponse", items: "addressesSet/item" },
    Shape { root: "DescribeSnapshotsResponse", items: "snapshotSet/item" },
    Shape { root: "DescribeInstancesResponse", items: "reservationSet/item/instancesSet/item" },
];
/// The most characters of an error: it goes into a report, and into a notice.
const LONGEST_ERROR: usize = 500;

/// The most pieces that an answer is cut into.
const MOST_PIECES: usize = 4_000;

#[test]
fn listing() {
    let words = &["volumeSet", "item", "nextToken", "tagSet", "<item>", "</item>", "<item/>"];
    Target { name: "listing", samples: &[], words, cases: 1_500 }.fuzz(check);
}

fn check(answer: &[u8]) -> Result<(), String> {
    let is_of = |shape: &&Shape| answer.windows(shape.root.len()).any(|part| part == shape.root.as_bytes());
    let shape = *SHAPES.iter().find(is_of).unwrap_or(&SHAPES[0]);
    let whole = read(shape, &mut [answer].into_iter());
    // What has no end is read again from its beginning, with every piece: at most so many.
    for pieces in [1 + answer.len() / MOST_PIECES, 7 + answer.len() / MOST_PIECES, 64, 1_000] {
        let cut = read(shape, &mut answer.chunks(pieces));
        promise(whole.as_ref().ok() == cut.as_ref().ok(), || {
            format!("in pieces of {pieces}: {cut:?}\nas a whole: {whole:?}")
        })?;
    }
    match whole {
        Ok(_) => {
            well_formed(answer).map_err(|why| format!("taken for a listing, and is not well-formed: {why}"))
        }
        Err(error) => {
            let text = error.to_string();
            promise(text.chars().count() <= LONGEST_ERROR, || format!("an error of {} bytes", text.len()))
        }
    }
}

/// The items of an answer as all their readers see them, and the token of the next page.
type Listed = (Vec<String>, Option<String>);

fn read(shape: Shape, pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<Listed, MalformedListing> {
    let mut listing = Collector::new(shape, |item: &Item| Ok(Some(told(item))));
    for piece in pieces {
        listing.feed(piece)?;
    }
    listing.end()
}

fn told(item: &Item) -> String {
    let owner = "123456789012".parse().unwrap();
    let tags: Vec<_> = item.tags().collect();
    let readers = (
        describe::volume(item),
        describe::address(item),
        describe::snapshot(item, &owner, &Images::default(), &Launches::default(), &Locks::default()),
        Facts::of(item),
    );
    format!("{item:?} {tags:?} {readers:?}")
}

/// Asks a parser that holds the whole answer.
fn well_formed(answer: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(answer).map_err(|error| error.to_string())?;
    let (mut reader, mut depth, mut roots) = (Reader::from_str(text), 0_usize, 0);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(_) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            Event::Empty(_) => roots += usize::from(depth == 0),
            Event::Text(text) if depth == 0 && !text.trim().is_empty() => {
                return Err(format!("{text:?} outside"));
            }
            Event::CData(_) | Event::GeneralRef(_) if depth == 0 => return Err("a text outside".to_owned()),
            Event::Eof if depth > 0 => return Err("it breaks off".to_owned()),
            Event::Eof if roots != 1 => return Err(format!("{roots} outermost elements")),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// The reader's own text shows all that it holds.
fn held(shape: Shape, pieces: impl Iterator<Item = String>) -> usize {
    let (mut listing, mut most) = (ListingReader::new(shape), 0);
    for piece in pieces {
        if listing.feed(piece.as_bytes(), &mut |_| Ok(())).is_err() {
            break;
        }
        most = most.max(format!("{listing:?}").len());
    }
    most
}

#[test]
fn memory_holds_one_item_however_many_come() {
    let listing = |items: usize| {
        let item = "<item><volumeId>vol-1</volumeId><size>1</size></item>".to_owned();
        let head = "<DescribeVolumesResponse><volumeSet>".to_owned();
        held(SHAPES[0], [head].into_iter().chain(std::iter::repeat_n(item, items)))
    };
    assert_eq!(listing(1_000), listing(3));
}

#[test]
fn memory_does_not_grow_with_the_square_of_the_depth() {
    let deep = |depth: usize| {
        let head = "<DescribeVolumesResponse><volumeSet><item>".to_owned();
        held(SHAPES[0], [head].into_iter().chain(std::iter::repeat_n("<a><b/>".to_owned(), depth)))
    };
    assert!(deep(2_000) < 100_000, "{} bytes for an answer of 14,000", deep(2_000));
}

#[test]
fn a_tag_without_an_end_is_not_kept_for_ever() {
    let endless = std::iter::repeat_n("x".repeat(10_000), 40);
    let held = held(SHAPES[0], ["<DescribeVolumesResponse><a ".to_owned()].into_iter().chain(endless));
    // A byte is shown as up to five characters.
    assert!(held < 500_000, "{held} characters");
}
