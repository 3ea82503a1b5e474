//! Two instances, each a process of its own, share a limit through an outage of Redis.
//!
//! Instance A asks for 1.5 times the limit and instance B for half of it, evenly spaced.
//! The server is killed with SIGKILL, and starts again on its port with no data. The contestants of a store run at the
//! same time, each with a server of its own. All use the defaults of their libraries.

mod instance;
mod picture;

use std::time::{Duration, Instant, SystemTime};

use tower_weir::OnStoreError::{Allow, LocalShare, Reject};

use self::instance::Limiter::{Hybrid, Redis, TrypemaHybrid, TrypemaRedis};
use crate::admissions::Admissions;
use crate::child::{Case, Running};
use crate::figures::time as span;
use crate::offer::{Answer, Request};
use crate::race::Settings;
use crate::report::{Failure, Report, Table, version};
use crate::server::Server;

/// Units in a second.
const LIMIT: f64 = 200.0;
/// The demand of instance A and of instance B, as multiples of the limit.
const DEMANDS: [f64; 2] = [1.5, 0.5];
/// The time for which the instances run before time 0, until they have counted each other.
const WARM: f64 = 7.0;
/// When the server is killed, when it starts again, and the end, in seconds.
const TIMES: [f64; 3] = [3.0, 8.0, 16.0];
/// The time in which instances reconnect, in seconds: a probe of the circuit breaker, and a sync.
const RECONNECTS: f64 = 2.0;

/// The time in which the processes of a group start.
const PROCESSES_START: Duration = Duration::from_secs(1);

/// A contestant: its case, and its name in the table without the library.
type Entry = (Case, &'static str);

/// The contestants by their stores.
const GROUPS: [&[Entry]; 3] = [
    &[
        (("outage/hybrid-share", || instance::run(Hybrid(LocalShare))), "hybrid, LocalShare"),
        (("outage/hybrid-reject", || instance::run(Hybrid(Reject))), "hybrid, Reject"),
        (("outage/hybrid-allow", || instance::run(Hybrid(Allow))), "hybrid, Allow"),
    ],
    &[
        (("outage/redis-share", || instance::run(Redis(LocalShare))), "Redis, LocalShare"),
        (("outage/redis-reject", || instance::run(Redis(Reject))), "Redis, Reject"),
        (("outage/redis-allow", || instance::run(Redis(Allow))), "Redis, Allow"),
    ],
    &[
        (("outage/trypema-hybrid", || instance::run(TrypemaHybrid)), "hybrid"),
        (("outage/trypema-redis", || instance::run(TrypemaRedis)), "Redis"),
    ],
];

/// The cases that child processes run.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    GROUPS.into_iter().flatten().map(|(case, _)| case)
}

/// A contestant's requests. Times are seconds from the end of the warm-up.
struct Outage {
    name: &'static str,
    is_peer: bool,
    /// When the server was killed, and when it answered again.
    down: (f64, f64),
    end: f64,
    /// Of instance A and of instance B.
    requests: [Vec<Request>; 2],
}

pub async fn run(binary: &str, settings: &Settings, report: &Report) -> Result<(), Failure> {
    let scale = settings.scale.clamp(0.3, 1.0);
    let mut outages = Vec::new();
    for (at, group) in GROUPS.into_iter().enumerate() {
        outages.extend(measure(binary, group, at == GROUPS.len() - 1, scale).await?);
    }
    let version = Server::start(binary).await?.version().await?;
    let how = format!("one run of {:.0} s for each store, {version}", scale * (WARM + TIMES[2]));
    report.section("outage", &how, table(&outages))?;
    report.plot("outage", &picture::draw(&outages))
}

/// Runs a group, with all times multiplied.
async fn measure(binary: &str, group: &[Entry], is_peer: bool, scale: f64) -> Result<Vec<Outage>, Failure> {
    println!("outage: {} ..", group.iter().map(|(_, name)| *name).collect::<Vec<_>>().join("; "));
    let [warm, kill, restart, end] = [WARM, TIMES[0], TIMES[1], TIMES[2]].map(|time| time * scale);
    let mut servers = Vec::new();
    for _ in group {
        servers.push(Server::start(binary).await?);
    }
    let (begin, start) = (SystemTime::now() + PROCESSES_START, Instant::now() + PROCESSES_START);
    let mut instances = Vec::new();
    for (((case, _), _), server) in group.iter().zip(&servers) {
        let time = Duration::from_secs_f64(warm + end);
        let run = |demand| instance::start(case, &server.url(), begin, time, demand * LIMIT);
        instances.push([run(DEMANDS[0])?, run(DEMANDS[1])?]);
    }
    let until = |time| tokio::time::sleep_until((start + Duration::from_secs_f64(warm + time)).into());
    let now = || start.elapsed().as_secs_f64() - warm;
    until(kill).await;
    let killed = now();
    servers.iter_mut().try_for_each(Server::kill)?;
    until(restart).await;
    servers.iter_mut().try_for_each(Server::restart)?;
    for server in &servers {
        server.answers().await?;
    }
    let down = (killed, now());
    let outage = |((_, name), [a, b]): (&Entry, [Running; 2])| {
        let requests = [instance::requests(a, warm)?, instance::requests(b, warm)?];
        Ok(Outage { name, is_peer, down, end, requests })
    };
    group.iter().zip(instances).map(outage).collect()
}

impl Outage {
    /// All requests of some instances.
    fn requests<'a>(&'a self, instances: &'a [usize]) -> impl Iterator<Item = &'a Request> {
        instances.iter().flat_map(|&instance| &self.requests[instance])
    }

    fn admissions(&self, instances: &[usize]) -> Admissions {
        Admissions::new(self.requests(instances).filter_map(Request::admission))
    }

    fn title(&self) -> String {
        let library = if self.is_peer { version("trypema") } else { "tower-weir".into() };
        format!("{library}, {}", self.name)
    }

    /// The most units in the windows before the outage, and with its begin, in it, with its end, and after it.
    fn most(&self) -> [usize; 5] {
        let (killed, back) = self.down;
        // A window belongs to the end until the instances have reconnected.
        let normal = back + RECONNECTS;
        let begins = [0.0, killed - 1.0, killed, back - 1.0, normal, self.end - 1.0];
        let admissions = self.admissions(&[0, 1]);
        std::array::from_fn(|at| admissions.most(1.0, begins[at], begins[at + 1]))
    }
}

fn table(outages: &[Outage]) -> Table {
    let heads = ["most units in any second (limit 200)", "before", "as it begins", "during", "as it ends", "after"];
    let more = ["decided during the outage", "refused by errors", "longest decision"];
    let mut table = Table::new(heads.into_iter().chain(more));
    for outage in outages {
        let (killed, back) = outage.down;
        let asked = || outage.requests(&[0, 1]).filter(|request| request.sent >= killed && request.sent < back);
        let is_decided = |request: &&Request| request.answered < back && request.answer != Answer::Failed;
        let decided = 100.0 * asked().filter(is_decided).count() as f64 / asked().count() as f64;
        let failed = outage.requests(&[0, 1]).filter(|request| request.answer == Answer::Failed).count();
        let longest = asked().map(|request| request.answered - request.sent).fold(0.0, f64::max);
        let row = std::iter::once(outage.title()).chain(outage.most().map(|most| most.to_string()));
        table.row(row.chain([format!("{decided:.0} %"), failed.to_string(), span(longest * 1e9)]));
    }
    table
}
