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
    /// Whether the limit caps the requests in flight. It then has no fields.
    pub(super) is_cap: bool,
}

impl Rendered {
    /// Whether it is a ban.
    pub(crate) fn is_ban(&self) -> bool {
        self.is_ban
    }

    /// Whether it caps the requests in flight.
    pub(crate) fn is_cap(&self) -> bool {
        self.is_cap
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("policy", &self.policy).finish_non_exhaustive()
    }
}
