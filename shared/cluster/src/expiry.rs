//! The expiry of a kubeconfig's credentials. An API server answers 401 to an expired certificate, and does
//! not say why.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the end of a certificate (`notAfter`, RFC 5280 section 4.1), given as in a kubeconfig: PEM in
/// base64. Returns `None` if the certificate can't be read: the API server is the judge.
pub(crate) fn of_certificate(data: &str) -> Option<Timestamp> {
    let pem = String::from_utf8(STANDARD.decode(data.trim()).ok()?).ok()?;
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1)?.split("-----END").next()?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    let certificate = Element::first(&der)?.within(SEQUENCE)?;
    let mut fields = Element::first(certificate)?.within(SEQUENCE)?;
    if Element::first(fields)?.tag == VERSION {
        fields = Element::first(fields)?.rest;
    }
    for _serial_algorithm_issuer in 0..3 {
        fields = Element::first(fields)?.rest;
    }
    let validity = Element::first(fields)?.within(SEQUENCE)?;
    let not_after = Element::first(Element::first(validity)?.rest)?;
    let digits = std::str::from_utf8(not_after.content).ok()?.trim_end_matches('Z');
    let text = match not_after.tag {
        // Two digits of the year: from 50 on they mean the last century.
        UTC_TIME if digits >= "50" => format!("19{digits}"),
        UTC_TIME => format!("20{digits}"),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    let (day, time) = text.split_at_checked(8)?;
    format!("{day}T{time}Z").parse().ok()
}

/// Returns the expiry of a service account's token (`exp`, RFC 7519); `None` for a token of another kind.
pub(crate) fn of_token(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

/// An element of DER (X.690 section 8.1).
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (&tag, bytes) = bytes.split_first()?;
        let (&length, mut bytes) = bytes.split_first()?;
        let mut length = usize::from(length);
        if length >= 0x80 {
            let (digits, after) = bytes.split_at_checked(length - 0x80)?;
            bytes = after;
            length = digits
                .iter()
                .try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add((*digit).into()))?;
        }
        let (content, rest) = bytes.split_at_checked(length)?;
        Some(Self { tag, content, rest })
    }

    fn within(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::AUTHORITY;

    #[test]
    fn a_certificate_says_when_it_ends() {
        assert_eq!(of_certificate(AUTHORITY), Some("2126-11-01T02:40:15Z".parse().unwrap()));
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        let pem = |der: &[u8]| {
            let body = STANDARD.encode(der);
            STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
        };
        for data in ["", "no base64", "QUJD"] {
            assert_eq!(of_certificate(data), None, "{data}");
        }
        for der in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x02, 0x30, 0x00]] {
            assert_eq!(of_certificate(&pem(der)), None, "{der:?}");
        }
        let whole = STANDARD.decode(AUTHORITY).unwrap();
        for length in 0..whole.len() {
            let _ = of_certificate(&STANDARD.encode(&whole[..length])); // cut anywhere: no panic
        }
    }

    #[test]
    fn a_token_of_a_service_account_says_when_it_ends() {
        let claims =
            URL_SAFE_NO_PAD.encode(r#"{"exp":1793000000,"sub":"system:serviceaccount:ops:spot-optimizer"}"#);
        assert_eq!(of_token(&format!("e30.{claims}.c2ln")), Timestamp::from_second(1_793_000_000).ok());
        assert_eq!(of_token("a-static-token"), None);
        assert_eq!(of_token("a.b.c"), None);
    }
}
