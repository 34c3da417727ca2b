//! The token that EKS accepts: a presigned `sts:GetCallerIdentity`, in base64
//! (<https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>).

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::SecretString;
use spot_domain::Region;
use spot_domain::ids::ClusterName;
use spot_domain::words::Cause;

/// The header that binds the token to one cluster.
const CLUSTER_HEADER: &str = "x-k8s-aws-id";
/// `X-Amz-Expires`. EKS refuses a larger value, and accepts the token for 15 minutes anyway.
const EXPIRES_IN: Duration = Duration::from_mins(1);

/// The signer refused to sign the token.
#[derive(Debug, thiserror::Error)]
#[error("token for cluster {cluster}: {problem}")]
pub struct TokenError {
    pub cluster: ClusterName,
    /// The signer's error; holds no secret.
    #[source]
    pub problem: Cause,
}

/// Returns a bearer token for `cluster`, valid for 15 minutes from `now`. Pure.
pub fn token(
    credentials: &Credentials,
    region: &Region,
    cluster: &ClusterName,
    now: Timestamp,
) -> Result<SecretString, TokenError> {
    let malformed = |problem| TokenError { cluster: cluster.clone(), problem };
    let url = format!(
        "https://sts.{region}.{}/?Action=GetCallerIdentity&Version=2011-06-15",
        dns_suffix(region.as_str())
    );
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES_IN);
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_str())
        .name("sts")
        .time(SystemTime::UNIX_EPOCH + since_epoch)
        .settings(settings)
        .build()
        .map_err(|e| malformed(Cause::of(e)))?;
    let headers = [(CLUSTER_HEADER, cluster.as_str())];
    let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(b""))
        .map_err(|e| malformed(Cause::of(e)))?;
    let (instructions, _) = sign(request, &params.into()).map_err(|e| malformed(Cause::of(e)))?.into_parts();
    let mut presigned = http::Request::get(&url).body(()).map_err(|e| malformed(Cause::of(e)))?;
    instructions.apply_to_request_http1x(&mut presigned);
    let encoded = URL_SAFE_NO_PAD.encode(presigned.uri().to_string());
    Ok(SecretString::from(format!("k8s-aws-v1.{encoded}")))
}

/// Returns the DNS suffix of a region's partition.
fn dns_suffix(region: &str) -> &'static str {
    match region {
        r if r.starts_with("cn-") => "amazonaws.com.cn",
        r if r.starts_with("eusc-") => "amazonaws.eu",
        r if r.starts_with("us-iso-") => "c2s.ic.gov",
        r if r.starts_with("us-isob-") => "sc2s.sgov.gov",
        r if r.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        r if r.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    /// The URL that botocore's `RequestSigner.generate_presigned_url` makes of the same input.
    const WITH_SESSION: &str = concat!(
        "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&",
        "X-Amz-Credential=AKIDEXAMPLE%2F20261125%2Fus-east-1%2Fsts%2Faws4_request&",
        "X-Amz-Date=20261125T020304Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&",
        "X-Amz-Security-Token=IQoJb3JpZ2luX2VjEXAMPLE%2F%2F%2Btoken%3D%3D&",
        "X-Amz-Signature=c7c9ba54a70680643b213cfc3fb897dc2c009824da5d031edaa8d36f2f37b1fb",
    );
    const OF_CHINA: &str = concat!(
        "https://sts.cn-north-1.amazonaws.com.cn/?Action=GetCallerIdentity&Version=2011-06-15&",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&",
        "X-Amz-Credential=AKIDEXAMPLE%2F20261125%2Fcn-north-1%2Fsts%2Faws4_request&",
        "X-Amz-Date=20261125T020304Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&",
        "X-Amz-Signature=515ed5149d75b1189081a916afed9914d2690660fa19f51e5a724062fd432559",
    );

    fn minted(session: Option<&str>, region: &str, cluster: &str) -> SecretString {
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", key, session.map(str::to_owned), None, "test");
        let now = "2026-11-25T02:03:04Z".parse().unwrap();
        token(&credentials, &region.parse().unwrap(), &cluster.parse().unwrap(), now).unwrap()
    }

    fn url_in(token: &SecretString) -> String {
        let encoded = token.expose_secret().strip_prefix("k8s-aws-v1.").unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
    }

    /// Returns the parameters of a URL, sorted. Their order is not signed, and botocore puts the session's
    /// token before the signature.
    fn parameters(url: &str) -> Vec<&str> {
        let mut parameters: Vec<&str> = url.split(['?', '&']).collect();
        parameters.sort_unstable();
        parameters
    }

    #[test]
    fn the_token_of_a_session_is_botocores() {
        let url = url_in(&minted(Some("IQoJb3JpZ2luX2VjEXAMPLE//+token=="), "us-east-1", "prod"));
        assert_eq!(parameters(&url), parameters(WITH_SESSION));
    }

    #[test]
    fn the_token_is_byte_for_byte_botocores_and_china_has_its_own_suffix() {
        assert_eq!(url_in(&minted(None, "cn-north-1", "prod_2")), OF_CHINA);
    }

    #[test]
    fn the_token_is_unpadded_and_never_printed() {
        let token = minted(None, "eu-west-1", "prod");
        assert!(!token.expose_secret().contains(['=', '+', '/']));
        assert!(!format!("{token:?}").contains("k8s-aws-v1"));
    }
}
