//! The room that the payload has: 256 KiB, for the candidates, the instances that stay, the journal and the results.

use spot_domain::swap::report::NotSwapped;
use spot_domain::swap::selection::Candidate;

use super::Work;

/// Bytes of candidates that a run carries: the rest of Step Functions' 256 KiB is for its results. The journal's list of the
/// group's members takes its room from that.
const QUEUE_BYTES: usize = 100_000;
/// The same, however large the group is.
const QUEUE_BYTES_AT_LEAST: usize = 30_000;
/// Bytes of an instance id in a list.
const MEMBER_BYTES: usize = 22;
/// Bytes of instances that are left alone from the beginning.
const SKIPPED_BYTES: usize = 50_000;

impl Work {
    /// Keeps as many candidates as the payload has room for.
    pub fn enqueue(&mut self, candidates: Vec<Candidate>) {
        let members = self.group_size.saturating_mul(MEMBER_BYTES);
        let room = QUEUE_BYTES.saturating_sub(members).max(QUEUE_BYTES_AT_LEAST);
        let mut bytes = 0;
        for candidate in candidates {
            bytes += serde_json::to_vec(&candidate).map_or(QUEUE_BYTES, |json| json.len());
            if bytes <= room {
                self.queue.push(candidate);
            } else {
                self.deferred = self.deferred.saturating_add(1);
            }
        }
    }

    /// Lists as many of the instances that stay as the payload has room for, and counts the others.
    pub fn leave_alone(&mut self, left: Vec<NotSwapped>) {
        let mut bytes = 0;
        for left in left {
            bytes += serde_json::to_vec(&left).map_or(SKIPPED_BYTES, |json| json.len());
            if bytes <= SKIPPED_BYTES {
                self.skipped.push(left);
            } else {
                *self.skipped_more.entry(left.reason).or_default() += 1;
            }
        }
    }
}
