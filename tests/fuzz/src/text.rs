//! Edits of a text, by its tokens: a word, or one other character.

use crate::corpus::Corpus;
use crate::mutation::{Pick, TextEdit};

/// Characters and words that parsers trip over, in any format.
const ODD: &[&str] = &[
    "",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{a0}",
    "é",
    "e\u{301}",
    "\u{1f600}",
    "\u{202e}",
    "0",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "9223372036854775807",
    "-9223372036854775808",
    "1e400",
    "0.1",
    "NaN",
    "null",
    "true",
    "false",
    "~",
    "{}",
    "[]",
    "\"\"",
    "'",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    "</",
    "/>",
    "&",
    "&amp;",
    "&#0;",
    "&#x110000;",
    "&#xd800;",
    "&lol;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!DOCTYPE a [<!ENTITY a \"b\">]>",
    "<a b='>'>",
    "*",
    "=",
    ",",
    ":",
    "#",
    ";",
    "%",
    "$",
    "---",
    "...",
    "&a ",
    "*a",
    "!!binary ",
    "!!int ",
    "|",
    "- ",
    "? ",
    "../../../etc/passwd",
    "aws:",
];

/// Splits a text into words (letters, digits, `_`) and single other characters.
pub(crate) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// Applies an edit.
pub(crate) fn edit(text: &str, edit: &TextEdit, corpus: &Corpus) -> String {
    let mut tokens = tokens(text);
    let end = |at: usize, many: u8, tokens: &[&str]| (at + usize::from(many) + 1).min(tokens.len());
    match *edit {
        TextEdit::Delete(at, many) => {
            let Some(at) = at.of(tokens.len()) else { return text.to_owned() };
            tokens.drain(at..end(at, many, &tokens));
        }
        TextEdit::Repeat(at, many, times) => {
            let Some(at) = at.of(tokens.len()) else { return text.to_owned() };
            let to = end(at, many, &tokens);
            let again = tokens[at..to].repeat(usize::from(times));
            tokens.splice(to..to, again);
        }
        TextEdit::Swap(a, b) => {
            if let (Some(a), Some(b)) = (a.of(tokens.len()), b.of(tokens.len())) {
                tokens.swap(a, b);
            }
        }
        TextEdit::Replace(at, word) => {
            if let Some(at) = at.of(tokens.len()) {
                tokens[at] = self::word(word, corpus);
            }
        }
        TextEdit::Insert(at, word) => {
            let at = at.of(tokens.len() + 1).unwrap_or_default();
            tokens.insert(at, self::word(word, corpus));
        }
        TextEdit::Cut(at) => tokens.truncate(at.of(tokens.len() + 1).unwrap_or_default()),
        TextEdit::Splice(at, sample, from) => {
            tokens.truncate(at.of(tokens.len() + 1).unwrap_or_default());
            let other = sample.among(&corpus.samples).map(|sample| sample.text()).unwrap_or_default();
            let tail = self::tokens(&other);
            let from = from.of(tail.len() + 1).unwrap_or_default();
            return tokens.concat() + &tail[from..].concat();
        }
    }
    tokens.concat()
}

/// Returns a word of the corpus, or an odd one.
pub(crate) fn word(pick: Pick, corpus: &Corpus) -> &str {
    let at = pick.of(corpus.words.len() + 2 * ODD.len()).unwrap_or_default();
    corpus.words.get(at).map_or_else(|| ODD[(at - corpus.words.len()) % ODD.len()], String::as_str)
}
