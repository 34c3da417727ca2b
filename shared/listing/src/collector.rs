//! A listing whose items are kept.

use crate::{Item, ListingReader, MalformedListing, Shape};

/// A listing in progress, and what was made of its items.
pub struct Collector<T, K> {
    listing: ListingReader,
    keep: K,
    items: Vec<T>,
}

impl<T, K> Collector<T, K>
where
    K: FnMut(&Item) -> Result<Option<T>, MalformedListing>,
{
    /// Begins a listing. `keep` returns what becomes of an item, or `None` to drop it.
    pub fn new(shape: Shape, keep: K) -> Self {
        Self { listing: ListingReader::new(shape), keep, items: Vec::new() }
    }

    /// Reads the next piece of the answer.
    ///
    /// # Errors
    /// The answer is malformed, or `keep` refuses an item.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), MalformedListing> {
        let Self { listing, keep, items } = self;
        listing.feed(piece, &mut |item| {
            items.extend(keep(item)?);
            Ok(())
        })
    }

    /// Ends the answer. Returns the items, and the token of the next page if there is one.
    ///
    /// # Errors
    /// Those of [`ListingReader::end`].
    pub fn end(self) -> Result<(Vec<T>, Option<String>), MalformedListing> {
        let next = self.listing.end()?;
        Ok((self.items, next))
    }
}
