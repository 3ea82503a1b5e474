//! The rules of a layer for requests that no limit decides. They apply before the key is read.

use std::fmt;
use std::sync::Arc;

use crate::key::RequestView;

pub(super) type Predicate = dyn Fn(&RequestView<'_>) -> bool + Send + Sync;

/// What a layer does with a request that meets a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The request is admitted and not charged.
    Exempt,
    /// The request is refused and not charged.
    Deny,
}

/// The rules of one layer, in the order in which they apply.
pub(super) struct Rules(Box<[(Rule, Arc<Predicate>)]>);

impl Rules {
    pub(super) fn new(exempt: Vec<Arc<Predicate>>, deny: Vec<Arc<Predicate>>) -> Self {
        let exempt = exempt.into_iter().map(|is_met| (Rule::Exempt, is_met));
        Self(exempt.chain(deny.into_iter().map(|is_met| (Rule::Deny, is_met))).collect())
    }

    /// The first rule that a request meets.
    #[inline]
    pub(super) fn find(&self, request: &RequestView<'_>) -> Option<Rule> {
        self.0.iter().find(|(_, is_met)| is_met(request)).map(|(rule, _)| *rule)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(rule, _)| rule)).finish()
    }
}
