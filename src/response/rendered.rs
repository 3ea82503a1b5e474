//! The constant parts of one limit's responses.

use std::fmt;

use super::headers::Fields;
use super::refusal_template::RefusalTemplates;
use crate::policy::Policy;

/// The parts of a limit's responses that no request changes.
pub(crate) struct Rendered {
    pub(super) policy: Policy,
    pub(super) templates: RefusalTemplates,
    pub(super) fields: Option<Fields>,
    /// Whether the limit is a ban.
    pub(super) is_ban: bool,
}

impl Rendered {
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("policy", &self.policy).finish_non_exhaustive()
    }
}
