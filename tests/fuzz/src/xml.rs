//! Edits of XML, by its elements. The text need not be well-formed: an element lasts until its depth is back.

use std::ops::Range;

use crate::corpus::Corpus;
use crate::mutation::{Pick, TreeEdit};
use crate::text;

/// An element of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The element, from its `<` to its last `>`.
    whole: Range<usize>,
    /// The text between its tags.
    inside: Range<usize>,
    name: Range<usize>,
}

/// Applies an edit; `None` if the text has no element.
pub(crate) fn edit(xml: &str, edit: &TreeEdit, corpus: &Corpus) -> Option<String> {
    let elements = elements(xml);
    let at = |pick: Pick| pick.among(&elements);
    let with = |range: &Range<usize>, new: &str| format!("{}{new}{}", &xml[..range.start], &xml[range.end..]);
    Some(match *edit {
        TreeEdit::Remove(pick) => with(&at(pick)?.whole, ""),
        TreeEdit::Repeat(pick, times) => {
            let whole = &at(pick)?.whole;
            with(whole, &xml[whole.clone()].repeat(usize::from(times) + 2))
        }
        TreeEdit::Replace(pick, sample, part) => with(&at(pick)?.whole, &part_of(sample, part, corpus)),
        TreeEdit::Insert(pick, sample, part) => {
            let start = at(pick)?.whole.start;
            with(&(start..start), &part_of(sample, part, corpus))
        }
        TreeEdit::Rename(pick, word) => {
            let (element, word) = (at(pick)?, text::word(word, corpus));
            let renamed = xml[element.whole.clone()].replace(&xml[element.name.clone()], word);
            with(&element.whole, &renamed)
        }
        TreeEdit::Set(pick, word) => with(&at(pick)?.inside, text::word(word, corpus)),
        TreeEdit::Nest(pick, depth) => {
            let element = at(pick)?;
            let (name, times) = (&xml[element.name.clone()], usize::from(depth) + 1);
            let (open, close) = (format!("<{name}>").repeat(times), format!("</{name}>").repeat(times));
            with(&element.whole, &format!("{open}{}{close}", &xml[element.whole.clone()]))
        }
    })
}

fn part_of(sample: Pick, part: Pick, corpus: &Corpus) -> String {
    let xml = sample.among(&corpus.samples).map(|sample| sample.text()).unwrap_or_default();
    part.among(&elements(&xml)).map_or_else(String::new, |element| xml[element.whole.clone()].to_owned())
}

/// Returns the elements, the inner ones before those around them.
fn elements(xml: &str) -> Vec<Element> {
    let (mut open, mut found): (Vec<Element>, _) = (Vec::new(), Vec::new());
    let mut from = 0;
    while let Some(start) = xml[from..].find('<').map(|at| from + at) {
        let Some(end) = xml[start..].find('>').map(|at| start + at + 1) else { break };
        let tag = &xml[start + 1..end - 1];
        from = end;
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if tag.starts_with('/') {
            if let Some(element) = open.pop() {
                found.push(Element {
                    whole: element.whole.start..end,
                    inside: element.inside.start..start,
                    ..element
                });
            }
            continue;
        }
        let name = tag.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(tag.len());
        let element = Element { whole: start..end, inside: end..end, name: start + 1..start + 1 + name };
        if tag.ends_with('/') { found.push(element) } else { open.push(element) }
    }
    found
}
