//! Keys in all slots of a cluster.

use futures_util::future::join_all;
use tower_weir::{OnStoreError, RedisOptions};

use crate::support::servers::{Cluster, Flavor};
use crate::{builder, rate, scripts, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_all_masters_are_lent_and_given_back() {
    let cluster = Cluster::start(Flavor::Debian, 3);
    let redis = || {
        let options = RedisOptions::cluster(cluster.urls()).deadline(std::time::Duration::from_secs(1));
        options.on_store_error(OnStoreError::Reject).instances(2)
    };
    let (one, other) = (builder(redis(), 60, 50).build().unwrap(), builder(redis(), 60, 50).build().unwrap());
    let (rate, keys) = (rate(10.0), (0..200).map(|key| format!("key {key}")));
    let keys: Vec<String> = keys.collect();
    join_all(keys.iter().map(|key| spend(&one, key, rate, 60))).await;
    let calls: Vec<u64> = cluster.nodes().iter().map(scripts).collect();
    println!("12 000 requests on 200 keys: {calls:?} calls");
    assert!(calls.iter().all(|calls| *calls > 0) && calls.iter().sum::<u64>() < 6_000, "{calls:?}");
    let held = join_all(keys.iter().map(|key| crate::held(&other, key))).await;
    assert!(held.iter().all(|held| *held >= 60) && held.iter().any(|held| *held > 60), "{held:?}");
    one.hybrid().shutdown().await;
    for key in &keys {
        assert_eq!(crate::held(&other, key).await, 60, "{key}");
        assert!(!other.hybrid().absolute().inc(key, &rate, 541).await.unwrap().is_allowed(), "{key}");
        assert!(other.hybrid().absolute().inc(key, &rate, 540).await.unwrap().is_allowed(), "{key}");
    }
}
