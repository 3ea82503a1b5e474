//! A page that shows what a limit does, before you put one into your service.
//!
//! ```text
//! cargo run --example playground --features redis-tokio    # then open the address that it prints
//! ```
//!
//! The program sends itself the load that you choose on the page, and the limiter decides on each request. The part
//! with several instances needs Redis. The program starts servers of its own, without persistence, if it finds
//! `redis-server`. `REDIS_SERVER` names another program, and `REDIS_URL` a server that runs already. `PORT` changes
//! the port. The program listens on loopback only.

mod history;
mod instances;
mod limit;
mod load;
mod local;
mod meter;
mod pair;
mod servers;
mod settings;
mod snapshot;
mod track;
mod web;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tower_weir::telemetry::Notice;

use self::history::Stopwatch;
use self::instances::Fleet;
use self::local::Local;
use self::servers::Redis;
use self::settings::Settings;
use self::web::App;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let address = listener.local_addr()?;

    // The page changes the quotas of a limit while it is in use, which is a mistake in most other programs.
    Notice::SharedLimitName.silence();
    Notice::RedisNameShared.silence();
    let (settings, changes) = watch::channel(Settings::default());
    let watch = Stopwatch::start();
    let redis = Arc::new(Redis::find(&env::vars_os().collect())?);
    let local = Local::start(watch, changes.clone())?;
    redis.start().await;
    let fleet = Fleet::start(watch, &changes, &redis)?;
    let snapshots = snapshot::publish(watch, changes, local, fleet, Arc::clone(&redis));
    let app = App::new(settings, snapshots, Arc::clone(&redis), address.port())?;

    println!("Listening on http://{address}/: open this page in a browser.");
    println!("{redis}");
    println!("Ctrl-C stops it.");
    // The streams of open pages never end, so a graceful shutdown would wait for them forever.
    tokio::select! {
        result = web::serve(listener, app) => result?,
        result = tokio::signal::ctrl_c() => result?,
    }
    redis.stop().await;
    Ok(())
}
