//! Names of quotas in responses.

use crate::policy::Policy;

/// The names of a limit's quotas: the limit's name, with a number from the second quota on.
pub(super) fn quota_names(policy: &Policy) -> impl Iterator<Item = String> {
    let name = policy.name();
    (1..=policy.quotas().len()).map(move |n| if n == 1 { name.to_owned() } else { format!("{name}-{n}") })
}
