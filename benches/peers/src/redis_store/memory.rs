//! The bytes of a limited key, by `MEMORY USAGE` over all the keys that exist for it.

use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

use super::contestants::{self, Limit};
use crate::report::{Failure, Table};
use crate::server::Server;

const KEYS: usize = 1_000;
const REQUESTS: usize = 20;

pub async fn measure(server: &Server) -> Result<Table, Failure> {
    let heads = ["for each limited key", "Redis keys", "without expiry", "bytes, one request", "bytes, 20 requests"];
    let mut table = Table::new(heads);
    let entrants = [
        contestants::weir(server, Limit::HOURLY, KEYS)?,
        contestants::trypema(server, Limit::HOURLY, KEYS).await?,
        contestants::gcra(server, Limit::HOURLY, KEYS).await?,
    ];
    let mut connection = server.connect().await?;
    for entrant in &entrants {
        server.flush().await?;
        entrant.once(KEYS).await?;
        let one = Weight::of(&mut connection).await?;
        for _ in 1..REQUESTS {
            // Each in a bucket of its own.
            tokio::time::sleep(Duration::from_millis(120)).await;
            entrant.once(KEYS).await?;
        }
        let many = Weight::of(&mut connection).await?;
        let [keys, eternal, one, many] =
            [one.keys, one.eternal, one.bytes, many.bytes].map(|sum| sum as f64 / KEYS as f64);
        let counts = [keys, eternal].map(|count| format!("{count:.1}"));
        let bytes = [one, many].map(|bytes| format!("{bytes:.0}"));
        table.row(std::iter::once(entrant.name.to_owned()).chain(counts).chain(bytes));
    }
    Ok(table)
}

#[derive(Debug, Default)]
struct Weight {
    keys: u64,
    /// Keys that never expire.
    eternal: u64,
    bytes: u64,
}

impl Weight {
    async fn of(connection: &mut MultiplexedConnection) -> Result<Self, Failure> {
        let mut weight = Self::default();
        for key in connection.keys::<_, Vec<String>>("*").await? {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(&key).arg("SAMPLES").arg(0);
            weight.bytes += usage.query_async::<Option<u64>>(connection).await?.unwrap_or(0);
            weight.eternal += u64::from(connection.pttl::<_, i64>(&key).await? == -1);
            weight.keys += 1;
        }
        Ok(weight)
    }
}
