//! Sentinels, their master, and whose login it is.

use super::client::{SECRET, link};
use crate::support::servers::{Flavor, Sentinel, Server};

fn logs(urls: &[String], master: &str, words: &[&str]) {
    let mut all = vec!["sentinel"];
    all.extend(urls.iter().map(String::as_str));
    all.push(master);
    link(&all).logs(words);
}

#[test]
fn the_master_has_another_name() {
    let watch = Sentinel::start(Flavor::Debian, 1);
    logs(&watch.urls(), "other", &["redis-lost", "know no master of this name", "SENTINEL MASTERS"]);
}

#[test]
fn the_sentinels_are_dead_or_are_none() {
    let server = Server::start(Flavor::Debian);
    logs(&[server.url()], "weir", &["redis-lost", "is the address of a server", "26379"]);
    server.kill();
    logs(&[server.url()], "weir", &["redis-lost", "no sentinel can be reached"]);
}

#[test]
fn a_login_is_wrong() {
    let watch = Sentinel::start(Flavor::Debian, 1);
    for server in watch.servers() {
        server.cli(&["ACL", "SETUSER", "weir", "reset", "on", ">hunter2", "~*", "+@all"]);
        server.cli(&["ACL", "SETUSER", "default", "-@all", "+@connection", "+info", "+replconf", "+psync", "+publish"]);
    }
    let master = format!("redis://weir:wrong{SECRET}@{}", Sentinel::MASTER);
    logs(&watch.urls(), &master, &["redis-lost", "master does not accept the user and password", "mymaster"]);

    let sentinel = &watch.sentinels()[0];
    sentinel.cli(&["ACL", "SETUSER", "weir", "reset", "on", ">hunter2", "+ping"]);
    sentinel.cli(&["ACL", "SETUSER", "default", "on", "resetpass", ">other"]);
    let with = |login: &str| vec![format!("redis://{login}{}", sentinel.address())];
    logs(&with(""), "weir", &["redis-lost", "a sentinel does not accept", "sentinels' URLs"]);
    logs(&with("weir:wronghunter2@"), "weir", &["redis-lost", "a sentinel does not accept", "sentinels' URLs"]);
    logs(
        &with("weir:hunter2@"),
        "weir",
        &["redis-lost", "user on the sentinels lacks a permission", "+sentinel|masters"],
    );
}
