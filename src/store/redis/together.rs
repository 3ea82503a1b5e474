//! A decision on several budgets of one Redis store in one step.
//!
//! One script call decides on the keys of all limits, and charges all of them or none. On a cluster, it needs keys of
//! one slot. A refused request writes nothing, except the demand of a suppressed limit that shed it.
//!
//! What a single decision guarantees also holds here, for each limit:
//!
//! - A dropped future may have charged the request, to all limits or to none. So may a call whose reply is lost.
//! - If Redis cannot decide, this instance's shares do, again all or none. A limit without a share follows its policy.
//!   After a call that may have run, the shares charge the request again, and nothing is refunded.
//! - If the value of a key has another type, the limit's share decides, or its policy. Only then are other limits charged
//!   first, and refunded if the share refuses.
//!
//! A refusal by an enforced absolute limit is repeated for a short time without a call; see `joint_refusals`. It is the
//! only case in which the wait may lack that of a limit that filled up since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::deny_cache::RoundTrip;
use super::redis_store::RedisBudget;
use super::state::{LimitHandle, Shared, Wanted};
use crate::decision::{Charge, Decision, Verdict};
use crate::engine::Limit;
use crate::geometry::EMPTY_SHARES;
use crate::keyspace::{self, Step};
use crate::redis::{Failure, JointKey, KeyReply};
use crate::script::{Ask, JointAsk, Mode};
use crate::store::local_share::LocalShare;
use crate::store::part::{Decisions, DecisionsResponse, MAX_LIMITS, Part};

