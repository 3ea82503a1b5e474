//! Many tasks and two instances ask for the same limits, in opposite orders.

use std::sync::Arc;

use tower_weir::RedisOptions;
use tower_weir::store::Budget;

use super::{decide, limiter, open, part, patient, used};
use crate::support::servers::{Flavor, Server};

const TASKS: u64 = 24;
const EACH: u64 = 20;

/// Requests take turns through one pair of limits; returns how many were admitted.
async fn flood(budgets: [[Arc<dyn Budget>; 3]; 2]) -> u64 {
    let task = |number: u64| {
        let budgets = budgets.clone();
        async move {
            let [a, b, c] = &budgets[number as usize % 2];
            let mut admitted = 0;
            for _ in 0..EACH {
                let mut parts = [part(a, "x", 1), part(b, "y", 1), part(c, "z", 1)];
                parts.rotate_left(number as usize % 3);
                if number % 2 == 1 {
                    parts.reverse();
                }
                let decisions = decide(&parts).await;
                assert!(!decisions.is_unavailable());
                admitted += u64::from(decisions.is_allowed());
            }
            admitted
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|number| tokio::spawn(task(number))).collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    admitted
}

async fn check(quotas: [&str; 3], expected: u64) {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let instances = [(); 2].map(|()| limiter(patient(RedisOptions::url(server.url()))));
        let budgets = [0, 1].map(|at| {
            let [a, b, c] = quotas;
            [("a", a), ("b", b), ("c", c)].map(|(name, quota)| open(&instances[at], name, quota))
        });
        let all = budgets[0].clone();
        assert_eq!(flood(budgets).await, expected, "{flavor}");
        for (budget, key) in all.iter().zip(["x", "y", "z"]) {
            assert_eq!(used(budget, key).await, expected, "{flavor} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_get_exactly_what_the_smallest_limit_admits() {
    check(["300/h", "170/h", "230/h"], 170).await;
}

/// The liveness of the test above: no request is refused because of another one that is refused or in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_while_all_limits_have_room() {
    check(["480/h", "481/h", "500/h"], TASKS * EACH).await;
}
