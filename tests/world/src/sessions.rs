//! STS: sessions of roles in other accounts.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::wire::{ApiAnswer, ApiCall, escape};

/// The length of a session in seconds, unless the call asks for another.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const DEFAULT_DURATION: i64 = 3600;
/// A role assumed from a role lasts at most one hour, as all sessions of the stack do.
const DURATIONS: std::ops::RangeInclusive<i64> = 900..=3600;

/// A role that may be assumed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleTrust {
    /// The external id that the trust policy asks for.
    pub external_id: Option<String>,
}

/// A session that was given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSession {
    pub role_arn: String,
    pub session_name: String,
    pub expires_at: Timestamp,
}

/// STS of all accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    /// The roles by their ARNs. Any other role refuses.
    pub roles: BTreeMap<String, RoleTrust>,
    /// The sessions in the order of their beginnings.
    pub begun: Vec<RoleSession>,
}

/// Returns the access key of a session in an account; session 0 is that of the account's own functions.
#[must_use]
pub fn access_key(account_id: &str, session: usize) -> String {
    format!("ASIA{account_id}{session:04}")
}

/// Returns the account of an access key that [`access_key`] has made.
#[must_use]
pub fn account_of(access_key: &str) -> Option<&str> {
    let account_id = access_key.strip_prefix("ASIA")?.get(..12)?;
    account_id.bytes().all(|byte| byte.is_ascii_digit()).then_some(account_id)
}

impl Sessions {
    /// Carries a call out and answers it.
    pub fn carry_out(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        match call.action.as_str() {
            "AssumeRole" => self.assume_role(call, now).unwrap_or_else(|refusal| refusal),
            action => ApiAnswer::query_error(501, "NotInTheWorld", &format!("the world has no sts:{action}")),
        }
    }

    fn assume_role(&mut self, call: &ApiCall, now: Timestamp) -> Result<ApiAnswer, ApiAnswer> {
        let arn = call.parameter("RoleArn").unwrap_or_default();
        let name = session_name(call)?;
        let duration = match call.parameter("DurationSeconds").map(str::parse) {
            None => DEFAULT_DURATION,
            Some(Ok(seconds)) if DURATIONS.contains(&seconds) => seconds,
            Some(_) => return Err(invalid("DurationSeconds is not between 900 and 3600")),
        };
        let Some((account_id, role)) = parts(arn) else { return Err(invalid(&format!("{arn} is invalid"))) };
        let is_trusted = self.roles.get(arn).is_some_and(|trust| {
            trust.external_id.is_none() || trust.external_id.as_deref() == call.parameter("ExternalId")
        });
        if !is_trusted {
            let problem = format!("User is not authorized to perform: sts:AssumeRole on resource: {arn}");
            return Err(ApiAnswer::query_error(403, "AccessDenied", &problem));
        }
        let expires_at = now.saturating_add(SignedDuration::from_secs(duration)).unwrap_or(Timestamp::MAX);
        let key = access_key(account_id, self.begun.len() + 1);
        let session = RoleSession { role_arn: arn.to_owned(), session_name: name.to_owned(), expires_at };
        let answer = answer(account_id, role, &session, &key);
        self.begun.push(session);
        Ok(answer)
    }
}

fn session_name(call: &ApiCall) -> Result<&str, ApiAnswer> {
    let name = call.parameter("RoleSessionName").unwrap_or_default();
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if (2..=64).contains(&name.len()) && name.chars().all(may_stand) {
        return Ok(name);
    }
    let problem = format!("Value '{name}' at 'roleSessionName' failed to satisfy constraint");
    Err(invalid(&problem))
}

fn invalid(problem: &str) -> ApiAnswer {
    ApiAnswer::query_error(400, "ValidationError", problem)
}

