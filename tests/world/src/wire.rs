//! Calls and answers as they go over the wire: the Query protocol of EC2, Auto Scaling, load balancing, SNS and STS, and
//! JSON of the others.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// The id of every answer. The same history must give the same bytes.
const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

/// An AWS service of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    Ec2,
    AutoScaling,
    ElasticLoadBalancing,
    DynamoDb,
    StepFunctions,
    Sns,
    EventBridge,
    Sts,
    Pricing,
    Eks,
    /// The API server of a cluster, which is no service of AWS.
    Kubernetes,
}

impl Service {
    /// Returns the service of a signature's scope.
    #[must_use]
    pub fn of_signing_name(name: &str) -> Option<Self> {
        Some(match name {
            "ec2" => Self::Ec2,
            "autoscaling" => Self::AutoScaling,
            "elasticloadbalancing" => Self::ElasticLoadBalancing,
            "dynamodb" => Self::DynamoDb,
            "states" => Self::StepFunctions,
            "sns" => Self::Sns,
            "events" => Self::EventBridge,
            "sts" => Self::Sts,
            "pricing" => Self::Pricing,
            "eks" => Self::Eks,
            _ => return None,
        })
    }

    /// Returns the service's name in the scope of a signature.
    #[must_use]
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::AutoScaling => "autoscaling",
            Self::ElasticLoadBalancing => "elasticloadbalancing",
            Self::DynamoDb => "dynamodb",
            Self::StepFunctions => "states",
            Self::Sns => "sns",
            Self::EventBridge => "events",
            Self::Sts => "sts",
            Self::Pricing => "pricing",
            Self::Eks => "eks",
            Self::Kubernetes => "kubernetes",
        }
    }

    fn speaks_json(self) -> bool {
        matches!(self, Self::DynamoDb | Self::StepFunctions | Self::EventBridge | Self::Pricing | Self::Eks)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signing_name())
    }
}

/// A request that is no call of a service of the world.
#[derive(Debug, thiserror::Error)]
pub enum MalformedCall {
    /// The header `authorization` names no region and no service.
    #[error("the request has no signature")]
    NoSignature,
    /// The signature is for another service.
    #[error("service {0:?} is not in the world")]
    UnknownService(String),
    /// The header `x-amz-target` or the body's `Action` is missing or empty.
    #[error("a call of {0} names no action")]
    NoAction(Service),
    /// The body of a JSON service is not JSON.
    #[error("the body of {service}:{action} is not JSON")]
    NotJson {
        service: Service,
        action: String,
        #[source]
        error: serde_json::Error,
    },
}

/// One call, as the SDK sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiCall {
    pub service: Service,
    /// The account whose role the call is signed with; `None` for the stack's own functions.
    pub account: Option<String>,
    pub region: String,
    pub action: String,
    pub body: CallBody,
}

/// The parameters of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum CallBody {
    /// Query protocol: parameter → value.
    Query(BTreeMap<String, String>),
    Json(Value),
}

/// Returns the credential that a call is signed with, out of the header `Authorization`: the access key, a slash, and the scope.
#[must_use]
pub fn credential(authorization: &str) -> Option<&str> {
    authorization.split("Credential=").nth(1)?.split(',').next()
}

impl ApiCall {
    /// Parses a signed call. The scope of its signature is `KEY/DATE/REGION/SERVICE/aws4_request`.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html>
    ///
    /// # Errors
    /// As [`ApiCall::parse`], or the header `authorization` has no such scope.
    pub fn signed(
        authorization: Option<&str>,
        target: Option<&str>,
        body: &[u8],
    ) -> Result<Self, MalformedCall> {
        let scope = authorization.and_then(credential);
        let mut scope = scope.unwrap_or_default().split('/').skip(2);
        let (Some(region), Some(service)) = (scope.next(), scope.next()) else {
            return Err(MalformedCall::NoSignature);
        };
        Self::parse(service, region, target, body)
    }

    /// Parses a call. `signing_name` and `region` are of the scope of the `Authorization` header; `target` is the header
    /// `x-amz-target`.
    ///
    /// # Errors
    /// The service is not in the world, no action is named, or a JSON body can't be read.
    pub fn parse(
        signing_name: &str,
        region: &str,
        target: Option<&str>,
        body: &[u8],
    ) -> Result<Self, MalformedCall> {
        let service = Service::of_signing_name(signing_name)
            .ok_or_else(|| MalformedCall::UnknownService(signing_name.to_owned()))?;
        let (action, body) = if service.speaks_json() {
            json_call(service, target, body)?
        } else {
            query_call(service, body)?
        };
        Ok(Self { service, account: None, region: region.to_owned(), action, body })
    }

