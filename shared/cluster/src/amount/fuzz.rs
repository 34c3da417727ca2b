//! The fuzz target `quantity`: an amount of a resource, as Kubernetes spells it.
//!
//! The parser promises: no panic. Nothing but a quantity is an amount. An amount that is whole in thousandths reads back as
//! it is shown. Sums don't overflow.

use spot_fuzz::Target;

use super::*;

const SUFFIXES: [&str; 16] =
    ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

#[test]
fn quantity() {
    let words = &["e", "E", "Ki", "Ei", "1e2147483647", "170141183460469231731687303715884105727", "0000000"];
    Target { name: "quantity", samples: &[], words, cases: 4_000 }.fuzz(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Amount::parse(&Quantity(text.to_string())) {
            Some(_) if !is_quantity(&text) => Err(format!("{text:?} is an amount")),
            Some(amount) => reads_back(amount),
            None => Ok(()),
        }
    });
}

fn reads_back(amount: Amount) -> std::result::Result<(), String> {
    let _ = [amount, Amount::MAX].into_iter().sum::<Amount>().minus(amount).minus(amount);
    let shown = amount.to_string();
    let again = Amount::parse(&Quantity(shown.clone()));
    let is_whole = amount.0 % (UNIT / 1_000) == 0;
    if again.is_some() && (!is_whole || again == Some(amount)) {
        return Ok(());
    }
    Err(format!("{amount:?} is shown as {shown}, which reads back as {again:?}"))
}

/// Says if a text has the form that Kubernetes documents.
fn is_quantity(text: &str) -> bool {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let dots = number.matches('.').count();
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    number.len() > dots && dots <= 1 && (SUFFIXES.contains(&suffix) || is_exponent)
}
