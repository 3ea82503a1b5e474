//! The contestants, each with one connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, Pipeline, RedisFuture, Value};
use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions};
use trypema::RateLimiterBuilder as _;
use trypema::redis::{RedisKey, RedisRateLimiterProvider};

use crate::drive::{Contestant, Entrant};
use crate::report::Failure;
use crate::server::Server;

/// A limit as all can express it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    capacity: u32,
    window_seconds: u32,
}

impl Limit {
    /// Never reached: a million in a second, over the window that both limiters take by default.
    const WIDE: Self = Self { capacity: 60_000_000, window_seconds: 60 };
    /// Once it is used up, it stays so while all runs.
    const TIGHT: Self = Self { capacity: 1, window_seconds: 3_600 };
    /// For what keys weigh: none of them expires meanwhile.
    pub const HOURLY: Self = Self { capacity: 100, window_seconds: 3_600 };

    fn per_second(self) -> f64 {
        f64::from(self.capacity) / f64::from(self.window_seconds)
    }
}

pub const WEIR: &str = "tower-weir";
pub const WEIR_ASKING: &str = "tower-weir, no deny cache";
pub const SCRIPT_ALONE: &str = "tower-weir's script alone";
pub const TRYPEMA: &str = "trypema";
pub const GCRA_SCRIPT: &str = "GCRA script";
pub const ONE_CALL: &str = "script of one call";
pub const THREE_CALLS: &str = "script of three calls";

const ONE: &str = "return redis.call('INCR', KEYS[1])";

const THREE: &str = "local time = redis.call('TIME')
local seen = redis.call('GET', KEYS[1])
return redis.call('SET', KEYS[1], time[1], 'PX', 60000)";

/// One point in time for each key, as redis-cell keeps it. ARGV: the interval and the burst's length, in us.
const GCRA: &str = "local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
local wait = tat - now - ARGV[2]
if wait > 0 then return {1, 0, math.ceil(wait)} end
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
return {0, math.floor(-wait / ARGV[1]), -1}";

/// All of them, with their keys in place; where requests are to be rejected, with their limits used up.
pub async fn all(server: &Server, is_admitted: bool, keys: usize) -> Result<Vec<Entrant>, Failure> {
    let limit = if is_admitted { Limit::WIDE } else { Limit::TIGHT };
    let mut all = vec![weir(server, limit, keys)?];
    if !is_admitted {
        let weir = Weir::new(RedisOptions::url(server.url()).prefix("asking").deny_cache(false), limit, keys)?;
        all.push(Entrant::new(WEIR_ASKING, true, weir));
    }
    all.push(Entrant::new(SCRIPT_ALONE, true, alone(server, limit, keys).await?));
    all.push(trypema(server, limit, keys).await?);
    all.push(gcra(server, limit, keys).await?);
    let one = Script::load(server, "one", ONE, Vec::new(), keys, |_| true).await?;
    all.push(Entrant::new(ONE_CALL, false, one));
    let three = Script::load(server, "three", THREE, Vec::new(), keys, |_| true).await?;
    all.push(Entrant::new(THREE_CALLS, false, three));
    for entrant in &all {
        while entrant.once(keys).await? > 0 && entrant.limits && !is_admitted {}
    }
    Ok(all)
}

/// This crate, as it is.
pub fn weir(server: &Server, limit: Limit, keys: usize) -> Result<Entrant, Failure> {
    Ok(Entrant::new(WEIR, true, Weir::new(RedisOptions::url(server.url()), limit, keys)?))
}

pub async fn trypema(server: &Server, limit: Limit, keys: usize) -> Result<Entrant, Failure> {
    let builder = RedisRateLimiterProvider::builder(server.manager().await?)
        .window_size(trypema::WindowSize::seconds_or_panic(limit.window_seconds.into()));
    let contestant = Trypema {
        provider: builder.build()?,
        rate: trypema::RateLimit::per_second_or_panic(limit.per_second()),
        keys: texts("", keys).into_iter().map(RedisKey::new_or_panic).collect(),
    };
    Ok(Entrant::new(TRYPEMA, true, contestant))
}

pub async fn gcra(server: &Server, limit: Limit, keys: usize) -> Result<Entrant, Failure> {
    let window = u64::from(limit.window_seconds) * 1_000_000;
    let args = [window / u64::from(limit.capacity), window].map(|micros| micros.to_string().into_bytes());
    let is_ok = |answer: &Value| matches!(answer, Value::Array(parts) if parts.first() == Some(&Value::Int(0)));
    Ok(Entrant::new(GCRA_SCRIPT, true, Script::load(server, "gcra", GCRA, args.into(), keys, is_ok).await?))
}

