//! The quota of a payload's size.

use std::io;

use super::TaskFailure;
use super::definition::names;

/// The most bytes of an input, a result or an output, and of what a state assigns: 256 KiB
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
const MOST_BYTES: usize = 262_144;

/// Counts the bytes of JSON.
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 += buffer.len();
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an error if the value has more bytes than a payload may have.
pub(super) fn within_limit(value: &impl serde::Serialize, name: &str) -> Result<(), TaskFailure> {
    let mut bytes = Bytes(0);
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) if bytes.0 <= MOST_BYTES => Ok(()),
        Ok(()) => {
            let cause = format!("{name} has {} bytes, more than {MOST_BYTES}", bytes.0);
            Err(TaskFailure::new(names::DATA_LIMIT_EXCEEDED, cause))
        }
        Err(error) => Err(TaskFailure::new(names::RUNTIME, error.to_string())),
    }
}
