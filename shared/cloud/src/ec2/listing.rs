//! Long listings of EC2, page by page. The SDK signs, sends and retries as usual. This module reads the body
//! of a good answer item by item while it arrives, instead of holding and parsing it as a whole.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use spot_listing::collector::Collector;
use spot_listing::{Item, MalformedListing, Shape};

use crate::error::{CallError, Kind, NO_ANSWER, failed, unreadable};

/// The longest time from an answer's first byte to its last: a thousand items are a megabyte.
const ANSWER: Duration = Duration::from_secs(30);

/// One page, and the start of the next one.
#[derive(Debug)]
pub struct Page<T> {
    /// The items that the caller kept. The list may be empty although there is a next page.
    pub items: Vec<T>,
    /// The token of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Sends an operation whose answer has this shape, and reads the page.
///
/// `asked` is the token of the request. `keep` turns an item into what the caller keeps of it, if anything.
/// `send` adds the interceptor to the operation (`.customize().interceptor(…).send()`); the operation's own
/// output is then empty.
///
/// # Errors
/// The call fails, its answer breaks off, or it can't be read. Nothing of the page may then be used.
pub async fn page<T, O, E, F>(
    shape: Shape,
    call: &'static str,
    asked: Option<&str>,
    send: impl FnOnce(Unread) -> F,
    keep: impl FnMut(&Item) -> Result<Option<T>, MalformedListing>,
) -> Result<Page<T>, CallError>
where
    F: Future<Output = Result<O, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let unread = Unread { shape, body: Arc::default() };
    send(unread.clone()).await.map_err(failed(call))?;
    let body = unread.slot().take().ok_or_else(|| CallError::malformed(call, "no answer to read"))?;
    let (mut body, mut listing) = (ByteStream::new(body), Collector::new(shape, keep));
    let read = async {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| broken_off(unreadable(call)(e)))?;
            listing.feed(&piece).map_err(malformed(call))?;
        }
        listing.end().map_err(malformed(call))
    };
    let read = tokio::time::timeout(ANSWER, read).await;
    let (items, next) = read.map_err(|_| {
        broken_off(CallError::malformed(call, format!("not complete after {} s", ANSWER.as_secs())))
    })??;
    Ok(Page { items, next: next_token(call, asked, next)? })
}

/// Asks for page after page, by the token of each, and hands the items of each to `keep`.
///
/// # Errors
/// A page can't be had. The items of the pages before it are kept.
pub async fn all<T, F>(
    mut page: impl FnMut(Option<String>) -> F,
    mut keep: impl FnMut(Vec<T>),
) -> Result<(), CallError>
where
    F: Future<Output = Result<Page<T>, CallError>>,
{
    let mut token = None;
    loop {
        let found = page(token).await?;
        keep(found.items);
        token = found.next;
        if token.is_none() {
            return Ok(());
        }
    }
}

/// Returns the token of the next page. A token that leads back to its own page is refused: it would list for
/// ever.
pub(crate) fn next_token(
    call: &'static str,
    asked: Option<&str>,
    next: Option<String>,
) -> Result<Option<String>, CallError> {
    if next.is_some() && next.as_deref() == asked {
        return Err(CallError::malformed(call, "the next page has the token of this one"));
    }
    Ok(next)
}

/// The interceptor that keeps the body of a good answer from the SDK. An error's body goes to the SDK as
/// usual.
#[derive(Debug, Clone)]
pub struct Unread {
    shape: Shape,
    body: Arc<Mutex<Option<SdkBody>>>,
}

impl Unread {
    fn slot(&self) -> MutexGuard<'_, Option<SdkBody>> {
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

fn malformed(call: &'static str) -> impl Fn(MalformedListing) -> CallError {
    move |error| match error {
        MalformedListing::BrokenOff => broken_off(unreadable(call)(error)),
        error => unreadable(call)(error),
    }
}

/// Returns the error of an answer that broke off: as after any incomplete answer, the call may be repeated.
fn broken_off(error: CallError) -> CallError {
    CallError { kind: Kind::Retry, code: NO_ANSWER.to_owned(), ..error }
}
