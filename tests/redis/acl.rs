//! The user that the guide creates on the server can do all that a limiter does, and not a command can go.
#![cfg(all(unix, feature = "middleware", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tower_weir::store::{BudgetRequest, Policy, Store, Strategy};
use tower_weir::{
    Decision, HistoryPreservation, OnStoreError, RateLimit, RateLimitComparator, RateLimiter, RedisOptions, StoreError,
};

use crate::support::servers::{self, Flavor, Server, wait_until};

/// The words of the line of the guide behind the password, but for the commands.
const KEYS: [&str; 2] = ["~weir:*", "resetchannels"];

const NOTHING: [&str; 0] = [];

/// The commands that the guide grants.
fn commands() -> Vec<String> {
    let page = include_str!("../../docs/redis-operations.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER weir")).expect("the line of the guide");
    let (head, commands): (Vec<_>, Vec<_>) = line.split(' ').partition(|word| !word.starts_with('+'));
    assert_eq!(head, ["ACL", "SETUSER", "weir", "reset", "on", ">secret", KEYS[0], KEYS[1]], "{line}");
    commands.into_iter().map(Into::into).collect()
}

fn set_user(server: &Server, commands: &[String]) {
    let words = ["ACL", "SETUSER", "weir", "reset", "on", ">secret"].into_iter().chain(KEYS);
    server.cli(&words.chain(commands.iter().map(String::as_str)).collect::<Vec<_>>());
}

/// What the server refused to the user, as far as it does harm: what a client says of itself does not.
fn refused(server: &Server) -> Vec<String> {
    let log = server.cli(&["ACL", "LOG"]);
    let lines = log.lines().collect::<Vec<_>>();
    let objects = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1].to_owned());
    objects.filter(|object| !object.starts_with("client")).collect()
}

fn url(server: &Server) -> String {
    format!("redis://weir:secret@{}", server.address())
}

fn limiter(options: RedisOptions) -> RateLimiter {
    RateLimiter::builder().redis(options.deadline(Duration::from_secs(1))).build().unwrap()
}

/// All that can be asked of a limiter; charges, and so counts the instances too.
async fn everything(limiter: &RateLimiter, servers: &[Server]) -> Result<(), StoreError> {
    let rate = RateLimit::try_from(0.05).unwrap();
    let by_redis = |decision: Decision| {
        assert!(!decision.is_local_share());
        decision
    };
    // The text of the scripts has to be sent too.
    for server in servers {
        server.cli(&["SCRIPT", "FLUSH"]);
    }
    let absolute = limiter.redis().absolute();
    assert!(by_redis(absolute.decide("key", &rate, 3).await?).is_allowed());
    assert!(!by_redis(absolute.decide("key", &rate, 1).await?).is_allowed());
    assert_eq!(absolute.get("key").await?, 3);
    assert!(!absolute.is_allowed("key", &rate).await?.is_allowed());
    absolute.set_if("key", &rate, RateLimitComparator::Eq(3), 2).await?;
    let newest = HistoryPreservation::PreserveNewest;
    absolute.set_if_preserve_history("key", &rate, RateLimitComparator::Always, 1, newest).await?;
    let suppressed = limiter.redis().suppressed();
    by_redis(suppressed.decide("shed", &rate, 2).await?);
    by_redis(suppressed.decide("shed", &rate, 2).await?);
    suppressed.get_suppression_factor("shed", &rate).await?;
    for _ in 0..5 {
        assert!(
            by_redis(limiter.hybrid().absolute().decide("lent", &RateLimit::try_from(10.0).unwrap(), 1).await?)
                .is_allowed()
        );
    }
    assert_eq!(limiter.hybrid().absolute().delete("lent").await?, Some(5));

    let policy = Policy::new("api", ["5/min".parse().unwrap()], Strategy::Absolute);
    let budget = limiter.redis().open(&policy).unwrap();
    let decide = |cost| match budget.decide(BudgetRequest::new(b"key", cost)) {
        tower_weir::store::BudgetResponse::Pending(pending) => pending,
        tower_weir::store::BudgetResponse::Ready(_) => panic!("nobody asked Redis"),
    };
    let decision = by_redis(decide(5).await?);
    budget.refund(b"key", 5, &decision);
    while by_redis(decide(0).await?).used() > 0 {
        tokio::task::yield_now().await;
    }

    assert_eq!(absolute.delete("key").await?, Some(1));
    absolute.clear().await?;
    assert_eq!(suppressed.get("shed").await?, 0);
    Ok(())
}

