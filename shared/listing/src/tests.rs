#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::collector::Collector;

const VOLUMES: Shape = Shape { root: "DescribeVolumesResponse", items: "volumeSet/item" };

/// An answer as EC2 lays it out, with its white space.
const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>59dbff89-35bd-4eac-99ed-be587EXAMPLE</requestId>
    <volumeSet>
        <item>
            <volumeId>vol-1</volumeId>
            <size>80</size>
            <snapshotId/>
            <attachmentSet>
                <item><volumeId>vol-other</volumeId><device>/dev/sdh</device></item>
            </attachmentSet>
            <tagSet>
                <item><key>Name</key><value>a &lt;b&gt; &amp; c&#x2014;d > e</value></item>
                <item><key>empty</key><value/></item>
            </tagSet>
            <operator><managed>true</managed></operator>
            <description note=">"><![CDATA[<new> > &old;]]></description><!-- <b>no</c> > -->
        </item>
        <item><volumeId>vol-2</volumeId><size>eighty</size></item>
    </volumeSet>
    <nextToken>a+b=</nextToken>
</DescribeVolumesResponse>
"#;

/// The parts of an item that the tests compare.
fn told(item: &Item) -> String {
    let tags: Vec<_> = item.tags().collect();
    let nested: Vec<_> =
        ["attachmentSet/item/device", "description"].iter().flat_map(|path| item.all(path)).collect();
    format!("{:?} {:?} {nested:?} {tags:?}", item.text("volumeId"), item.parse::<u32>("size"))
}

fn read(pieces: &[&[u8]]) -> Result<(Vec<String>, Option<String>), MalformedListing> {
    let mut listing = Collector::new(VOLUMES, |item: &Item| Ok(Some(told(item))));
    pieces.iter().try_for_each(|piece| listing.feed(piece))?;
    listing.end()
}

#[test]
fn items_and_the_next_token_are_read() {
    let (items, next) = read(&[ANSWER.as_bytes()]).unwrap();
    assert_eq!(
        items[0],
        r#"Some("vol-1") Ok(Some(80)) ["/dev/sdh", "<new> > &old;"] [("Name", "a <b> & c—d > e"), ("empty", "")]"#
    );
    assert!(items[1].starts_with(r#"Some("vol-2") Err(Field { path: "size", found: Some("eighty") })"#));
    assert_eq!((items.len(), next.as_deref()), (2, Some("a+b=")));
}

#[test]
fn what_is_there_is_told_from_what_is_not() {
    let mut seen = Vec::new();
    let mut look = |item: &Item| {
        seen.push(["snapshotId", "operator", "oper", "iops"].map(|path| item.has(path)));
        assert_eq!(item.text("snapshotId"), None);
        assert_eq!(item.required("iops"), Err(MalformedListing::Field { path: "iops", found: None }));
        Ok(())
    };
    ListingReader::new(VOLUMES).feed(ANSWER.as_bytes(), &mut look).unwrap();
    assert_eq!(seen, [[true, true, false, false], [false; 4]]);
}

#[test]
fn an_empty_listing_has_no_items_and_no_next_page() {
    let empty = "<DescribeVolumesResponse><volumeSet/><nextToken/></DescribeVolumesResponse>";
    assert_eq!(read(&[empty.as_bytes()]), Ok((vec![], None)));
}

#[test]
fn an_answer_without_a_list_is_not_an_empty_listing() {
    let error = read(&[b"<DescribeVolumesResponse><requestId>1</requestId></DescribeVolumesResponse>"]);
    assert_eq!(error, Err(MalformedListing::NoList("volumeSet")));
    let elsewhere = b"<DescribeVolumesResponse><a><volumeSet/></a></DescribeVolumesResponse>";
    assert_eq!(read(&[elsewhere]), Err(MalformedListing::NoList("volumeSet")));
}

#[test]
fn another_answer_is_refused() {
    let error = read(&[b"<html><body>proxy</body></html>"]).unwrap_err();
    assert_eq!(error.to_string(), "the answer is a html, not a DescribeVolumesResponse");
    assert!(matches!(read(&[b"<DescribeVolumesResponse></a></b>"]), Err(MalformedListing::Xml(_))));
    assert!(matches!(read(&[b"<DescribeVolumesResponse>&nbsp;<a/>"]), Err(MalformedListing::Xml(_))));
    assert!(matches!(read(&[b"<DescribeVolumesResponse>\xff</a>"]), Err(MalformedListing::Xml(_))));
}

#[test]
fn what_is_not_well_formed_is_no_listing() {
    let around = |inside: &str| format!("<DescribeVolumesResponse>{inside}</DescribeVolumesResponse>");
    let answers = [
        (around("<volumeSet><item></volumeSet></item>"), "</volumeSet> ends <item>"),
        (around("<volumeSet/>").replace("</Describe", "</List"), "ends <DescribeVolumesResponse>"),
        (around("<volumeSet/>") + " and more <!-- -->", "\"and more\" outside of the answer"),
        (around("<volumeSet/>") + "</a>", "an end tag too many"),
        (around(&"<a>".repeat(64)), "more than 64 elements inside each other"),
    ];
    for (answer, expected) in answers {
        let error = read(&[answer.as_bytes()]).unwrap_err().to_string();
        assert!(error.contains(expected), "{answer}: {error}");
    }
    for open in [" <half", " and more"] {
        let answer = around("<volumeSet/>") + open;
        assert_eq!(read(&[answer.as_bytes()]), Err(MalformedListing::BrokenOff), "{answer}");
    }
}

#[test]
fn a_tag_that_does_not_end_is_given_up() {
    let endless = vec![b'a'; LONGEST_PENDING / 2];
    let error = read(&[b"<DescribeVolumesResponse><", &endless, &endless, &endless]).unwrap_err();
    assert!(error.to_string().contains("does not end within"), "{error}");
}

#[test]
fn an_item_that_cannot_be_read_stops_the_listing() {
    let refuse = MalformedListing::Field { path: "volumeId", found: None };
    let outcome = ListingReader::new(VOLUMES).feed(ANSWER.as_bytes(), &mut |_| Err(refuse.clone()));
    assert_eq!(outcome, Err(refuse));
}

proptest! {
    /// An answer reads the same, however the network cuts it.
    #[test]
    fn pieces_of_any_length_read_as_the_whole(cuts in prop::collection::vec(0..ANSWER.len(), 0..40)) {
        let mut cuts = cuts;
        cuts.extend([0, ANSWER.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &ANSWER.as_bytes()[cut[0]..cut[1]]).collect();
        prop_assert_eq!(read(&pieces), read(&[ANSWER.as_bytes()]));
    }

    /// An answer that breaks off anywhere is never taken for a listing.
    #[test]
    fn half_an_answer_is_an_error(end in 0..ANSWER.trim_end().len()) {
        prop_assert!(read(&[&ANSWER.as_bytes()[..end]]).is_err());
    }

    /// No input makes the parser panic.
    #[test]
    fn nothing_makes_it_panic(noise in "[<>/&;#=\"a-z \u{e4}]{0,80}") {
        let _ = read(&[b"<DescribeVolumesResponse><volumeSet><item>", noise.as_bytes()]);
    }
}
