//! Names of quotas in answers.

use crate::policy::Policy;

/// The names under which the quotas of a limit are told: the limit's, and from the second on with a number.
pub(super) fn quota_names(policy: &Policy) -> impl Iterator<Item = String> {
    let name = policy.name();
    (1..=policy.quotas().len()).map(move |n| if n == 1 { name.to_owned() } else { format!("{name}-{n}") })
}