/// Returns `None` if a part belongs to another store, or one script cannot have all keys.
pub(crate) fn decide_together(parts: &[Part<'_>]) -> Option<DecisionsResponse> {
    let group = Group::of(parts)?;
    let dispatcher = &group.shared.client.dispatcher;
    if !dispatcher.joins(group.members.iter().map(|member| &*member.name)) {
        return None;
    }
    if !dispatcher.allows(group.members.first().map(|member| &*member.name)) {
        return Some(DecisionsResponse::Ready(group.without_redis(&Failure::unavailable())));
    }
    let changes = group.changes();
    if let Some(decisions) = changes.and_then(|changes| group.repeated(changes)) {
        return Some(DecisionsResponse::Ready(decisions));
    }
    Some(DecisionsResponse::Pending(Box::pin(async move { group.decide(changes).await })))
}

/// One limit's part of a request.
struct Member {
    /// The position of the limit in the caller's order.
    index: usize,
    account: LimitHandle,
    limits: Arc<[Limit]>,
    mode: Mode,
    key: Box<[u8]>,
    name: Box<[u8]>,
    cost: u64,
    is_enforced: bool,
    /// Whether a failure of the store refuses the request, unless there is a share.
    is_needed: bool,
}

impl Member {
    fn of(index: usize, part: &Part<'_>, budget: &RedisBudget) -> Self {
        let wanted = budget.wanted(part.ask);
        Self {
            index,
            account: budget.account.clone(),
            limits: Arc::clone(&budget.limits),
            mode: wanted.mode,
            key: wanted.key.into(),
            name: budget.account.keys.space.names.name(wanted.key),
            cost: wanted.cost,
            is_enforced: part.is_enforced,
            is_needed: part.needs_store(),
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { key: &self.key, cost: self.cost, limits: &self.limits, mode: self.mode }
    }

    fn share(&self) -> Option<&LocalShare> {
        self.account.share.as_ref()
    }

    /// Whether a value of another type refuses the request.
    fn needs_value(&self) -> bool {
        self.is_needed && self.share().is_none()
    }

    fn is_suppressed(&self) -> bool {
        self.mode == Mode::Suppressed
    }

    fn refuses(&self, decision: &Decision) -> bool {
        self.is_enforced && !decision.is_allowed()
    }
}

/// A request with several limits of one store.
struct Group {
    shared: Arc<Shared>,
    /// The limits in the order in which they are decided. Those of the suppressed strategy are last, so that their
    /// demand is what the others admit. The order of the parts is irrelevant.
    members: Vec<Member>,
}

impl Group {
    /// Returns `None` if the parts are not of one store, or if two have the same name and so may have the same key.
    fn of(parts: &[Part<'_>]) -> Option<Self> {
        let mut budgets = ArrayVec::<&RedisBudget, MAX_LIMITS>::new();
        for part in parts {
            let budget: &RedisBudget = part.budget.as_any()?.downcast_ref()?;
            if budgets.iter().any(|other| other.opened.name() == budget.opened.name()) {
                return None;
            }
            budgets.try_push(budget).ok()?;
        }
        let (first, others) = budgets.split_first()?;
        if others.is_empty() || others.iter().any(|other| !Arc::ptr_eq(&other.shared, &first.shared)) {
            return None;
        }
        let mut members: Vec<Member> = parts
            .iter()
            .zip(&budgets)
            .enumerate()
            .map(|(index, (part, budget))| Member::of(index, part, budget))
            .collect();
        members.sort_by_cached_key(|member| (member.is_suppressed(), budgets[member.index].opened.name()));
        Some(Self { shared: Arc::clone(&first.shared), members })
    }

    /// The number of corrections of the keys; `None` if a limit remembers no refusals.
    fn changes(&self) -> Option<u64> {
        let changes = self.members.iter().map(|member| member.account.keys.changes(&member.key));
        changes.sum()
    }

    /// Identifies the keys, costs and limits of the request.
    fn identity(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 * self.members.len());
        for member in &self.members {
            for number in [member.name.len() as u64, member.cost, Limit::digest(&member.limits)] {
                out.extend(number.to_le_bytes());
            }
            out.push(u8::from(member.is_enforced));
            out.extend_from_slice(&member.name);
        }
        out
    }

    fn undecided(&self) -> Decisions {
        let mut decisions = Decisions::default();
        decisions.clear(self.members.len());
        decisions
    }

    fn repeated(&self, changes: u64) -> Option<Decisions> {
        let held = self.shared.refused.get(&self.identity(), changes, Instant::now())?;
        let mut decisions = self.undecided();
        for (member, decision) in self.members.iter().zip(held) {
            decisions.record(member.index, member.is_enforced, decision);
        }
        Some(decisions)
    }

    async fn decide(self, changes: Option<u64>) -> Decisions {
        let asks: ArrayVec<Ask, MAX_LIMITS> =
            self.members.iter().map(|member| Ask { cost: member.cost, random: fastrand::u32(..) }).collect();
        let of_each: ArrayVec<u64, MAX_LIMITS> =
            self.members.iter().map(|member| member.account.keys.changes(&member.key).unwrap_or(0)).collect();
        let key = |(member, ask): (&Member, &Ask)| JointKey {
            policy: self.shared.policy(&member.account, &member.wanted()),
            name: member.name.clone(),
            ask: JointAsk { ask: *ask, is_enforced: member.is_enforced, is_needed: member.needs_value() },
        };
        let keys = self.members.iter().zip(&asks).map(key).collect();
        let reply = self.shared.client.dispatcher.decide_jointly(keys).await;
        let read = reply.and_then(|reply| Ok((self.read(&reply, &asks)?, reply)));
        match read {
            Ok((results, KeyReply { sent, received, .. })) => {
                for ((member, result), changes) in self.members.iter().zip(&results).zip(of_each) {
                    if let Some(decision) = result {
                        let asked = RoundTrip { sent, received, changes };
                        self.shared.remember(&member.account, &member.wanted(), decision, asked);
                    }
                }
                if let Some(changes) = changes {
                    self.remember_refusal(&results, RoundTrip { sent, received, changes });
                }
                self.conclude(&results)
            }
            Err(failure) => self.without_redis(&failure),
        }
    }

    /// Reads the decisions as they hold for the whole request: if it is refused, no limit is charged. A limit whose key
    /// has a value of another type has none.
    fn read(&self, reply: &KeyReply, asks: &[Ask]) -> Result<ArrayVec<Option<Decision>, MAX_LIMITS>, Failure> {
        let (records, client) = (reply.read()?, &self.shared.client);
        let (mut results, mut refused_at) = (ArrayVec::new(), None);
        for (index, (member, ask)) in self.members.iter().zip(asks).enumerate() {
            let read = || client.read_at(&records, index, *ask, member.cost, &member.limits);
            let decision = if records.is_foreign_at(index) { None } else { Some(read()?) };
            if decision.as_ref().map_or(member.needs_value(), |decision| member.refuses(decision)) {
                refused_at = refused_at.or(Some(index));
            }
            results.push(decision);
        }
        let Some(refused_at) = refused_at else { return Ok(results) };
        for (index, (member, decision)) in self.members.iter().zip(&mut results).enumerate() {
            *decision = decision.map(|decision| decision.uncharged(member.cost));
            if index > refused_at {
                *decision = decision.map(at_hard_cap);
            }
        }
        Ok(results)
    }

    /// Repeats a refusal if an absolute limit refuses, which does not change with the next request.
    fn remember_refusal(&self, results: &[Option<Decision>], asked: RoundTrip) {
        let Some(decisions) = results.iter().copied().collect::<Option<Box<[Decision]>>>() else { return };
        let stands = |(member, decision): (&Member, &Decision)| !member.is_suppressed() && member.refuses(decision);
        if self.members.iter().zip(&decisions).any(stands) {
            let refusals = decisions.iter().filter(|decision| !decision.is_allowed());
            let wait = refusals.filter_map(Decision::retry_after).min().unwrap_or(Duration::MAX);
            self.shared.refused.insert(&self.identity(), wait, asked, decisions);
        }
    }

    /// Decides by the policy of each limit whose value has another type, and combines all decisions.
    fn conclude(&self, results: &[Option<Decision>]) -> Decisions {
        let mut decisions = self.undecided();
        for (member, result) in self.members.iter().zip(results) {
            match result {
                Some(decision) => decisions.record(member.index, member.is_enforced, *decision),
                None if member.share().is_none() => decisions.record_failure(member.is_needed),
                None => {}
            }
        }
        let with_share = |(member, result): &(&Member, &Option<Decision>)| result.is_none() && member.share().is_some();
        for (member, _) in self.members.iter().zip(results).filter(with_share) {
            let (account, wanted, failure) = (&member.account, member.wanted(), Failure::foreign());
            let result = match decisions.is_allowed() {
                true => self.shared.without_redis(account, &wanted, failure),
                false => self.shared.peek_without_redis(account, &wanted, failure),
            };
            match result {
                Ok(decision) => decisions.record(member.index, member.is_enforced, decision),
                Err(_) => decisions.record_failure(member.is_needed),
            }
        }
        if !decisions.is_allowed() {
            for member in &self.members {
                let charged = decisions.get(member.index).filter(|decision| decision.charge.units() > 0).copied();
                if let Some(decision) = charged {
                    self.shared.take_back(&member.account, &member.key, member.cost, &decision);
                    decisions.uncharge(member.index, member.cost);
                }
            }
        }
        decisions
    }

    /// Decides on the shares of all limits together, and by the policy of each limit without one.
    fn without_redis(&self, failure: &Failure) -> Decisions {
        let mut decisions = self.undecided();
        for member in self.members.iter().filter(|member| member.share().is_none()) {
            decisions.record_failure(member.is_needed);
        }
        let shares = self.members.iter().filter_map(|member| Some((member, member.share()?)));
        let instances = self.shared.client.instances();
        if !decisions.is_allowed() {
            for (member, share) in shares {
                let decision = share.look(&member.key, member.cost, &member.limits, instances, member.is_suppressed());
                decisions.record(member.index, member.is_enforced, decision);
            }
            return decisions;
        }
        let mut rooms = [EMPTY_SHARES; MAX_LIMITS];
        let parts: ArrayVec<(&Member, &LocalShare, &[Limit]), MAX_LIMITS> = shares
            .zip(&mut rooms)
            .map(|((member, share), room)| (member, share, share.parts(&member.limits, instances, room)))
            .collect();
        let Some((_, first, _)) = parts.first() else { return decisions };
        let now_ms = first.now_ms();
        let mut steps = ArrayVec::<Step<'_>, MAX_LIMITS>::new();
        for (at, (member, share, parts)) in parts.iter().enumerate() {
            let mut step = share.step(&member.key, now_ms, parts, member.is_suppressed());
            (step.cost, step.is_enforced, step.index) = (member.cost, member.is_enforced, at);
            steps.push(step);
        }
        // The names differ, and so do the tables.
        let is_admitted = keyspace::decide_together(&mut steps).unwrap_or(false);
        for step in &steps {
            let ((member, share, parts), Some((outcome, place))) = (parts[step.index], step.outcome) else { continue };
            let mut decision = share.decision(&outcome, place, member.cost, &member.limits, parts, now_ms);
            if let Charge::LocalShare { units, .. } = &mut decision.charge
                && !is_admitted
            {
                *units = 0;
            }
            self.shared.owe(&member.account, &member.key, &decision, failure);
            decisions.record(member.index, member.is_enforced, decision);
        }
        decisions
    }
}

/// A decision on a request that another limit refuses. Of the suppressed strategy, only the hard cap counts then.
fn at_hard_cap(decision: Decision) -> Decision {
    match decision.verdict {
        Verdict::Suppressed { .. } if decision.factor < 1.0 => {
            Decision { verdict: Verdict::Allowed, violated: 0, retry_after_ms: 0, factor: 0.0, ..decision }
        }
        _ => decision,
    }
}
