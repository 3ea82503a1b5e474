//! Passwords, users and what they may.

use super::client::{SECRET, url};
use crate::support::servers::{Flavor, Server};

#[test]
fn a_password_is_wrong_or_missing() {
    let server = Server::start_with(Flavor::Debian, &["--requirepass", SECRET]);
    let of = |login: &str| format!("redis://{login}{}", server.address());
    url(&of("")).logs(&["redis-lost", "requires a password"]);
    url(&of(&format!(":wrong{SECRET}@"))).logs(&["redis-lost", "does not accept this user and password"]);
    url(&of(&format!("nobody:{SECRET}@"))).logs(&["redis-lost", "does not accept this user and password"]);
    let open = Server::start(Flavor::Debian);
    url(&format!("redis://:{SECRET}@{}", open.address()))
        .logs(&["redis-lost", "does not accept this user and password"]);
}

#[test]
fn a_database_is_not_there() {
    let server = Server::start(Flavor::Debian);
    url(&format!("{}/77", server.url())).logs(&["redis-lost", "no database with that number"]);
}

/// In the words of each version; all but the first grant are for commands that only the script calls.
#[test]
fn a_permission_is_missing() {
    let all = ["+evalsha", "+eval", "+get", "+set", "+time", "+del", "+ping"];
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        for without in ["+evalsha", "+time", "+get", "+set"] {
            let grants = all.iter().filter(|grant| **grant != without).copied();
            let user = ["ACL", "SETUSER", "weir", "reset", "on", ">hunter2", "~weir:*"];
            server.cli(&user.into_iter().chain(grants).collect::<Vec<_>>());
            let words = ["redis-lost", "lacks a permission", "ACL SETUSER weir", "+zremrangebyscore", "+role"];
            url(&format!("redis://weir:{SECRET}@{}", server.address())).logs(&words);
        }
        let user = ["ACL", "SETUSER", "weir", "reset", "on", ">hunter2", "~other:*"];
        server.cli(&user.into_iter().chain(all).collect::<Vec<_>>());
        url(&format!("redis://weir:{SECRET}@{}", server.address())).logs(&["redis-lost", "lacks a permission"]);
    }
}

#[test]
fn a_command_is_renamed() {
    let server = Server::start_with(Flavor::Debian, &["--rename-command", "EVALSHA", "x"]);
    url(&server.url()).logs(&["redis-lost", "does not know a command", "renamed EVALSHA"]);
}
