//! The refusals of DynamoDB.

use serde_json::{Value, json};

use super::attribute::{AttributeMap, to_json};
use crate::wire::ApiAnswer;

const PREFIX: &str = "com.amazonaws.dynamodb.v20120810#";

/// A refusal of DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DynamoDbError {
    #[error("{0}")]
    Validation(String),
    #[error("Requested resource not found")]
    NoSuchTable,
    /// The item is present if the call asked for it and it exists.
    #[error("The conditional request failed")]
    ConditionFailed(Option<AttributeMap>),
    /// One reason for each write of the transaction, in its order.
    #[error("Transaction cancelled, please refer cancellation reasons for specific reasons [{}]", codes(.0))]
    Cancelled(Vec<Option<Box<DynamoDbError>>>),
    #[error("The client request token was used with other parameters")]
    TokenReused,
    /// The call asks for a behaviour that the world does not have. It is never ignored in silence.
    #[error("the world has no {0}")]
    NotInTheWorld(String),
}

impl DynamoDbError {
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::Validation(message.into())
    }

    /// Returns a fault of a parameter's value, as DynamoDB introduces it.
    pub(super) fn invalid(problem: impl std::fmt::Display) -> Self {
        Self::Validation(format!("One or more parameter values were invalid: {problem}"))
    }

    /// Returns the answer that the client gets.
    #[must_use]
    pub fn answer(&self) -> ApiAnswer {
        let mut body = json!({"__type": self.kind(), "message": self.to_string()});
        match self {
            Self::ConditionFailed(Some(item)) => body["Item"] = to_json(item),
            Self::Cancelled(reasons) => {
                body["Message"] = body["message"].take();
                body["CancellationReasons"] =
                    reasons.iter().map(|reason| reason_json(reason.as_deref())).collect();
            }
            _ => {}
        }
        let status = if matches!(self, Self::NotInTheWorld(_)) { 501 } else { 400 };
        ApiAnswer { status, body: body.to_string() }
    }

    fn kind(&self) -> String {
        let name = match self {
            // The prefix of this one differs.
            Self::Validation(_) => return "com.amazon.coral.validate#ValidationException".to_owned(),
            Self::NoSuchTable => "ResourceNotFoundException",
            Self::ConditionFailed(_) => "ConditionalCheckFailedException",
            Self::Cancelled(_) => "TransactionCanceledException",
            Self::TokenReused => "IdempotentParameterMismatchException",
            Self::NotInTheWorld(_) => "NotInTheWorld",
        };
        format!("{PREFIX}{name}")
    }

    /// Returns the code of a reason for which a transaction is cancelled.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
    fn reason_code(&self) -> &'static str {
        match self {
            Self::ConditionFailed(_) => "ConditionalCheckFailed",
            _ => "ValidationError",
        }
    }
}

fn codes(reasons: &[Option<Box<DynamoDbError>>]) -> String {
    let code =
        |reason: &Option<Box<DynamoDbError>>| reason.as_ref().map_or("None", |error| error.reason_code());
    reasons.iter().map(code).collect::<Vec<_>>().join(", ")
}

fn reason_json(reason: Option<&DynamoDbError>) -> Value {
    let Some(error) = reason else { return json!({"Code": "None"}) };
    let mut told = json!({"Code": error.reason_code(), "Message": error.to_string()});
    if let DynamoDbError::ConditionFailed(Some(item)) = error {
        told["Item"] = to_json(item);
    }
    told
}