/// Returns the account and the name of a role; the name comes after its path.
fn parts(arn: &str) -> Option<(&str, &str)> {
    let (account_id, role) = arn.split_once(":iam::")?.1.split_once(":role/")?;
    let is_account = account_id.len() == 12 && account_id.bytes().all(|byte| byte.is_ascii_digit());
    is_account.then(|| (account_id, role.rsplit('/').next().unwrap_or(role)))
}

fn answer(account_id: &str, role: &str, session: &RoleSession, key: &str) -> ApiAnswer {
    let RoleSession { session_name, expires_at, .. } = session;
    let arn = format!("arn:aws:sts::{account_id}:assumed-role/{role}/{session_name}");
    let expiration = Timestamp::from_second(expires_at.as_second()).unwrap_or(*expires_at);
    ApiAnswer::xml(format!(
        "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>AROAWORLD:{session_name}</AssumedRoleId>\
         <Arn>{}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        escape(&arn)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::wire::{CallBody, Service};

    const ROLE: &str = "arn:aws:iam::210987654321:role/path/spot-optimizer";

    fn sessions(external_id: Option<&str>) -> Sessions {
        let trust = RoleTrust { external_id: external_id.map(str::to_owned) };
        Sessions { roles: BTreeMap::from([(ROLE.to_owned(), trust)]), begun: Vec::new() }
    }

    fn assume(sessions: &mut Sessions, more: &[(&str, &str)]) -> ApiAnswer {
        let base = [("RoleArn", ROLE), ("RoleSessionName", "spot-optimizer")];
        let parameters =
            base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let call = ApiCall {
            service: Service::Sts,
            account: None,
            region: "us-east-1".to_owned(),
            action: "AssumeRole".to_owned(),
            body: CallBody::Query(parameters.collect()),
        };
        sessions.carry_out(&call, Timestamp::from_second(100).unwrap())
    }

    #[test]
    fn the_key_of_a_session_names_the_account_of_the_role() {
        let mut sessions = sessions(None);
        let answer = assume(&mut sessions, &[]);
        let key = access_key("210987654321", 1);
        assert!(answer.body.contains(&format!("<AccessKeyId>{key}</AccessKeyId>")), "{answer:?}");
        assert!(answer.body.contains("<Expiration>1970-01-01T01:01:40Z</Expiration>"), "{answer:?}");
        assert!(answer.body.contains("assumed-role/spot-optimizer/spot-optimizer</Arn>"), "{answer:?}");
        assert_eq!(account_of(&key), Some("210987654321"));
        assert_eq!(account_of("AKIAIOSFODNN7EXAMPLE"), None);
        let session = &sessions.begun[0];
        assert_eq!((session.role_arn.as_str(), session.expires_at.as_second()), (ROLE, 3700));
    }

    #[test]
    fn a_role_asks_for_its_external_id() {
        let mut sessions = sessions(Some("open sesame"));
        for wrong in [&[][..], &[("ExternalId", "please")]] {
            let answer = assume(&mut sessions, wrong);
            assert_eq!((answer.status, answer.body.contains("<Code>AccessDenied</Code>")), (403, true));
        }
        assert_eq!(assume(&mut sessions, &[("ExternalId", "open sesame")]).status, 200);
        assert_eq!(sessions.begun.len(), 1);
    }

    #[test]
    fn a_role_that_does_not_exist_and_a_malformed_call_are_refused() {
        for (parameter, status) in [
            (("RoleArn", "arn:aws:iam::210987654321:role/other"), 403),
            (("RoleArn", "other"), 400),
            (("RoleSessionName", "x"), 400),
            (("RoleSessionName", "no spaces"), 400),
            (("DurationSeconds", "899"), 400),
            (("DurationSeconds", "7200"), 400),
        ] {
            let mut sessions = sessions(None);
            assert_eq!(assume(&mut sessions, &[parameter]).status, status, "{parameter:?}");
            assert_eq!(sessions.begun, []);
        }
        assert_eq!(assume(&mut sessions(None), &[("DurationSeconds", "900")]).status, 200);
    }
}
