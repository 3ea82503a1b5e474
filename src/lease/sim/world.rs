//! The events: requests arrive, messages travel, are lost or arrive twice, instances crash, and the server loses data.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::super::events::Answer;
use super::super::limit_set::OwnedLimitSet;
use super::instance::{DEADLINE_MS, Effects, Instance, Message, OwnClock};
use super::judge::{Central, Ledger};
use super::model::{Model, Policy};
use super::setup::{BUCKET_MS, Change, Faults, MS, SECOND, Setup};
use crate::script::{LeaseId, Lending};

/// Far enough from zero for any clock to be ahead of the server's clock, or behind it.
const SERVER_START_MS: u64 = 1_790_000_000_000;

#[derive(Debug)]
enum Event {
    ToServer { from: usize, life: u32, is_frozen: bool, message: Message },
    ToInstance { to: usize, life: u32, question: u64, at_us: u64, answer: Answer },
    Wake { instance: usize, life: u32, id: Option<LeaseId> },
    GiveUp { instance: usize, life: u32, question: u64 },
    Crash(usize),
    Sweep,
    Change(Change),
}

#[derive(Debug)]
struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

/// The world, and its record after the run.
pub(super) struct World {
    pub(super) setup: Setup,
    random: fastrand::Rng,
    now: u64,
    events: BinaryHeap<Reverse<Due>>,
    order: u64,
    instances: Vec<(u32, Instance)>,
    /// The cumulative part of all requests that each instance gets.
    shares: Vec<f64>,
    limits: OwnedLimitSet,
    pub(super) model: Model,
    /// The total time by which the server's clock has stepped back.
    back_ms: i64,
    central: Central,
    pub(super) ledger: Ledger,
    pub(super) offered: u64,
    pub(super) admitted: u64,
    pub(super) central_admitted: u64,
    pub(super) calls: u64,
    pub(super) crashes: u64,
    /// The syncs whose runtime stalled.
    pub(super) frozen: u64,
    /// The units that the server held when it lost its data.
    pub(super) forgotten: u64,
    /// The units that instances held when they forked.
    pub(super) forked: u64,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        fastrand::seed(setup.seed);
        let mut random = fastrand::Rng::with_seed(setup.seed);
        let (faults, limits) = (setup.faults, setup.limits(setup.capacity()));
        let mut instance = |_| {
            let drift = random.i64(-faults.drift..=faults.drift);
            let clock = OwnClock { offset_us: random.u64(SECOND..1_000 * SECOND), drift };
            (0, Instance::new(clock, setup.sync_ms, &limits, Instance::name(faults.name_bits), setup.without))
        };
        let instances: Vec<(u32, Instance)> = (0..setup.instances).map(&mut instance).collect();
        let weight = |rank: usize| if setup.is_skewed { (rank as f64 + 1.0).powf(-1.2) } else { 1.0 };
        let all: f64 = (0..setup.instances).map(weight).sum();
        let mut sum = 0.0;
        let mut share = |rank| {
            sum += weight(rank) / all;
            sum
        };
        let shares = (0..setup.instances).map(&mut share).collect();
        let kept = limits.borrow().limits.iter().map(|limit| limit.span).max().unwrap();
        Self {
            random,
            now: 0,
            events: BinaryHeap::new(),
            order: 0,
            instances,
            shares,
            limits,
            model: Model::new(BUCKET_MS, kept).without(setup.without),
            back_ms: 0,
            central: Central::new(setup.window_us(), setup.bound()),
            ledger: Ledger::default(),
            offered: 0,
            admitted: 0,
            central_admitted: 0,
            calls: 0,
            crashes: 0,
            frozen: 0,
            forgotten: 0,
            forked: 0,
            setup,
        }
    }

    /// Runs all events, and then lets the world settle.
    pub(super) fn run(setup: Setup) -> Self {
        let mut world = Self::new(setup);
        world.begin();
        let mut next = world.next_arrival(0);
        let mut sample = 0;
        let end = world.setup.until + world.setup.window_us() + 2 * world.setup.longest_lease_us();
        while world.now < end {
            let due = world.events.peek().map_or(u64::MAX, |Reverse(due)| due.at);
            world.now = due.min(next).min(sample).min(end);
            if world.now == sample {
                let held = world.model.used(world.server_ms(), world.limits.borrow().limits[0].span);
                world.ledger.hold(world.now, held);
                sample += 7 * MS + 301;
            } else if world.now == next {
                world.arrive();
                next = world.next_arrival(world.now);
            } else if world.now == due
                && let Some(Reverse(due)) = world.events.pop()
            {
                world.happen(due.event);
            }
        }
        world.ledger.close();
        world
    }

    fn begin(&mut self) {
        for (at, change) in self.setup.changes.clone() {
            self.at(at, Event::Change(change));
        }
        self.at(500 * MS, Event::Sweep);
        for instance in 0..self.setup.instances {
            self.plan_crash(instance);
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse(Due { at, order: self.order, event }));
    }

    fn server_ms(&self) -> u64 {
        (SERVER_START_MS + self.now / MS).saturating_add_signed(-self.back_ms)
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        ((1.0 - self.random.f64()).ln() * -mean) as u64 + 1
    }

    fn next_arrival(&mut self, from: u64) -> u64 {
        let load = self.setup.load.iter().rev().find(|&&(since, _)| since <= from).map_or(0.0, |&(_, load)| load);
        let later = self.setup.load.iter().map(|&(since, _)| since).find(|&since| since > from);
        let next = match load > 0.0 {
            true => from + self.exponential(1e6 / (load * self.setup.per_second as f64)),
            false => u64::MAX,
        };
        match later {
            // The rest of the pause is drawn again, which does not change the distribution.
            Some(since) if next > since => self.next_arrival(since),
            _ if next > self.setup.until => u64::MAX,
            _ => next,
        }
    }

    fn arrive(&mut self) {
        let draw = self.random.f64();
        let instance = self.shares.partition_point(|&share| share < draw).min(self.shares.len() - 1);
        let cost = self.setup.cost(&mut self.random);
        self.offered += cost;
        self.central_admitted += if self.central.admits(self.now, cost) { cost } else { 0 };
        let effects = self.instances[instance].1.arrive(self.now, cost, &self.limits);
        self.apply(instance, effects, self.now);
    }

    fn admit(&mut self, at: u64, units: u64) {
        self.admitted += units;
        self.ledger.admit(at, units);
    }

    /// Executes the actions of an instance; the server has decided at `server_us`.
    fn apply(&mut self, instance: usize, effects: Effects, server_us: u64) {
        let Effects { admitted, admitted_by_server, messages, wakes } = effects;
        for (at, units) in [(self.now, admitted), (server_us, admitted_by_server)] {
            if units > 0 {
                self.admit(at, units);
            }
        }
        let (life, clock) = (self.instances[instance].0, self.instances[instance].1.clock);
        for (at, id) in wakes {
            self.at(clock.when(at).max(self.now + MS / 10), Event::Wake { instance, life, id });
        }
        for message in messages {
            self.send(instance, &message);
        }
    }

    fn send(&mut self, from: usize, message: &Message) {
        let (life, question) = (self.instances[from].0, message.question);
        // The runtime of the sync may stall. Then it is not abandoned, and its reply is applied late.
        let is_frozen = message.request.is_some() && self.random.f64() < self.setup.faults.freeze;
        self.frozen += u64::from(is_frozen);
        if !is_frozen {
            self.at(self.now + DEADLINE_MS * MS, Event::GiveUp { instance: from, life, question });
        }
        for delay in self.travels(message.ask.is_some()) {
            self.at(self.now + delay, Event::ToServer { from, life, is_frozen, message: message.clone() });
        }
    }

    /// Returns the travel times of a message: none if it is lost, one, or several.
    fn travels(&mut self, is_ask: bool) -> Vec<u64> {
        let Faults { delay, slow, loss, twice, asks_twice, .. } = self.setup.faults;
        let mut delays = Vec::new();
        let is_twice = self.random.f64() < twice && (asks_twice || !is_ask);
        let copies = if is_twice { 2 } else { 1 };
        for _ in 0..copies {
            if self.random.f64() >= loss {
                let longest = if self.random.f64() < slow { 8 * delay.1 } else { delay.1 };
                delays.push(self.random.u64(delay.0..=longest));
            }
        }
        delays
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer { from, life, is_frozen, message } => self.serve(from, life, is_frozen, &message),
            Event::ToInstance { to, life, question, at_us, answer } if self.instances[to].0 == life => {
                let effects = self.instances[to].1.land(self.now, question, &answer);
                self.apply(to, effects, at_us);
            }
            Event::Wake { instance, life, id } if self.instances[instance].0 == life => {
                let effects = self.instances[instance].1.wake(self.now, id, &self.limits);
                self.apply(instance, effects, self.now);
            }
            Event::GiveUp { instance, life, question } if self.instances[instance].0 == life => {
                let effects = self.instances[instance].1.lose(self.now, question);
                self.apply(instance, effects, self.now);
            }
            Event::Crash(instance) => {
                let (life, it) = &mut self.instances[instance];
                *life += 1;
                it.crash(Instance::name(self.setup.faults.name_bits));
                self.crashes += 1;
                self.plan_crash(instance);
            }
            Event::Sweep => {
                self.instances.iter_mut().for_each(|(_, instance)| instance.sweep(self.now));
                self.at(self.now + 500 * MS, Event::Sweep);
            }
            Event::Change(change) => self.change(change),
            _ => {}
        }
    }

    fn plan_crash(&mut self, instance: usize) {
        if self.setup.faults.life > 0 {
            let life = self.exponential(self.setup.faults.life as f64);
            self.at(self.now + life, Event::Crash(instance));
        }
    }

    fn serve(&mut self, from: usize, life: u32, is_frozen: bool, message: &Message) {
        self.calls += 1;
        let (now_ms, question, limits) = (self.server_ms(), message.question, &message.limits.scaled);
        let lending = Lending { interval_ms: message.interval_ms, tolerance: self.setup.tolerance };
        let answer = match &message.request {
            Some(request) => {
                let policy = Policy { limits, lending };
                let (outcomes, reply) = self.model.sync(now_ms, request, message.ask.as_slice(), policy);
                Answer { now_ms, outcome: message.ask.zip(outcomes.first().copied()), reply }
            }
            None => {
                let outcome = message.ask.map(|ask| (ask, self.model.ask(now_ms, ask, limits)));
                Answer { now_ms, outcome, reply: super::model::NOTHING }
            }
        };
        for mut delay in self.travels(false) {
            if is_frozen {
                delay += self.random.u64(DEADLINE_MS * MS..2 * SECOND);
            }
            let event = Event::ToInstance { to: from, life, question, at_us: self.now, answer };
            self.at(self.now + delay, event);
        }
    }

    fn change(&mut self, change: Change) {
        let now_ms = self.server_ms();
        match change {
            Change::Forget => {
                self.forgotten = self.model.used(now_ms, self.limits.borrow().limits[0].span);
                self.model.lose();
            }
            Change::Delete => self.model.delete(now_ms),
            Change::Set(count) => {
                let _ = self.model.set(now_ms, self.limits.borrow().limits[0].span, count);
            }
            Change::Limit(capacity) => self.limits = self.setup.limits(capacity),
            Change::StepBack(ms) => self.back_ms += ms as i64,
            Change::StepForward(ms) => self.back_ms -= ms as i64,
            Change::Fork(parent) => self.fork(parent),
            Change::GiveBack => {
                for instance in 0..self.instances.len() {
                    let effects = self.instances[instance].1.give_back(self.now, &self.limits);
                    self.apply(instance, effects, self.now);
                }
            }
        }
    }

    /// Forks an instance. The copy gets half of the parent's requests, and the parent's scheduled work.
    fn fork(&mut self, parent: usize) {
        let (life, instance) = &self.instances[parent];
        let (life, copy, child) = (*life, instance.fork(), self.instances.len());
        self.forked += copy.left(self.now);
        let wake = |due: &Due| match due.event {
            Event::Wake { instance, life: of, id } if instance == parent && of == life => {
                Some((due.at, Event::Wake { instance: child, life: 0, id }))
            }
            _ => None,
        };
        let wakes: Vec<_> = self.events.iter().filter_map(|Reverse(due)| wake(due)).collect();
        self.instances.push((0, copy));
        wakes.into_iter().for_each(|(at, event)| self.at(at, event));
        let before = parent.checked_sub(1).map_or(0.0, |index| self.shares[index]);
        let half = (self.shares[parent] - before) / 2.0;
        self.shares[parent..].iter_mut().for_each(|share| *share -= half);
        self.shares.push(1.0);
        self.plan_crash(child);
    }

    /// The number of times that instances learned of a loss.
    pub(super) fn lost(&self) -> u32 {
        self.instances.iter().map(|(_, instance)| instance.lost).sum()
    }

    /// The most units in any window, among those admitted from an instant on.
    pub(super) fn peak_from(&self, from: u64) -> u64 {
        self.ledger.peak(self.setup.window_us(), from, u64::MAX)
    }
}