fn counts_instances(server: &Server) -> bool {
    // A cluster's other nodes answer with an error.
    server.try_cli(&["EXISTS", "weir:instances"]).is_ok_and(|count| count == "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_guide_can_do_everything() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        set_user(&server, &commands());
        let limiter = limiter(RedisOptions::url(url(&server)));
        everything(&limiter, std::slice::from_ref(&server)).await.unwrap();
        wait_until("the instance is counted", || counts_instances(&server));
        assert_eq!(refused(&server), NOTHING, "{flavor}");
        // The ping of an idle connection, in the words of the crate; the breaker's probe is a decision.
        let mut user = server.connect(Duration::from_secs(10)).unwrap();
        user.call(&["AUTH", "weir", "secret"]).unwrap();
        assert!(!matches!(user.call(&["PING"]).unwrap(), servers::Reply::Error(_)), "{flavor}");
        assert!(matches!(user.call(&["GET", "another"]).unwrap(), servers::Reply::Error(_)), "{flavor}");
    }
}

/// With the two commands that the guide adds for it.
#[cfg(feature = "redis-cluster")]
#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_guide_can_do_everything_on_a_cluster() {
    let cluster = servers::Cluster::start(Flavor::Debian, 3);
    let mut commands = commands();
    commands.extend(["+cluster|slots", "+asking"].map(Into::into));
    for node in cluster.nodes() {
        set_user(node, &commands);
    }
    let limiter = limiter(RedisOptions::cluster(cluster.nodes().iter().map(url)));
    everything(&limiter, cluster.nodes()).await.unwrap();
    wait_until("the instance is counted", || cluster.nodes().iter().any(counts_instances));
    for node in cluster.nodes() {
        assert_eq!(refused(node), NOTHING);
    }
}

/// With the command that the guide adds for it.
#[cfg(feature = "redis-sentinel")]
#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_guide_can_do_everything_under_sentinels() {
    let sentinel = servers::Sentinel::start(Flavor::Debian, 1);
    let mut commands = commands();
    commands.push("+role".into());
    for server in sentinel.servers() {
        set_user(server, &commands);
    }
    // The sentinels themselves know no users.
    let master = format!("redis://weir:secret@{}", servers::Sentinel::MASTER);
    let limiter = limiter(RedisOptions::sentinel(sentinel.urls(), master));
    everything(&limiter, &[]).await.unwrap();
    for server in sentinel.servers() {
        assert_eq!(refused(server), NOTHING);
    }
}

/// A grant that nothing needs is one too many.
#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_guide_can_do_no_more() {
    let server = Server::start(Flavor::Debian);
    let all = commands();
    // A new connection pings only after 10 s.
    for without in all.iter().filter(|command| *command != "+ping") {
        server.cli(&["FLUSHALL"]);
        server.cli(&["ACL", "LOG", "RESET"]);
        set_user(&server, &all.iter().filter(|command| *command != without).cloned().collect::<Vec<_>>());
        let limiter = limiter(RedisOptions::url(url(&server)));
        let rate = RateLimit::try_from(0.05).unwrap();
        let absolute = limiter.redis().absolute();
        let _ = absolute.decide("key", &rate, 1).await;
        server.cli(&["SCRIPT", "FLUSH"]);
        let _ = absolute.get("key").await;
        let _ = absolute.delete("key").await;
        let _ = absolute.decide("key", &rate, 1).await;
        let _ = absolute.clear().await;
        // A second charge of the same bucket has a command of its own.
        let often = RateLimit::try_from(1_000.0).unwrap();
        for _ in 0..10_000 {
            if !refused(&server).is_empty() {
                break;
            }
            let _ = tokio::join!(absolute.decide("key", &often, 1), absolute.decide("key", &often, 1));
        }
        wait_until(&format!("the server misses {without}"), || !refused(&server).is_empty());
        assert_eq!(format!("+{}", refused(&server)[0]), *without);
    }
}

/// The line of the guide and the advice of the message are the same.
#[tokio::test]
async fn a_refusal_names_the_grants_of_the_guide() {
    let server = Server::start(Flavor::Debian);
    set_user(&server, &[]);
    let limiter = limiter(RedisOptions::url(url(&server)).on_store_error(OnStoreError::Reject));
    let rate = RateLimit::try_from(0.05).unwrap();
    let error = limiter.redis().absolute().decide("key", &rate, 1).await.unwrap_err().to_string();
    let line = format!("ACL SETUSER weir reset on >secret {} {}", KEYS.join(" "), commands().join(" "));
    assert!(error.contains(&line), "{error}");
}
