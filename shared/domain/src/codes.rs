//! Codes that are an interface: users alarm on them, and outputs, events and rows bear them. Each has one stable text.

/// Makes an enum of codes from `Name = "CODE";`, each with its meaning as the doc comment. What else a list says of a code,
/// its own macro adds.
macro_rules! codes {
    ($(#[doc = $about:literal])+ $codes:ident { $($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $codes { $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)+ }

        impl $codes {
            /// Every code that exists.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the code as outputs, events, rows and logs spell it.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns the meaning, in Markdown.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }

        impl std::fmt::Display for $codes {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}

pub(crate) use codes;
