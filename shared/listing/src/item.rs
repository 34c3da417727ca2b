//! One resource of a listing: its elements that hold text, by their path below the resource.

use std::ops::Range;
use std::str::FromStr;

use crate::MalformedListing;

/// A resource: the elements of one `<item>`.
#[derive(Debug, Default)]
pub struct Item {
    /// All paths and texts, one after another, so that an element costs no allocation of its own.
    paths: String,
    texts: String,
    leaves: Vec<Leaf>,
    /// The text up to this position belongs to a leaf. The text behind it was read later.
    taken: usize,
    /// True while no element has begun or ended since the last beginning: text that follows belongs to that
    /// element.
    is_leaf: bool,
}

#[derive(Debug)]
struct Leaf {
    path: Range<usize>,
    text: Range<usize>,
}

impl Item {
    /// Returns the text of the first element at `path` (`placement/availabilityZone`); `None` if no element
    /// is there, or if it is empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        let leaf = self.at(path).find(|leaf| !leaf.text.is_empty())?;
        self.texts.get(leaf.text.clone())
    }

    /// Returns the texts of all elements at `path`, except the empty ones.
    pub fn all<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let filled = self.at(path).filter(|leaf| !leaf.text.is_empty());
        filled.filter_map(|leaf| self.texts.get(leaf.text.clone()))
    }

    /// Returns true if an element is at `path`, empty or not, or anything is below `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.leaves().any(|(at, _)| {
            at.strip_prefix(path).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }

    /// Returns the text at `path`, which every item has.
    ///
    /// # Errors
    /// [`MalformedListing::Field`] if the item has no text there.
    pub fn required(&self, path: &'static str) -> Result<&str, MalformedListing> {
        self.text(path).ok_or(MalformedListing::Field { path, found: None })
    }

    /// Parses the text at `path`, which every item has, as a number, a time or an id.
    ///
    /// # Errors
    /// [`MalformedListing::Field`] if the item has no text there, or the text can't be parsed.
    pub fn parse_required<T: FromStr>(&self, path: &'static str) -> Result<T, MalformedListing> {
        self.parse(path)?.ok_or(MalformedListing::Field { path, found: None })
    }

    /// Parses the text at `path` as a number, a time or an id.
    ///
    /// # Errors
    /// [`MalformedListing::Field`] if the text can't be parsed.
    pub fn parse<T: FromStr>(&self, path: &'static str) -> Result<Option<T>, MalformedListing> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| MalformedListing::Field { path, found: Some(text.chars().take(80).collect()) })
        };
        self.text(path).map(parse).transpose()
    }

    /// Returns true if the text at `path` is `true`, and false if the item has no such element.
    ///
    /// # Errors
    /// [`MalformedListing::Field`] if the text is neither `true` nor `false`.
    pub fn is(&self, path: &'static str) -> Result<bool, MalformedListing> {
        self.parse(path).map(Option::unwrap_or_default)
    }

    /// Returns the tags of the item (`tagSet`): key and value. A value may be empty.
    pub fn tags(&self) -> impl Iterator<Item = (String, String)> {
        // EC2 puts each key before its value.
        let mut key: Option<&str> = None;
        self.leaves().filter_map(move |(path, text)| match path {
            "tagSet/item/key" => {
                key = Some(text);
                None
            }
            "tagSet/item/value" => key.take().map(|key| (key.to_owned(), text.to_owned())),
            _ => None,
        })
    }

    fn leaves(&self) -> impl Iterator<Item = (&str, &str)> {
        self.leaves
            .iter()
            .filter_map(|leaf| Some((self.paths.get(leaf.path.clone())?, self.texts.get(leaf.text.clone())?)))
    }

    /// Returns the elements at `path`. Compares lengths first: a page has half a million elements.
    fn at<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Leaf> {
        let of_its_length = self.leaves.iter().filter(move |leaf| leaf.path.len() == path.len());
        of_its_length.filter(move |leaf| self.paths.get(leaf.path.clone()) == Some(path))
    }

    pub(crate) fn clear(&mut self) {
        self.paths.clear();
        self.texts.clear();
        self.leaves.clear();
        (self.taken, self.is_leaf) = (0, false);
    }

    /// Notes that an element begins. The text before it was the white space between elements.
    pub(crate) fn open(&mut self) {
        self.texts.truncate(self.taken);
        self.is_leaf = true;
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.texts.push_str(text);
    }

    /// Notes that the element at `path` ends.
    pub(crate) fn close(&mut self, path: &str) {
        if !std::mem::take(&mut self.is_leaf) {
            self.texts.truncate(self.taken);
            return;
        }
        let at = self.paths.len();
        self.paths.push_str(path);
        let text = self.taken..self.texts.len();
        self.taken = text.end;
        self.leaves.push(Leaf { path: at..self.paths.len(), text });
    }
}
