//! A case: a sample, and the edits that change it.

use proptest::prelude::*;

use crate::corpus::Corpus;
use crate::{json, text, xml};

/// The most bytes of an input that grows by edits.
const LONGEST: usize = 64 * 1024;

/// A choice, whatever there is to choose from. It shrinks to the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick(pub(crate) u32);

impl Pick {
    /// Returns a position below `length`; `None` if there is none.
    pub(crate) fn of(self, length: usize) -> Option<usize> {
        (self.0 as usize).checked_rem(length)
    }

    pub(crate) fn among<T>(self, all: &[T]) -> Option<&T> {
        all.get(self.of(all.len())?)
    }
}

/// An edit of a tree: a field or an element of JSON, an element of XML.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TreeEdit {
    Remove(Pick),
    /// Puts a copy beside it.
    Repeat(Pick, u8),
    /// Puts a part of a sample in its place.
    Replace(Pick, Pick, Pick),
    /// Puts a part of a sample beside it.
    Insert(Pick, Pick, Pick),
    /// Gives it the name of a word.
    Rename(Pick, Pick),
    /// Changes its text or value to a word or an odd value.
    Set(Pick, Pick),
    /// Puts it into so many others of its name.
    Nest(Pick, u8),
}

/// An edit of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TextEdit {
    Delete(Pick, u8),
    Repeat(Pick, u8, u8),
    Swap(Pick, Pick),
    Replace(Pick, Pick),
    Insert(Pick, Pick),
    Cut(Pick),
    /// Goes on as another sample does.
    Splice(Pick, Pick, Pick),
}

/// A sample with edits.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    sample: Pick,
    tree: Vec<TreeEdit>,
    text: Vec<TextEdit>,
    byte: Option<(Pick, u8)>,
}

impl Mutation {
    /// Returns the input.
    pub(crate) fn of(&self, corpus: &Corpus) -> Vec<u8> {
        let mut input = self.sample.among(&corpus.samples).map(|sample| sample.text()).unwrap_or_default();
        for edit in &self.tree {
            let edited = json::edit(&input, edit, corpus).or_else(|| xml::edit(&input, edit, corpus));
            input = edited.filter(|edited| edited.len() <= LONGEST).unwrap_or(input);
        }
        for edit in &self.text {
            input = Some(text::edit(&input, edit, corpus)).filter(|e| e.len() <= LONGEST).unwrap_or(input);
        }
        let mut bytes = input.into_bytes();
        if let Some((at, byte)) = self.byte
            && let Some(at) = at.of(bytes.len())
        {
            bytes[at] = byte;
        }
        bytes
    }
}

/// Returns every mutation.
pub(crate) fn mutations() -> impl Strategy<Value = Mutation> {
    let tree = |most| prop::collection::vec(tree_edit(), 1..most);
    let text = |most| prop::collection::vec(text_edit(), 1..most);
    let edits = prop_oneof![
        6 => (tree(5), Just(vec![])),
        3 => (Just(vec![]), text(5)),
        1 => (tree(3), text(3)),
    ];
    let byte = prop::option::weighted(0.05, (pick(), any::<u8>()));
    (pick(), edits, byte).prop_map(|(sample, (tree, text), byte)| Mutation { sample, tree, text, byte })
}

fn pick() -> impl Strategy<Value = Pick> + Clone {
    any::<u32>().prop_map(Pick)
}

/// Few mostly, at times many.
fn count() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![9 => 0_u8..4, 1 => any::<u8>()]
}

fn tree_edit() -> impl Strategy<Value = TreeEdit> {
    prop_oneof![
        2 => pick().prop_map(TreeEdit::Remove),
        1 => (pick(), count()).prop_map(|(at, times)| TreeEdit::Repeat(at, times)),
        2 => (pick(), pick(), pick()).prop_map(|(at, sample, part)| TreeEdit::Replace(at, sample, part)),
        1 => (pick(), pick(), pick()).prop_map(|(at, sample, part)| TreeEdit::Insert(at, sample, part)),
        1 => (pick(), pick()).prop_map(|(at, word)| TreeEdit::Rename(at, word)),
        4 => (pick(), pick()).prop_map(|(at, value)| TreeEdit::Set(at, value)),
        1 => (pick(), count()).prop_map(|(at, depth)| TreeEdit::Nest(at, depth)),
    ]
}

fn text_edit() -> impl Strategy<Value = TextEdit> {
    prop_oneof![
        2 => (pick(), count()).prop_map(|(at, many)| TextEdit::Delete(at, many)),
        1 => (pick(), count(), count()).prop_map(|(at, many, times)| TextEdit::Repeat(at, many, times)),
        1 => (pick(), pick()).prop_map(|(a, b)| TextEdit::Swap(a, b)),
        3 => (pick(), pick()).prop_map(|(at, word)| TextEdit::Replace(at, word)),
        3 => (pick(), pick()).prop_map(|(at, word)| TextEdit::Insert(at, word)),
        1 => pick().prop_map(TextEdit::Cut),
        1 => (pick(), pick(), pick()).prop_map(|(at, sample, from)| TextEdit::Splice(at, sample, from)),
    ]
}
