//! EC2's long listings, read as they arrive: the items of an answer, and the text in each.
//!
//! The SDK holds a whole answer in memory, and compares each element with every field that a resource can
//! have. Over thousands of resources, that was most of the cost of an audit or a waste scan. Here an answer
//! comes in pieces of any length, and memory holds one piece and one item. An answer that is not well-formed,
//! or that breaks off before its end, is an error: half a listing never reads as a whole one.

mod item;
mod malformed;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

pub use item::Item;
pub use malformed::MalformedListing;

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
    /// Bytes that have arrived since the last complete tag.
    pending: Vec<u8>,
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
        pending.extend_from_slice(piece);
        // Behind a `>` no tag is open, and a text may well come in two parts.
        let complete = pending.iter().rposition(|byte| *byte == b'>').map_or(0, |last| last + 1);
        let (whole, rest) = pending.split_at(complete);
        self.read(std::str::from_utf8(whole).map_err(|e| not_xml(&e))?, each)?;
        self.pending = rest.to_vec();
        Ok(())
    }

    /// Ends the answer. Returns the token of the next page, if there is one.
    ///
    /// # Errors
    /// [`MalformedListing::BrokenOff`] if the answer is not complete. [`MalformedListing::NoList`] if it has no list: EC2
    /// sends an empty list if there is nothing, so an answer without a list proves nothing.
    pub fn end(self) -> Result<Option<String>, MalformedListing> {
        if !self.ended {
            return Err(MalformedListing::BrokenOff);
        }
        if !self.has_list {
            return Err(MalformedListing::NoList(self.shape.list()));
        }
        Ok((!self.next_token.is_empty()).then_some(self.next_token))
    }

    fn read(
        &mut self,
        text: &str,
        each: &mut dyn FnMut(&Item) -> Result<(), MalformedListing>,
    ) -> Result<(), MalformedListing> {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        (config.check_end_names, config.allow_unmatched_ends) = (false, true); // a piece may begin anywhere
        loop {
            match reader.read_event().map_err(|e| not_xml(&e))? {
                Event::Start(tag) => self.start(tag.name().into_inner())?,
                Event::Empty(tag) => {
                    self.start(tag.name().into_inner())?;
                    self.close(each)?;
                }
                Event::End(_) => self.close(each)?,
                Event::Text(text) => self.text(&text),
                Event::CData(text) => self.text(&text),
                Event::GeneralRef(reference) => {
                    let mut utf8 = [0; 4];
                    self.text(character(&reference)?.encode_utf8(&mut utf8));
                }
                Event::Eof => return Ok(()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    fn start(&mut self, name: &str) -> Result<(), MalformedListing> {
        self.depth += 1;
        if self.depth == 1 {
            let expected = self.shape.root;
            let is_it = name == expected && !self.ended;
            return if is_it {
                Ok(())
            } else {
                Err(MalformedListing::Root { expected, found: name.to_owned() })
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

    fn text(&mut self, text: &str) {
        match &mut self.item {
            Some(item) => item.push(text),
            None if self.path == "/nextToken" => self.next_token.push_str(text),
            None => {}
        }
    }

    fn is_at_item(&self) -> bool {
        self.path.strip_prefix('/') == Some(self.shape.items)
    }
}

fn not_xml(error: &impl ToString) -> MalformedListing {
    MalformedListing::Xml(error.to_string())
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
            .ok_or_else(|| not_xml(&format!("the entity {name} is unknown"))),
    }
}

#[cfg(test)]
mod tests;
