//! Calls that are repeated beyond the SDK's own retries.

use std::future::Future;
use std::time::Duration;

use crate::error::{CallError, Kind};

/// Makes a call, and again after each of the `pauses`, as long as it fails with an error that `is_passing`.
///
/// # Errors
/// The call fails with another error, or has failed once more often than there are pauses.
pub async fn patiently<T, F>(
    pauses: &[Duration],
    is_passing: fn(&CallError) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    for pause in pauses {
        match call().await {
            Err(error) if is_passing(&error) => {
                tracing::warn!("{error}; asking again in {} ms", pause.as_millis());
                tokio::time::sleep(*pause).await;
            }
            answer => return answer,
        }
    }
    call().await
}

/// Returns true if the same call may succeed later.
#[must_use]
pub fn may_pass(error: &CallError) -> bool {
    error.kind == Kind::Retry
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(kinds: &[Kind]) -> (usize, Option<Kind>) {
        let mut asked = 0;
        let answer = patiently(&[Duration::ZERO; 2], may_pass, || {
            let kind = kinds.get(asked).copied();
            asked += 1;
            std::future::ready(match kind {
                Some(kind) => Err(CallError { kind, ..CallError::malformed("ec2:DescribeVolumes", "") }),
                None => Ok(()),
            })
        });
        let kind = answer.await.err().map(|error| error.kind);
        (asked, kind)
    }

    #[tokio::test]
    async fn a_call_is_repeated_for_what_passes_and_not_for_ever() {
        assert_eq!(asked(&[]).await, (1, None));
        assert_eq!(asked(&[Kind::Retry; 2]).await, (3, None));
        assert_eq!(asked(&[Kind::Retry; 3]).await, (3, Some(Kind::Retry)));
        assert_eq!(asked(&[Kind::Retry, Kind::Denied]).await, (2, Some(Kind::Denied)));
    }
}
