//! Random requests against a naive model: one sum of units for each limit and key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_weir::store::{Budget, Store, Strategy};
use tower_weir::{Decision, HardLimitFactor, RateLimiter, RedisOptions};

use super::{decide, limiter, part, patient, peek, policy};
use crate::support::servers::{Cluster, Flavor, Server};

/// The windows differ, so a wait shows its limit. Nothing expires during a test.
const LIMITS: [(&str, u64, u64); 4] = [("hours3", 14, 3), ("hours5", 21, 5), ("hours2", 9, 2), ("hours9", 30, 9)];
/// The limit of the suppressed strategy, which may shed a request at random.
const SUPPRESSED: usize = LIMITS.len();
const HARD_CAP: u64 = 24;

/// How long a refund may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Model {
    has_refunds: bool,
    budgets: Vec<Arc<dyn Budget>>,
    used: HashMap<(usize, &'static str), u64>,
    random: fastrand::Rng,
    admitted: u32,
    refused: u32,
}

/// One part of a random request.
#[derive(Clone, Copy, Debug)]
struct Want {
    limit: usize,
    key: &'static str,
    cost: u64,
    is_enforced: bool,
}

impl Model {
    fn new(rl: &RateLimiter, seed: u64, has_refunds: bool) -> Self {
        let open = |(name, capacity, hours): (&str, u64, u64)| {
            let quota = format!("{capacity}/{hours}h");
            rl.redis().open(&policy(name, &[&quota], Strategy::Absolute)).unwrap()
        };
        let mut budgets: Vec<_> = LIMITS.into_iter().map(open).collect();
        let strategy = Strategy::Suppressed(HardLimitFactor::try_from(1.5).unwrap());
        budgets.push(rl.redis().open(&policy("suppressed", &["16/4h"], strategy)).unwrap());
        let random = fastrand::Rng::with_seed(seed);
        Self { has_refunds, budgets, used: HashMap::new(), random, admitted: 0, refused: 0 }
    }

    /// Two to four limits in any order; the keys of some requests are equal, so that a cluster has them in one slot.
    fn request(&mut self) -> Vec<Want> {
        let random = &mut self.random;
        let mut limits: Vec<usize> = (0..=SUPPRESSED).collect();
        random.shuffle(&mut limits);
        limits.truncate(random.usize(2..=4));
        let (keys, has_one_key) = (["alice", "bob", "carol"], random.bool());
        let first = keys[random.usize(0..3)];
        let want = |limit| Want {
            limit,
            key: if has_one_key { first } else { keys[random.usize(0..3)] },
            cost: [0, 1, 1, 2, 3, 40][random.usize(0..6)],
            is_enforced: random.u32(0..4) > 0,
        };
        limits.into_iter().map(want).collect()
    }

    fn has_room(&self, want: &Want) -> bool {
        self.used.get(&(want.limit, want.key)).copied().unwrap_or(0) + want.cost <= LIMITS[want.limit].1
    }

    async fn step(&mut self) {
        let request = self.request();
        let parts: Vec<_> = request
            .iter()
            .map(|want| part(&self.budgets[want.limit], want.key, want.cost).enforced(want.is_enforced))
            .collect();
        let decisions = decide(&parts).await;
        assert!(!decisions.is_unavailable());
        let all: Vec<&Decision> = (0..request.len()).map(|index| decisions.get(index).unwrap()).collect();
        let refuses = |(want, decision): (&Want, &&Decision)| want.is_enforced && !decision.is_allowed();
        assert_eq!(decisions.is_allowed(), !request.iter().zip(&all).any(refuses), "{request:?} {decisions:?}");
        for (want, decision) in request.iter().zip(&all).filter(|(want, _)| want.limit != SUPPRESSED) {
            assert_eq!(decision.is_allowed(), self.has_room(want), "{want:?} of {request:?}: {decision:?}");
        }
        self.check_hard_cap(&request, &all);
        for (want, decision) in request.iter().zip(&all) {
            let used = self.used.entry((want.limit, want.key)).or_default();
            *used += if decisions.is_allowed() && decision.is_allowed() { want.cost } else { 0 };
            let (budget, began) = (&self.budgets[want.limit], Instant::now());
            // Refunds may be under way, where the keys are not in one slot.
            while peek(budget, want.key, 0).await.used() != *used {
                assert!(self.has_refunds && began.elapsed() < PATIENCE, "{want:?} of {request:?}: {decisions:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(decision.used(), *used, "{want:?} of {request:?}: {decisions:?}");
        }
        if !decisions.is_allowed() {
            self.check_waits(&request, &all).await;
        }
        *(if decisions.is_allowed() { &mut self.admitted } else { &mut self.refused }) += 1;
    }

    /// If an absolute limit refuses, only the hard cap of the suppressed strategy counts.
    fn check_hard_cap(&self, request: &[Want], decisions: &[&Decision]) {
        let is_absolute = |want: &Want| want.limit != SUPPRESSED && want.is_enforced;
        let is_decided = request.iter().any(|want| is_absolute(want) && !self.has_room(want));
        let with_decisions = request.iter().zip(decisions);
        for (want, decision) in with_decisions.filter(|(want, _)| want.limit == SUPPRESSED && is_decided) {
            let used = self.used.get(&(SUPPRESSED, want.key)).copied().unwrap_or(0);
            let has_room = used + want.cost <= HARD_CAP;
            assert!(self.has_refunds || decision.is_allowed() == has_room, "{want:?} of {request:?}: {decision:?}");
        }
    }

    /// The longest wait is that of the limits themselves. Each request takes less than a minute.
    async fn check_waits(&self, request: &[Want], decisions: &[&Decision]) {
        let absolute = || request.iter().zip(decisions).filter(|(want, _)| want.limit != SUPPRESSED);
        let stated = absolute().map(|(_, decision)| decision.retry_after().unwrap_or(Duration::MAX)).max();
        let mut exact = Vec::new();
        for (want, _) in absolute() {
            let seen = peek(&self.budgets[want.limit], want.key, want.cost).await;
            exact.push(if seen.is_allowed() { Duration::ZERO } else { seen.retry_after().unwrap_or(Duration::MAX) });
        }
        let (Some(stated), Some(exact)) = (stated, exact.into_iter().max()) else { return };
        assert!(stated >= exact && stated.saturating_sub(exact) < Duration::from_secs(60), "{stated:?}, {exact:?}");
    }

    async fn run(rl: &RateLimiter, seed: u64, has_refunds: bool) {
        let mut model = Self::new(rl, seed, has_refunds);
        for _ in 0..400 {
            model.step().await;
        }
        println!("{} admitted, {} refused", model.admitted, model.refused);
        assert!(model.admitted > 20 && model.refused > 20, "{} {}", model.admitted, model.refused);
    }
}

#[tokio::test]
async fn a_request_is_charged_to_all_limits_or_to_none_on_every_server() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        for seed in 0..4 {
            let options = RedisOptions::url(server.url()).prefix(format!("model{seed}")).deny_cache(false);
            Model::run(&limiter(patient(options)), seed, false).await;
        }
    }
}

/// Some requests have all keys in one slot. The others are charged one key after the other, and refunded.
#[tokio::test]
async fn a_request_is_charged_to_all_limits_or_to_none_on_a_cluster() {
    let cluster = Cluster::start(Flavor::Debian, 3);
    for seed in 0..2 {
        let options = RedisOptions::cluster(cluster.urls()).prefix(format!("model{seed}")).deny_cache(false);
        Model::run(&limiter(patient(options)), seed, true).await;
    }
}
