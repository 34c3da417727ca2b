//! Long listings of EC2, page by page. The SDK signs, sends and retries as ever; the body of a good
//! answer is read here, item by item while it arrives, instead of being held and parsed as a whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::{BoxError, DisplayErrorContext};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use spot_listing::{Item, Listing, Malformed, Shape};

use crate::error::{CallError, Kind};

/// The longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// One page, and where the next one begins.
#[derive(Debug)]
pub struct Page<T> {
    /// What was kept of it. May be empty, although there is a next page.
    pub items: Vec<T>,
    /// The token of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Keeps the body of an operation's answer from the SDK: to be added to the operation with
/// `.customize().interceptor(…)`, and asked for the page once it has been sent. The operation's own
/// output is then empty; an answer that is an error is the SDK's, as ever.
#[derive(Debug, Clone)]
pub struct Unread {
    shape: Shape,
    body: Arc<Mutex<Option<SdkBody>>>,
}

impl Unread {
    /// Of an operation whose answer has this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { shape, body: Arc::default() }
    }

    /// Reads the page; `keep` turns an item into what the caller wants of it, if anything.
    ///
    /// # Errors
    /// The answer breaks off, or can't be read. Nothing of the page may then be used.
    pub async fn page<T>(
        &self,
        call: &'static str,
        mut keep: impl FnMut(&Item) -> Result<Option<T>, Malformed>,
    ) -> Result<Page<T>, CallError> {
        let body = self.slot().take().ok_or_else(|| CallError::malformed(call, "no answer to read"))?;
        let (mut body, mut listing, mut items) =
            (ByteStream::new(body), Listing::new(self.shape), Vec::new());
        let mut each = |item: &Item| {
            items.extend(keep(item)?);
            Ok(())
        };
        while let Some(piece) = tokio::time::timeout(SILENCE, body.next())
            .await
            .map_err(|_| broken_off(call, format!("silent for {} s", SILENCE.as_secs())))?
        {
            let piece = piece.map_err(|e| broken_off(call, DisplayErrorContext(e).to_string()))?;
            listing.feed(&piece, &mut each).map_err(|e| malformed(call, &e))?;
        }
        let next = listing.end().map_err(|e| malformed(call, &e))?;
        Ok(Page { items, next })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<SdkBody>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Unread {
    fn name(&self) -> &'static str {
        "Unread"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let nothing = SdkBody::from(format!("<{}/>", self.shape.root));
            *self.slot() = Some(std::mem::replace(response.body_mut(), nothing));
        }
        Ok(())
    }
}

fn malformed(call: &'static str, error: &Malformed) -> CallError {
    match error {
        Malformed::BrokenOff => broken_off(call, error.to_string()),
        error => CallError::malformed(call, error.to_string()),
    }
}

/// As for any answer that did not come whole: the call may be made again.
fn broken_off(call: &'static str, message: String) -> CallError {
    CallError { call, kind: Kind::Retry, code: "NoAnswer".to_owned(), message }
}
