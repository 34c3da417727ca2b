//! Quotes of errors in our texts: the messages of an error and its sources, cut to the length that a reader
//! needs.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The most characters of one error's text.
pub const LONGEST: usize = 1_000;
/// The most characters of a function's error. Step Functions cuts a `Cause` after 32 KiB, and half a JSON
/// text can't be parsed.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>
pub const LONGEST_CAUSE: usize = 4_000;

/// The error behind another one, or words of ours where there is none.
///
/// Its `Debug` is its message: an SDK's `Debug` forms hold the raw answer, which may be a secret.
#[derive(Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Keeps an error.
    pub fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// Keeps an error behind words of ours that tell of it.
    pub fn in_words(words: impl Into<String>, error: impl Error + Send + Sync + 'static) -> Self {
        Self::of(InWords { words: words.into(), source: Self::of(error) })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct InWords {
    words: String,
    source: Cause,
}

impl std::ops::Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl From<String> for Cause {
    fn from(words: String) -> Self {
        Self(Box::<dyn Error + Send + Sync>::from(words).into())
    }
}

impl From<&str> for Cause {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&chain(&*self.0), formatter)
    }
}

/// Returns the messages of an error and its sources, cut.
///
/// Each error contributes its own message only. An SDK's `Debug` forms hold the raw answer, which may be a
/// secret.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    cut(&text, LONGEST)
}

/// Returns the text. If it has more than so many characters, returns its beginning and `…`.
#[must_use]
pub fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the first few of many details: the details of many instances would not fit the payload.
#[must_use]
pub fn first_few(mut details: Vec<String>) -> String {
    let more = details.len().saturating_sub(3);
    details.truncate(3);
    if more > 0 {
        details.push(format!("and {more} more"));
    }
    details.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(String, #[source] Option<Box<Told>>);

    #[test]
    fn a_chain_says_each_thing_once_and_is_cut() {
        let told = |text: &str, source| Told(text.to_owned(), source);
        let refused = told("refused", None);
        let same = told("connect: refused", Some(Box::new(refused)));
        assert_eq!(chain(&told("no answer", Some(Box::new(same)))), "no answer: connect: refused");
        assert_eq!(chain(&told(&"é".repeat(1_001), None)).chars().count(), 1_001, "1,000 and the mark");
    }

    #[test]
    fn a_cause_keeps_the_error_and_shows_its_messages_only() {
        #[derive(Debug, thiserror::Error)]
        #[error("refused")]
        struct Raw {
            _answer: &'static str,
        }
        let cause = Cause::of(Raw { _answer: "secret" });
        assert!(cause.downcast_ref::<Raw>().is_some());
        assert_eq!(
            (format!("{cause}"), format!("{cause:?}")),
            ("refused".to_owned(), "\"refused\"".to_owned())
        );
        assert_eq!(Cause::from("words").to_string(), "words");
    }

    #[test]
    fn a_short_text_stays_as_it_is() {
        assert_eq!((cut("né", 2), cut("née", 2)), ("né".to_owned(), "né…".to_owned()));
    }
}
