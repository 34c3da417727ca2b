//! Names that somebody has misspelt.

/// One edit in a shorter word makes another word.
const LONG: usize = 5;

/// Says if a name may be meant as the known one. They differ by capitals and separators, or by one letter: it is missing,
/// wrong or too many, or two are swapped.
#[must_use]
pub fn is_alike(name: &str, known: &str) -> bool {
    let (name, known) = (folded(name), folded(known));
    let is_long = name.len().min(known.len()) >= LONG;
    name == known || is_long && strsim::osa_distance(&name, &known) <= 1
}

/// Returns the letters and digits of a text, in small letters: `Opt_Out` and `opt-out` are one.
#[must_use]
pub fn folded(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_alike_and_another_word_is_not() {
        for (name, known) in [
            ("Enabled", "enabled"),
            ("enable", "enabled"),
            ("capture_image", "capture-image"),
            ("min-ondemand", "min-on-demand"),
            ("opt-uot", "opt-out"),
            ("regoins", "regions"),
            ("region", "regions"),
            ("auto-terminate", "auto_terminate"),
        ] {
            assert!(is_alike(name, known), "{name} {known}");
        }
        for (name, known) in [
            ("run", "swap"),
            ("name", "member"),
            ("note", "role_arn"),
            ("owner", "enabled"),
            ("min-spot", "min-on-demand"),
            ("max-on-demand", "min-on-demand"),
            ("enabled_at", "enabled"),
            ("enabled-by", "enabled"),
            ("member_id", "member"),
            ("number", "member"),
            ("account", "account_id"),
            ("regional", "regions"),
            ("output", "opt-out"),
            ("cluster-id", "cluster"),
            ("last-run-at", "last-run"),
            ("", "swap"),
        ] {
            assert!(!is_alike(name, known), "{name} {known}");
        }
    }
}
