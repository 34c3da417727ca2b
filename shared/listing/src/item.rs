//! One resource of a listing: its elements that hold text, by their path below it.

use std::ops::Range;
use std::str::FromStr;

use crate::Malformed;

/// A resource.
#[derive(Debug, Default)]
pub struct Item {
    /// All paths and texts, one after another: an item is read without an allocation of its own.
    paths: String,
    texts: String,
    leaves: Vec<Leaf>,
    /// Text up to here belongs to a leaf; what follows was found since.
    taken: usize,
    /// No element has begun or ended since the last one began: what comes is its text.
    is_leaf: bool,
}

#[derive(Debug)]
struct Leaf {
    path: Range<usize>,
    text: Range<usize>,
}

impl Item {
    /// The text of the first element at `path` (`placement/availabilityZone`); `None` if there is none,
    /// or it is empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.leaves().find(|(at, text)| *at == path && !text.is_empty()).map(|(_, text)| text)
    }

    /// The texts of all elements at `path`, but the empty ones.
    pub fn all<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.leaves().filter(move |(at, text)| *at == path && !text.is_empty()).map(|(_, text)| text)
    }

    /// Whether there is an element at `path`, empty or not, or anything below it.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.leaves().any(|(at, _)| {
            at.strip_prefix(path).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }

    /// The text at `path`, which every item has.
    ///
    /// # Errors
    /// This one has none.
    pub fn required(&self, path: &'static str) -> Result<&str, Malformed> {
        self.text(path).ok_or(Malformed::Field { path, found: None })
    }

    /// The text at `path`, which every item has, read as a number, a time, an id.
    ///
    /// # Errors
    /// This one has none, or it can't be read as one.
    pub fn parse_required<T: FromStr>(&self, path: &'static str) -> Result<T, Malformed> {
        self.parse(path)?.ok_or(Malformed::Field { path, found: None })
    }

    /// The text at `path`, read as a number, a time, an id.
    ///
    /// # Errors
    /// It can't be read as one.
    pub fn parse<T: FromStr>(&self, path: &'static str) -> Result<Option<T>, Malformed> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Malformed::Field { path, found: Some(text.chars().take(80).collect()) })
        };
        self.text(path).map(parse).transpose()
    }

    /// Whether the text at `path` is `true`; an item that does not have it says no.
    ///
    /// # Errors
    /// It is neither `true` nor `false`.
    pub fn is(&self, path: &'static str) -> Result<bool, Malformed> {
        self.parse(path).map(Option::unwrap_or_default)
    }

    /// Its tags (`tagSet`): key and value. A value may be empty.
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

    pub(crate) fn clear(&mut self) {
        self.paths.clear();
        self.texts.clear();
        self.leaves.clear();
        (self.taken, self.is_leaf) = (0, false);
    }

    /// An element begins. The text before it was the white space between elements.
    pub(crate) fn open(&mut self) {
        self.texts.truncate(self.taken);
        self.is_leaf = true;
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.texts.push_str(text);
    }

    /// The element at `path` ends.
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