    /// Returns a parameter of a Query call.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        match &self.body {
            CallBody::Query(parameters) => parameters.get(name).map(String::as_str),
            CallBody::Json(_) => None,
        }
    }

    /// Returns the texts of a list in a Query call: `Name.1`, `Name.2` …, or `Name.member.1` ….
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        let counted = |prefix: &str| -> Vec<&str> {
            (1..).map_while(|n| self.parameter(&format!("{prefix}.{n}"))).collect()
        };
        let plain = counted(name);
        if plain.is_empty() { counted(&format!("{name}.member")) } else { plain }
    }

    /// Returns the filters of a Query call with their values: `Filter.n.Name` and `Filter.n.Value.m`. The filters of Auto
    /// Scaling have the form `Filters.member.n.Name` and `Filters.member.n.Values.member.m`.
    #[must_use]
    pub fn filters(&self) -> Vec<(String, Vec<String>)> {
        let filter = |prefix: &str, values: &str, n: usize| {
            let name = self.parameter(&format!("{prefix}.{n}.Name"))?;
            let values = self.list(&format!("{prefix}.{n}.{values}"));
            Some((name.to_owned(), values.into_iter().map(str::to_owned).collect()))
        };
        let plain: Vec<_> = (1..).map_while(|n| filter("Filter", "Value", n)).collect();
        if plain.is_empty() {
            (1..).map_while(|n| filter("Filters.member", "Values", n)).collect()
        } else {
            plain
        }
    }

    /// Returns the body of a JSON call; `null` for a Query call.
    #[must_use]
    pub fn json(&self) -> &Value {
        match &self.body {
            CallBody::Json(value) => value,
            CallBody::Query(_) => &Value::Null,
        }
    }

    /// Returns a text of a JSON call's body; empty if it has none of this name.
    #[must_use]
    pub fn body_text(&self, name: &str) -> &str {
        self.json().get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

fn json_call(
    service: Service,
    target: Option<&str>,
    body: &[u8],
) -> Result<(String, CallBody), MalformedCall> {
    let action = target.and_then(|target| target.rsplit_once('.')).map(|(_, action)| action);
    let action = action.filter(|action| !action.is_empty()).ok_or(MalformedCall::NoAction(service))?;
    let body = if body.is_empty() { b"{}" } else { body };
    let body = serde_json::from_slice(body).map_err(|error| MalformedCall::NotJson {
        service,
        action: action.to_owned(),
        error,
    })?;
    Ok((action.to_owned(), CallBody::Json(body)))
}

fn query_call(service: Service, body: &[u8]) -> Result<(String, CallBody), MalformedCall> {
    let mut parameters: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let action = parameters.remove("Action").filter(|action| !action.is_empty());
    Ok((action.ok_or(MalformedCall::NoAction(service))?, CallBody::Query(parameters)))
}

/// One answer, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAnswer {
    pub status: u16,
    pub body: String,
}

impl ApiAnswer {
    /// Returns a successful answer of the Query protocol.
    #[must_use]
    pub fn xml(body: impl Into<String>) -> Self {
        Self { status: 200, body: body.into() }
    }

    /// Returns a successful answer of a JSON service.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self { status: 200, body: value.to_string() }
    }

    /// Returns a refusal of Auto Scaling, load balancing, SNS or STS.
    #[must_use]
    pub fn query_error(status: u16, code: &str, message: &str) -> Self {
        let (kind, code, message) =
            (if status < 500 { "Sender" } else { "Receiver" }, escape(code), escape(message));
        let body = format!(
            "<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
        );
        Self { status, body }
    }

    /// Returns a refusal of EC2.
    #[must_use]
    pub fn ec2_error(status: u16, code: &str, message: &str) -> Self {
        let (code, message) = (escape(code), escape(message));
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>{REQUEST_ID}</RequestID></Response>"
        );
        Self { status, body }
    }

    /// Returns a refusal of a JSON service.
    #[must_use]
    pub fn json_error(status: u16, code: &str, message: &str) -> Self {
        Self { status, body: json!({"__type": code, "message": message}).to_string() }
    }
}

