//! EC2's long listings, read as they arrive: the items of an answer, and the text in each.
//!
//! The SDK holds a whole answer in memory, and compares each element with every field that a resource can
//! have. Over thousands of resources, that was most of the cost of an audit or a waste scan. Here an answer
//! comes in pieces of any length, and memory holds one piece and one item. An answer that is not well-formed,
//! or that breaks off before its end, is an error: half a listing never reads as a whole one.

pub mod collector;
mod item;
mod malformed;

use quick_xml::Reader;
use quick_xml::errors::{Error, SyntaxError};
use quick_xml::events::{BytesRef, Event};

pub use item::Item;
pub use malformed::MalformedListing;

/// The most elements inside each other. EC2's listings have nine; an item keeps the path of each of its elements.
const DEEPEST: usize = 64;
/// The most bytes of a tag or a text that has not ended. EC2's longest text is a few kilobytes.
const LONGEST_PENDING: usize = 1 << 16;
/// The most characters that an error quotes.
const QUOTED: usize = 80;

/// The layout of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The outermost element, such as `DescribeVolumesResponse`.
    pub root: &'static str,
    /// The path of the items below the outermost element: `volumeSet/item`.
    pub items: &'static str,
}

impl Shape {
    /// Returns the list that every answer has: `volumeSet`.
    fn list(&self) -> &'static str {
        self.items.split_once('/').map_or(self.items, |(list, _)| list)
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub struct ListingReader {
    shape: Shape,
    /// Bytes that have arrived since the last complete tag, comment or CDATA section.
    pending: Vec<u8>,
    /// True once a piece has been read. A byte order mark counts before that only.
    has_begun: bool,
    /// The path of the open elements, below the outermost: `/volumeSet/item/size`.
    path: String,
    depth: usize,
    item: Option<Item>,
    spare: Item,
    next_token: String,
    has_list: bool,
    ended: bool,
}

impl ListingReader {
    /// Begins to read an answer of this layout.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            pending: Vec::new(),
            has_begun: false,
            path: String::new(),
            depth: 0,
            item: None,
            spare: Item::default(),
            next_token: String::new(),
            has_list: false,
            ended: false,
        }
    }

    /// Takes the next piece, and passes each item that it completes to `each`.
    ///
    /// # Errors
    /// [`MalformedListing`] if the piece can't be read, or if `each` can't read an item.
    pub fn feed(
        &mut self,
        piece: &[u8],
        each: &mut dyn FnMut(&Item) -> Result<(), MalformedListing>,
    ) -> Result<(), MalformedListing> {
        let mut pending = std::mem::take(&mut self.pending);
        // Behind a `>` no tag is open, and a text may well come in two parts.
        let complete = piece.iter().rposition(|byte| *byte == b'>').map(|last| pending.len() + last + 1);
        pending.extend_from_slice(piece);
        if let Some(whole) = complete.and_then(|complete| pending.get(..complete)) {
            let read = self.read(std::str::from_utf8(whole).map_err(|e| not_xml(&e))?, each)?;
            pending.drain(..read);
        }
        if pending.len() > LONGEST_PENDING {
            return Err(not_xml(&format!("a tag or a text does not end within {LONGEST_PENDING} bytes")));
        }
        self.pending = pending;
        Ok(())
    }

    /// Ends the answer. Returns the token of the next page, if there is one.
    ///
    /// # Errors
    /// [`MalformedListing::BrokenOff`] if the answer is not complete. [`MalformedListing::NoList`] if it has no list: EC2
    /// sends an empty list if there is nothing, so an answer without a list proves nothing.
    pub fn end(self) -> Result<Option<String>, MalformedListing> {
        if !self.ended || !self.pending.trim_ascii().is_empty() {
            return Err(MalformedListing::BrokenOff);
        }
        if !self.has_list {
            return Err(MalformedListing::NoList(self.shape.list()));
        }
        Ok((!self.next_token.is_empty()).then_some(self.next_token))
    }

    /// Reads a text that ends behind a `>`. Returns the number of bytes that were read. That `>` may stand in a comment,
    /// a CDATA section or an attribute, which is then left for the next piece.
    fn read(
        &mut self,
        text: &str,
        each: &mut dyn FnMut(&Item) -> Result<(), MalformedListing>,
    ) -> Result<usize, MalformedListing> {
        let body = self.byte_order_marks(text)?;
        let mut reader = Reader::from_str(body);
        let config = reader.config_mut();
        (config.check_end_names, config.allow_unmatched_ends) = (false, true); // a piece may begin anywhere
        loop {
            match reader.read_event() {
                Ok(Event::Start(tag)) => self.start(tag.name().into_inner())?,
                Ok(Event::Empty(tag)) => {
                    self.start(tag.name().into_inner())?;
                    self.close(each)?;
                }
                Ok(Event::End(tag)) => self.end_tag(tag.name().into_inner(), each)?,
                Ok(Event::Text(text)) => self.text(&text)?,
                Ok(Event::CData(text)) => self.text(&text)?,
                Ok(Event::GeneralRef(reference)) => {
                    let mut utf8 = [0; 4];
                    self.text(character(&reference)?.encode_utf8(&mut utf8))?;
                }
                Ok(Event::Eof) => return Ok(text.len()),
                Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
                Err(Error::Syntax(unclosed)) if unclosed != SyntaxError::InvalidBangMarkup => {
                    let read = usize::try_from(reader.error_position()).unwrap_or_default();
                    return Ok(text.len() - body.len() + read);
                }
                Err(error) => return Err(not_xml(&error)),
            }
        }
    }

    /// Returns the text behind its byte order marks. The first of an answer is none of its characters. The parser would
    /// take one from the beginning of each piece.
    fn byte_order_marks<'a>(&mut self, text: &'a str) -> Result<&'a str, MalformedListing> {
        const MARK: char = '\u{feff}';
        let text = if self.has_begun { text } else { text.strip_prefix(MARK).unwrap_or(text) };
        self.has_begun |= !text.is_empty();
        let body = text.trim_start_matches(MARK);
        self.text(text.strip_suffix(body).unwrap_or_default())?;
        Ok(body)
    }

    fn start(&mut self, name: &str) -> Result<(), MalformedListing> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(not_xml(&format!("more than {DEEPEST} elements inside each other")));
        }
        if self.depth == 1 {
            let expected = self.shape.root;
            let is_it = name == expected && !self.ended;
            return if is_it {
                Ok(())
            } else {
                Err(MalformedListing::Root { expected, found: quoted(name) })
            };
        }
        self.path.push('/');
        self.path.push_str(name);
        self.has_list |= self.depth == 2 && name == self.shape.list();
        if let Some(item) = &mut self.item {
            item.open();
        } else if self.is_at_item() {
            let mut item = std::mem::take(&mut self.spare);
            item.clear();
            self.item = Some(item);
        }
        Ok(())
    }

    fn end_tag(
        &mut self,
        name: &str,
        each: &mut dyn FnMut(&Item) -> Result<(), MalformedListing>,
    ) -> Result<(), MalformedListing> {
        let open =
            if self.depth == 1 { self.shape.root } else { self.path.rsplit('/').next().unwrap_or_default() };
        if self.depth > 0 && name != open {
            return Err(not_xml(&format!("</{}> ends <{}>", quoted(name), quoted(open))));
        }
        self.close(each)
    }

    fn close(
        &mut self,
        each: &mut dyn FnMut(&Item) -> Result<(), MalformedListing>,
    ) -> Result<(), MalformedListing> {
        self.depth = self.depth.checked_sub(1).ok_or_else(|| not_xml(&"an end tag too many"))?;
        if self.depth == 0 {
            self.ended = true;
            return Ok(());
        }
        if self.is_at_item() {
            if let Some(item) = self.item.take() {
                each(&item)?;
                self.spare = item;
            }
        } else if let Some(item) = &mut self.item {
            // The path begins with a slash, the items' path, and another slash. The item knows its elements
            // without them.
            item.close(self.path.get(self.shape.items.len() + 2..).unwrap_or_default());
        }
        self.path.truncate(self.path.rfind('/').unwrap_or_default());
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), MalformedListing> {
        if self.depth == 0 && !text.trim().is_empty() {
            return Err(not_xml(&format!("{:?} outside of the answer", quoted(text.trim()))));
        }
        match &mut self.item {
            Some(item) => item.push(text),
            None if self.path == "/nextToken" => self.next_token.push_str(text),
            None => {}
        }
        Ok(())
    }

    fn is_at_item(&self) -> bool {
        self.path.strip_prefix('/') == Some(self.shape.items)
    }
}

fn not_xml(error: &impl ToString) -> MalformedListing {
    MalformedListing::Xml(error.to_string())
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

fn character(reference: &BytesRef<'_>) -> Result<char, MalformedListing> {
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        name => reference
            .resolve_char_ref()
            .map_err(|e| not_xml(&e))?
            .ok_or_else(|| not_xml(&format!("the entity {} is unknown", quoted(name)))),
    }
}

#[cfg(test)]
mod tests;
