//! The reasons for which an answer, or an item of one, can't be read.

/// An answer, or an item of one, that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedListing {
    /// The answer is not XML.
    #[error("not well-formed: {0}")]
    Xml(String),
    /// The answer has another outermost element.
    #[error("the answer is a {found}, not a {expected}")]
    Root {
        /// The outermost element of the call.
        expected: &'static str,
        /// The outermost element that came.
        found: String,
    },
    /// The answer is well-formed and has no list at all, not even an empty one.
    #[error("the answer has no {0}")]
    NoList(&'static str),
    /// The answer ended too early.
    #[error("the answer breaks off")]
    BrokenOff,
    /// An item lacks an element that every item has, or has it in a form that can't be read.
    #[error("an item's {path} is {found:?}")]
    Field {
        /// The path of the element in the item.
        path: &'static str,
        /// The text of the element; `None` if the element is absent.
        found: Option<String>,
    },
}