/// Returns a text as it may stand between the tags of XML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ec2(body: &str) -> ApiCall {
        ApiCall::parse("ec2", "us-east-1", None, body.as_bytes()).unwrap()
    }

    #[test]
    fn a_query_call_has_its_action_and_its_decoded_parameters() {
        let call = ec2("Action=DescribeInstances&Version=2016-11-15&NextToken=a%2Bb+c");
        assert_eq!((call.service, call.action.as_str()), (Service::Ec2, "DescribeInstances"));
        assert_eq!(call.parameter("NextToken"), Some("a+b c"));
        assert_eq!(call.parameter("Action"), None);
        assert_eq!(call.json(), &Value::Null);
    }

    #[test]
    fn a_list_is_in_the_order_of_its_numbers_with_or_without_member() {
        let ids: Vec<String> = (1..=11).map(|n| format!("i-{n}")).collect();
        for infix in ["", "member."] {
            let sent: Vec<_> =
                ids.iter().enumerate().map(|(i, id)| format!("Id.{infix}{}={id}", i + 1)).collect();
            assert_eq!(ec2(&format!("Action=A&{}", sent.join("&"))).list("Id"), ids);
        }
        assert!(ec2("Action=A&Ids.1=i-1").list("Id").is_empty());
    }

    #[test]
    fn filters_have_names_and_values_in_both_forms() {
        let plain = "Filter.1.Name=state&Filter.1.Value.1=a&Filter.1.Value.2=b&Filter.2.Name=tag-key";
        let member = "Filters.member.1.Name=state&Filters.member.1.Values.member.1=a\
                      &Filters.member.1.Values.member.2=b&Filters.member.2.Name=tag-key";
        let expected =
            [("state".to_owned(), vec!["a".to_owned(), "b".to_owned()]), ("tag-key".to_owned(), vec![])];
        for form in [plain, member] {
            assert_eq!(ec2(&format!("Action=A&{form}")).filters(), expected);
        }
    }

    #[test]
    fn a_json_call_has_the_action_of_its_target() {
        let target = Some("DynamoDB_20120810.GetItem");
        let call = ApiCall::parse("dynamodb", "eu-west-1", target, br#"{"TableName":"t"}"#).unwrap();
        assert_eq!((call.service, call.action.as_str()), (Service::DynamoDb, "GetItem"));
        assert_eq!((call.region.as_str(), &call.json()["TableName"]), ("eu-west-1", &json!("t")));
    }

    #[test]
    fn a_signature_names_region_and_service() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKID/20260105/eu-west-1/sts/aws4_request, SignedHeaders=host";
        let call = ApiCall::signed(Some(header), None, b"Action=AssumeRole").unwrap();
        assert_eq!((call.service, call.region.as_str()), (Service::Sts, "eu-west-1"));
    }

    #[test]
    fn a_request_without_service_action_or_json_is_malformed() {
        let parse = |name, target, body: &str| ApiCall::parse(name, "r", target, body.as_bytes());
        assert!(matches!(ApiCall::signed(Some("Bearer x"), None, b""), Err(MalformedCall::NoSignature)));
        assert!(matches!(parse("s3", None, "Action=A"), Err(MalformedCall::UnknownService(_))));
        assert!(matches!(parse("sts", None, "Version=1"), Err(MalformedCall::NoAction(Service::Sts))));
        assert!(matches!(parse("states", None, "{}"), Err(MalformedCall::NoAction(_))));
        assert!(matches!(parse("states", Some("AWSStepFunctions."), "{}"), Err(MalformedCall::NoAction(_))));
        assert!(matches!(
            parse("events", Some("AWSEvents.PutEvents"), "{"),
            Err(MalformedCall::NotJson { .. })
        ));
    }

    #[test]
    fn every_service_has_its_signing_name() {
        use Service::{
            AutoScaling, DynamoDb, Ec2, ElasticLoadBalancing, EventBridge, Pricing, Sns, StepFunctions, Sts,
        };
        for service in
            [AutoScaling, DynamoDb, Ec2, ElasticLoadBalancing, EventBridge, Pricing, Sns, StepFunctions, Sts]
        {
            assert_eq!(Service::of_signing_name(service.signing_name()), Some(service));
        }
    }

    #[test]
    fn a_refusal_is_written_as_its_service_writes_it() {
        let error = ApiAnswer::query_error(400, "ValidationError", "a < b & c");
        assert!(error.body.contains("<Type>Sender</Type><Code>ValidationError</Code>"), "{error:?}");
        assert!(error.body.contains("<Message>a &lt; b &amp; c</Message>"), "{error:?}");
        let error = ApiAnswer::ec2_error(500, "InsufficientInstanceCapacity", "none");
        assert!(error.body.starts_with("<Response><Errors><Error><Code>InsufficientInstanceCapacity"));
        assert_eq!(error.status, 500);
        let error = ApiAnswer::json_error(400, "StateMachineDoesNotExist", "no");
        let body: Value = serde_json::from_str(&error.body).unwrap();
        assert_eq!(body, json!({"__type": "StateMachineDoesNotExist", "message": "no"}));
    }
}
