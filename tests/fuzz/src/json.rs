//! Edits of JSON. A text in JSON that is JSON itself (a journal in a row of a table) is part of the tree.

use serde_json::{Value, json};

use crate::corpus::Corpus;
use crate::mutation::{Pick, TreeEdit};
use crate::text;

/// The place of a value in its container.
enum Key {
    Field(String),
    Index(usize),
}

/// Applies an edit; `None` if the text is no object and no array.
pub(crate) fn edit(text: &str, edit: &TreeEdit, corpus: &Corpus) -> Option<String> {
    let mut tree = parsed(text)?;
    let at = match *edit {
        TreeEdit::Remove(at)
        | TreeEdit::Repeat(at, _)
        | TreeEdit::Replace(at, ..)
        | TreeEdit::Insert(at, ..)
        | TreeEdit::Rename(at, _)
        | TreeEdit::Set(at, _)
        | TreeEdit::Nest(at, _) => at,
    };
    let mut place = at.of(count(&mut tree))?;
    change(&mut tree, &mut place, &mut |container, key| apply(container, key, edit, corpus));
    Some(tree.to_string())
}

fn parsed(text: &str) -> Option<Value> {
    let start = text.trim_start().as_bytes().first();
    matches!(start, Some(b'{' | b'[')).then(|| serde_json::from_str(text).ok()).flatten()
}

/// Returns the number of values below `tree`.
fn count(tree: &mut Value) -> usize {
    let mut left = usize::MAX;
    change(tree, &mut left, &mut |_, _| {});
    usize::MAX - left
}

/// Makes the change at the value number `place` below `node`. Returns true once it is made.
fn change(node: &mut Value, place: &mut usize, make: &mut dyn FnMut(&mut Value, &Key)) -> bool {
    let keys: Vec<Key> = match node {
        Value::Object(fields) => fields.keys().cloned().map(Key::Field).collect(),
        Value::Array(values) => (0..values.len()).map(Key::Index).collect(),
        Value::String(text) => {
            let Some(mut inner) = parsed(text) else { return false };
            let is_made = change(&mut inner, place, make);
            if is_made {
                *text = inner.to_string();
            }
            return is_made;
        }
        _ => return false,
    };
    for key in keys {
        if *place == 0 {
            make(node, &key);
            return true;
        }
        *place -= 1;
        let child = match &key {
            Key::Field(name) => node.get_mut(name),
            Key::Index(index) => node.get_mut(index),
        };
        if child.is_some_and(|child| change(child, place, make)) {
            return true;
        }
    }
    false
}

fn apply(container: &mut Value, key: &Key, edit: &TreeEdit, corpus: &Corpus) {
    let old = match key {
        Key::Field(name) => container.get(name).cloned(),
        Key::Index(index) => container.get(index).cloned(),
    };
    let Some(old) = old else { return };
    match *edit {
        TreeEdit::Remove(_) => match (container, key) {
            (Value::Object(fields), Key::Field(name)) => drop(fields.remove(name)),
            (Value::Array(values), Key::Index(index)) => drop(values.remove(*index)),
            _ => {}
        },
        TreeEdit::Repeat(_, times) => match container {
            Value::Array(values) => values.extend(std::iter::repeat_n(old, usize::from(times) + 1)),
            _ => put(container, key, Value::Array(vec![old; usize::from(times) + 1])),
        },
        TreeEdit::Replace(_, sample, part) => put(container, key, part_of(sample, part, corpus).1),
        TreeEdit::Insert(_, sample, part) => match (part_of(sample, part, corpus), container) {
            ((name, value), Value::Object(fields)) => drop(fields.insert(name, value)),
            ((_, value), Value::Array(values)) => values.push(value),
            _ => {}
        },
        TreeEdit::Rename(_, word) => {
            if let (Value::Object(fields), Key::Field(name)) = (container, key) {
                fields.remove(name);
                fields.insert(text::word(word, corpus).to_owned(), old);
            }
        }
        TreeEdit::Set(_, value) => put(container, key, odd(value, &old, corpus)),
        TreeEdit::Nest(_, depth) => {
            let nested = (0..=depth % 100).fold(old, |inner, _| match key {
                Key::Field(name) => json!({ name: inner }),
                Key::Index(_) => json!([inner]),
            });
            put(container, key, nested);
        }
    }
}

fn put(container: &mut Value, key: &Key, value: Value) {
    match (container, key) {
        (Value::Object(fields), Key::Field(name)) => drop(fields.insert(name.clone(), value)),
        (Value::Array(values), Key::Index(index)) => values[*index] = value,
        _ => {}
    }
}

/// Returns a part of a sample, with its name.
fn part_of(sample: Pick, part: Pick, corpus: &Corpus) -> (String, Value) {
    let found = sample.among(&corpus.samples).and_then(|sample| parsed(&sample.text()));
    let Some(mut tree) = found else { return (String::new(), Value::Null) };
    let mut place = part.of(count(&mut tree)).unwrap_or_default();
    let mut taken = (String::new(), tree.clone());
    change(&mut tree, &mut place, &mut |container, key| {
        taken = match key {
            Key::Field(name) => (name.clone(), container.get(name).cloned().unwrap_or_default()),
            Key::Index(index) => (String::new(), container.get(index).cloned().unwrap_or_default()),
        };
    });
    taken
}

/// Returns a value like `old` that is at the edge of what a parser takes, or beyond.
fn odd(pick: Pick, old: &Value, corpus: &Corpus) -> Value {
    let numbers = [
        json!(0),
        json!(1),
        json!(-1),
        json!(u32::MAX),
        json!(u64::from(u32::MAX) + 1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!(253_402_207_200_i64),
    ];
    let times = [
        "9999-12-30T22:00:00.999999999Z",
        "9999-12-31T23:59:59Z",
        "-009999-01-02T01:59:59Z",
        "2026-11-20T10:15:00",
        "2026-11-20T10:15:60Z",
        "1970-01-01T00:00:00+23:59",
        "0",
    ];
    let (kind, at) = (pick.of(8).unwrap_or_default(), pick.0 as usize / 8);
    match kind {
        0 => [json!(null), json!(true), json!(false), json!([]), json!({}), json!("")][at % 6].clone(),
        1 => numbers[at % numbers.len()].clone(),
        2 => json!(times[at % times.len()]),
        3 => json!("x".repeat(at % 3_000)),
        4 => json!(old.to_string()),
        // DynamoDB has its numbers in texts.
        5 => json!(numbers[at % numbers.len()].to_string()),
        6 => match old {
            Value::String(old) => {
                let mut word = old.clone();
                let ends: Vec<usize> = old.char_indices().map(|(end, _)| end).chain([old.len()]).collect();
                word.insert_str(ends[at % ends.len()], text::word(Pick(pick.0.rotate_left(16)), corpus));
                json!(word)
            }
            old => old.clone(),
        },
        _ => json!(text::word(Pick(pick.0.rotate_left(16)), corpus)),
    }
}