fn texts(prefix: &str, keys: usize) -> Vec<String> {
    (0..keys).map(|key| format!("{prefix}client-{key:06}")).collect()
}

struct Weir {
    limiter: RateLimiter,
    rate: RateLimit,
    keys: Vec<String>,
}

impl Weir {
    fn new(options: RedisOptions, limit: Limit, keys: usize) -> Result<Self, Failure> {
        // Nothing is decided but by Redis, however busy the machine is.
        let options = options.deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject);
        let builder = RateLimiter::builder().window_size_seconds(u64::from(limit.window_seconds).try_into()?);
        Ok(Self {
            limiter: builder.redis(options).build()?,
            rate: limit.per_second().try_into()?,
            keys: texts("", keys),
        })
    }
}

impl Contestant for Weir {
    async fn admits(&self, key: usize) -> bool {
        let decision = self.limiter.redis().absolute().inc(&self.keys[key], &self.rate, 1).await;
        decision.expect("Redis answers").is_allowed()
    }
}

struct Trypema {
    provider: Arc<RedisRateLimiterProvider>,
    rate: trypema::RateLimit,
    keys: Vec<RedisKey>,
}

impl Contestant for Trypema {
    async fn admits(&self, key: usize) -> bool {
        let decision = self.provider.absolute().inc(&self.keys[key], &self.rate, 1).await;
        matches!(decision.expect("Redis answers"), trypema::RateLimitDecision::Allowed)
    }
}

/// One script call for each decision.
struct Script {
    connection: MultiplexedConnection,
    sha: String,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
    is_ok: fn(&Value) -> bool,
}

impl Script {
    async fn load(
        server: &Server,
        prefix: &str,
        text: &str,
        args: Vec<Vec<u8>>,
        keys: usize,
        is_ok: fn(&Value) -> bool,
    ) -> Result<Self, Failure> {
        let mut connection = server.connect().await?;
        let sha = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async(&mut connection).await?;
        Ok(Self { connection, sha, keys: texts(&format!("{prefix}:"), keys), args, is_ok })
    }
}

impl Contestant for Script {
    async fn admits(&self, key: usize) -> bool {
        let mut command = Cmd::with_capacity(4 + self.args.len(), 256);
        command.arg("EVALSHA").arg(&self.sha).arg(1).arg(&self.keys[key]).arg(&self.args);
        let answer = command.query_async::<Value>(&mut self.connection.clone()).await;
        (self.is_ok)(&answer.expect("Redis answers"))
    }
}

/// This crate's script without what stands around it: its call is overheard, and repeated with other keys.
async fn alone(server: &Server, limit: Limit, keys: usize) -> Result<Script, Failure> {
    let heard = Overheard { connection: server.connect().await?, call: Arc::default() };
    let weir = Weir::new(RedisOptions::connection(heard.clone()).prefix("overheard"), limit, 1)?;
    weir.admits(0).await;
    let call = heard.call.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let words = call.iter().flat_map(Cmd::args_iter).filter_map(|arg| match arg {
        Arg::Simple(word) => Some(word.to_vec()),
        _ => None,
    });
    // EVALSHA, digest, number of keys, key, arguments.
    let words = words.collect::<Vec<_>>();
    let [_, sha, _, _, args @ ..] = &words[..] else { return Err("tower-weir made no script call".into()) };
    // The verdict is the first byte, and 0 is to admit.
    let is_ok = |answer: &Value| matches!(answer, Value::BulkString(bytes) if bytes.first() == Some(&0));
    Ok(Script {
        connection: server.connect().await?,
        sha: String::from_utf8(sha.clone())?,
        keys: (0..keys).map(|key| format!("alone:1:{{{key:022}}}")).collect(),
        args: args.to_vec(),
        is_ok,
    })
}

#[derive(Clone)]
struct Overheard {
    connection: MultiplexedConnection,
    call: Arc<Mutex<Option<Cmd>>>,
}

impl ConnectionLike for Overheard {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        if matches!(command.args_iter().next(), Some(Arg::Simple(b"EVALSHA"))) {
            *self.call.lock().unwrap_or_else(PoisonError::into_inner) = Some(command.clone());
        }
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
