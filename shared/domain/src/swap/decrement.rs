//! The change of desired that Auto Scaling names in its answer to a call that decrements.

use std::fmt;

use crate::ids::InstanceId;

/// The words before the two figures, in the examples of DetachInstances and TerminateInstanceInAutoScalingGroup:
/// "At 2022-06-14T00:07:30Z instance i-1234567890abcdef0 was detached in response to a user request, shrinking the
/// capacity from 4 to 3." AWS promises no form.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html>
const SHRINKING: &str = "shrinking the capacity from ";

/// The desired capacity just before and just after a call that decrements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decremented {
    pub from: u32,
    pub to: u32,
}

impl Decremented {
    /// Reads the `Cause` of a scaling activity; `None` if it names no decrement in words that are known.
    #[must_use]
    pub fn parse(cause: &str) -> Option<Self> {
        let (_, figures) = cause.rsplit_once(SHRINKING)?;
        let (from, rest) = figures.split_once(" to ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let decremented = Self { from: from.parse().ok()?, to: rest[..end].parse().ok()? };
        (decremented.to < decremented.from).then_some(decremented)
    }

    /// Returns a remark for a person if desired was not what the swap had seen just before its call; `before_swap` is
    /// desired as it was before the attach.
    #[must_use]
    pub fn remark(self, old: &InstanceId, before_swap: u32) -> Option<String> {
        let expected = before_swap.saturating_add(1);
        (self.from != expected).then(|| {
            format!(
                "desired fell {self} when instance {old} left its group, and was to fall from {expected} to \
                 {before_swap}: another change came in between; check that the group has the capacity that it needs"
            )
        })
    }
}

impl fmt::Display for Decremented {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "from {} to {}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_aws_are_read_and_others_say_nothing() {
        let of = |from, to| Some(Decremented { from, to });
        for (cause, expected) in [
            (
                "At 2022-06-14T00:07:30Z instance i-1234567890abcdef0 was detached in response to a user request, \
                 shrinking the capacity from 4 to 3.",
                of(4, 3),
            ),
            (
                "At 2022-06-14T00:07:30Z instance i-1234567890abcdef0 was taken out of service in response to a user \
                 request, shrinking the capacity from 10 to 9.",
                of(10, 9),
            ),
            (
                "At 2022-12-23T19:12:00Z a monitor alarm changing the desired capacity from 9 to 7.  At \
                 2022-12-23T19:12:09Z an instance was taken out of service in response to a difference between desired \
                 and actual capacity, shrinking the capacity from 7 to 6.  At 2022-12-23T19:12:10Z instance \
                 i-0d1835f80668172d7 was selected for termination.",
                of(7, 6),
            ),
            ("At 2022-06-14T00:07:30Z instance i-1 was detached in response to a user request.", None),
            ("shrinking the capacity from 3 to 4.", None),
            ("shrinking the capacity from 99999999999 to 1.", None),
            ("shrinking the capacity from -1 to -2.", None),
            ("shrinking the capacity from 4 to ", None),
            ("shrinking the capacity from 4", None),
            ("", None),
        ] {
            assert_eq!(Decremented::parse(cause), expected, "{cause}");
        }
    }

    #[test]
    fn a_change_between_look_and_call_is_told_to_a_person() {
        let old = "i-0123456789abcdef0".parse().unwrap();
        let remark = |from, to| Decremented { from, to }.remark(&old, 3);
        assert_eq!(remark(4, 3), None);
        for (from, to) in [(3, 2), (5, 4)] {
            let told = remark(from, to).unwrap();
            assert!(told.contains(&format!("from {from} to {to}")) && told.contains("from 4 to 3"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(before: String, from: u32, to: u32, after: String) {
            let _ = Decremented::parse(&before);
            let read = Decremented::parse(&format!("{before}{SHRINKING}{from} to {to} {after}"));
            if !after.contains(SHRINKING) {
                prop_assert_eq!(read, (to < from).then_some(Decremented { from, to }));
            }
        }
    }
}
