//! The quotas of one limit that are in use, each with its budgets and its responses.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use crate::decision::Decision;
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::Quotas;
use crate::response::{Rendered, Responder};
use crate::store::{Budget, BudgetRequest, BudgetResponse, Store};

/// A limit with the quotas of some requests: free customers, or one route.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) budget: Arc<dyn Budget>,
    /// Decides on the frames of a metered response. On a hybrid store, it uses leases.
    pub(super) frames: Option<Arc<dyn Budget>>,
    pub(super) rendered: Rendered,
    /// Whether no request ever fits.
    pub(super) is_blocked: bool,
}

/// Opens the tiers of one limit.
pub(super) struct Tiers {
    store: Arc<dyn Store>,
    /// The policy without quotas.
    policy: Policy,
    responder: Arc<Responder>,
    is_global: bool,
    is_metered: bool,
    opened: RwLock<HashMap<Quotas, Arc<Tier>, BuildHasherDefault<QuotasHasher>>>,
}

/// FxHash, as in Firefox. No client chooses quotas, so nobody can make them collide.
#[derive(Default)]
struct QuotasHasher(u64);

impl Hasher for QuotasHasher {
    fn finish(&self) -> u64 {
        // The table takes the top bits too, and multiplication leaves the low ones weak.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// The most tiers of a limit that stay open. Beyond them, all are opened anew when they are needed, which costs a few
/// microseconds and loses no count.
const MOST_TIERS: usize = 1_024;

impl Tiers {
    pub(super) fn new(
        store: Arc<dyn Store>,
        policy: Policy,
        responder: Arc<Responder>,
        is_global: bool,
        is_metered: bool,
    ) -> Self {
        Self { store, policy, responder, is_global, is_metered, opened: RwLock::default() }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The tier of some quotas, which is opened if necessary. `quotas` is not unlimited.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the store does not support the quotas.
    pub(super) fn get(&self, quotas: &Quotas) -> Result<Arc<Tier>, ConfigError> {
        if let Some(tier) = self.opened.read().unwrap_or_else(PoisonError::into_inner).get(quotas) {
            return Ok(Arc::clone(tier));
        }
        // Opened without the lock: another thread may open the same tier, and one of the two is then kept.
        let tier = Arc::new(self.open(self.policy.name(), quotas)?);
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= MOST_TIERS {
            opened.clear();
        }
        Ok(Arc::clone(opened.entry(quotas.clone()).or_insert(tier)))
    }

    /// A tier that is open, if there is one.
    pub(super) fn any(&self) -> Option<Arc<Tier>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).values().find(|tier| !tier.is_blocked).cloned()
    }

    /// Opens a tier under a name, which is that of the limit if its histories are to be shared.
    pub(super) fn open(&self, name: &str, quotas: &Quotas) -> Result<Tier, ConfigError> {
        let is_blocked = quotas.as_slice().iter().any(|quota| quota.count() == 0);
        let policy = self.policy.with_quotas(name, quotas.as_slice());
        let budget = match is_blocked {
            true => Arc::new(Blocked),
            false => self.store.open(&policy)?,
        };
        let frames = match self.is_metered && !is_blocked {
            true => Some(self.store.open(&policy.clone().unsettled().sharing_its_name())?),
            false => None,
        };
        Ok(Tier { budget, frames, rendered: self.responder.render(policy, self.is_global)?, is_blocked })
    }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The budget of a quota of 0, which needs no store.
#[derive(Debug)]
struct Blocked;

impl Budget for Blocked {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        BudgetResponse::Ready(Ok(match ask.cost {
            0 => Decision::allowed(0, 0),
            _ => Decision::rejected(0, 0, None),
        }))
    }

    fn refund(&self, _: &[u8], _: u64, _: &Decision) {}

    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        self.decide(ask)
    }
}
