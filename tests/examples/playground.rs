//! The server of the playground, without a browser.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::programs::Server;
use crate::support::servers::{Flavor, wait_until};

#[path = "../../examples/playground/meter.rs"]
mod meter;

/// A playground without Redis.
fn alone() -> Server {
    Server::start_with("playground", &[], &[("PATH", ""), ("REDIS_SERVER", "")])
}

/// A playground with servers of its own, and their addresses.
fn with_redis() -> (Server, Vec<SocketAddr>) {
    let program = Flavor::Debian.binary();
    let playground = Server::start_with("playground", &[], &[("REDIS_SERVER", program.to_str().unwrap())]);
    let line = playground.line_with("redis://");
    let addresses = line.split("redis://").skip(1).map(|rest| {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').parse().unwrap()
    });
    let addresses: Vec<SocketAddr> = addresses.collect();
    assert_eq!(addresses.len(), 2, "{line}");
    (playground, addresses)
}

/// Sends a request, and returns the status and the rest of the response.
fn request(server: &Server, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    (response[9..12].parse().unwrap(), response[12..].to_owned())
}

/// Posts JSON as the page does.
fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    let address = &server.address;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\nsec-fetch-site: same-origin\r\n\
         content-type: application/json"
    );
    request(server, &head, body)
}

fn set(server: &Server, changes: &Value) {
    let (status, text) = post(server, "/settings", &changes.to_string());
    assert_eq!(status, 200, "{text}");
}

/// An open stream of snapshots.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", server.address).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        reader.read_line(&mut head).unwrap();
        if head.starts_with("HTTP/1.1 200") { Ok(Self(reader)) } else { Err(head[9..12].parse().unwrap()) }
    }

    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream has ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// The first snapshot that meets a condition, within 60 s.
    fn until(&mut self, what: &str, mut is_met: impl FnMut(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        wait_until(what, || {
            found = self.next();
            is_met(&found)
        });
        found
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

proptest! {
    /// The meter judges the limiter, so it is judged too: by a list of all admissions.
    #[test]
    fn the_meter_counts_as_a_list_of_all_admissions_does(
        steps in prop::collection::vec((0_u64..300, 0_u64..1_500, 0_u64..30, prop::option::weighted(0.05, 1_u64..10)), 1..200)
    ) {
        let mut meter = meter::Meter::new(1_000);
        let (mut window_ms, mut now_ms, mut time_ms, mut most) = (1_000, 20_000, 20_000, 0);
        let mut admitted: Vec<u64> = Vec::new();
        for (pause_ms, wait_ms, late_ms, window) in steps {
            if let Some(window) = window {
                window_ms = window * 1_000;
                meter.set_window(window_ms);
                most = 0;
            }
            time_ms += pause_ms;
            // Results of two threads arrive out of order.
            let latest_ms = time_ms - late_ms;
            now_ms = now_ms.max(latest_ms);
            admitted.push(latest_ms - wait_ms);
            meter.admit(latest_ms - wait_ms, latest_ms);
            let used = |now_ms: u64| admitted.iter().filter(|at_ms| *at_ms + window_ms > now_ms).count() as u64;
            most = most.max(used(now_ms));
            prop_assert_eq!((meter.used(latest_ms), meter.most()), (used(now_ms), most));
        }
    }
}

#[test]
fn bad_input_gets_an_error_that_names_the_mistake() {
    let server = alone();
    for (body, mistake) in [
        (r#"{"limit": 0}"#, "`limit` must be a whole number from 1 to 2000, and not 0"),
        (r#"{"limit": -3}"#, "from 1 to 2000, and not -3"),
        (r#"{"limit": 1e300}"#, "from 1 to 2000"),
        (r#"{"limit": "200"}"#, "and not \\\"200\\\""),
        (r#"{"limit": null}"#, "and not null"),
        (r#"{"limit": NaN}"#, "the body is no valid JSON"),
        (r#"{"limit": 1e999}"#, "number out of range"),
        (r#"{"window": 1.5}"#, "`window` must be a whole number from 1 to 10"),
        (r#"{"window": 99999999999999999999}"#, "`window` must be"),
        (r#"{"offered": 2001}"#, "`offered` must be a whole number from 0 to 2000"),
        (r#"{"factor": 0.9}"#, "`factor` must be a number from 1 to 3, and not 0.9"),
        (r#"{"split": 101}"#, "`split` must be"),
        (r#"{"pattern": "chaos"}"#, "`pattern` must be"),
        (r#"{"paused": 1}"#, "`paused` must be true or false"),
        (r#"{"outage": "hope"}"#, "`outage` must be"),
        (r#"{"limits": 5}"#, "unknown field \\\"limits\\\"; the fields are offered, limit"),
        ("[]", "send a JSON object"),
        ("", "the body is no valid JSON"),
    ] {
        let (status, text) = post(&server, "/settings", body);
        assert_eq!(status, 400, "{body}: {text}");
        assert!(text.contains(mistake), "{body}: {text}");
    }
    let (status, text) = post(&server, "/redis", "{}");
    assert!(status == 400 && text.contains("running"), "{text}");
    assert_eq!(post(&server, "/settings", &format!("\"{}\"", "x".repeat(10_000))).0, 413);
    // A mistake in one field changes no other field.
    post(&server, "/settings", r#"{"limit": 77, "factor": 9}"#);
    let (_, text) = post(&server, "/settings", "{}");
    assert!(text.contains("\"limit\":200"), "{text}");
}

#[test]
fn only_the_page_itself_can_steer_the_playground() {
    let server = alone();
    let address = &server.address;
    let steer = |host: &str, lines: &str| {
        request(&server, &format!("POST /settings HTTP/1.1\r\nhost: {host}{lines}"), r#"{"limit": 77}"#).0
    };
    let json = "\r\ncontent-type: application/json";
    assert_eq!(steer(address, &format!("{json}\r\norigin: http://evil.example")), 403);
    assert_eq!(steer(address, &format!("{json}\r\norigin: https://{address}")), 403);
    assert_eq!(steer(address, &format!("{json}\r\norigin: null")), 403);
    assert_eq!(steer(address, &format!("{json}\r\nsec-fetch-site: cross-site")), 403);
    assert_eq!(steer(address, &format!("{json}\r\nsec-fetch-site: same-site")), 403);
    // The name of the other site resolves to this machine.
    assert_eq!(steer("evil.example", &format!("{json}\r\norigin: http://evil.example")), 421);
    // A form can send these types without a question of the browser.
    for form in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json"]
    {
        assert_eq!(steer(address, &format!("\r\ncontent-type: {form}\r\norigin: http://{address}")), 415, "{form}");
    }
    assert_eq!(steer(address, ""), 415);
    // A browser asks before it sends JSON to another site, and gets no permission.
    let (status, text) = request(
        &server,
        &format!(
            "OPTIONS /settings HTTP/1.1\r\nhost: {address}\r\norigin: http://evil.example\r\n\
             access-control-request-method: POST"
        ),
        "",
    );
    assert!(status == 403 && !text.to_lowercase().contains("access-control-allow"), "{status} {text}");
    // Neither can it hold the streams.
    let foreign = format!("GET /events HTTP/1.1\r\nhost: {address}\r\nsec-fetch-site: cross-site");
    assert_eq!(request(&server, &foreign, "").0, 403);
    assert!(post(&server, "/settings", "{}").1.contains("\"limit\":200"));
    assert_eq!(steer(address, &format!("{json}\r\norigin: http://{address}")), 200);
}

#[test]
fn the_page_confines_itself_to_its_server() {
    let server = alone();
    let get = |path: &str| request(&server, &format!("GET {path} HTTP/1.1\r\nhost: {}", server.address), "");
    let (status, page) = get("/");
    assert_eq!(status, 200);
    let policy = page.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
    assert!(rules.contains(&"default-src 'none'") && rules.contains(&"frame-ancestors 'none'"), "{policy}");
    for source in rules.iter().flat_map(|rule| rule.split(' ').skip(1)) {
        assert!(["'none'", "'self'", "'script'"].contains(&source), "{policy}");
    }
    let references = page.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css"));
    let paths: Vec<&str> = references.collect();
    assert!(paths.len() >= 2, "{paths:?}");
    for path in paths {
        assert_eq!(get(&format!("/{path}")).0, 200, "{path}");
    }
}

#[test]
fn a_snapshot_has_all_figures_and_the_last_seconds() {
    let server = alone();
    let mut events = Events::open(&server).unwrap();
    let snapshot = events.until("the absolute strategy rejects", |snapshot| {
        let track = &snapshot["absolute"];
        let sum = |name: &str| track[name].as_array().unwrap().iter().map(number).sum::<f64>();
        sum("offered") > sum("admitted") + 50.0
    });
    assert_eq!(snapshot["settings"]["limit"], 200);
    assert_eq!(snapshot["hard_cap"], 300);
    for strategy in ["absolute", "suppressed"] {
        let track = &snapshot[strategy];
        let (most, bound) = (number(&track["most"]), number(&track["bound"]));
        assert!(most > 0.0 && most <= bound, "{strategy}: {most} of {bound}");
    }
    assert_eq!(number(&snapshot["absolute"]["most"]), 200.0, "what fits is admitted");
    let lengths =
        ["offered", "limit", "hard_cap", "factor"].map(|name| snapshot["series"][name].as_array().unwrap().len());
    assert!(lengths.iter().all(|length| *length == lengths[0] && *length > 0), "{lengths:?}");
    let later = events.next();
    assert!(number(&later["now"]) > number(&snapshot["now"]));
}

/// The units that are in use when the limit is lowered count at once, because the history stays.
#[test]
fn changed_limits_apply_to_the_units_in_use() {
    let server = alone();
    let mut events = Events::open(&server).unwrap();
    events.until("the limit is reached", |snapshot| number(&snapshot["absolute"]["used"]) >= 200.0);
    for changes in [
        json!({"limit": 100}),
        json!({"limit": 150, "window": 10}),
        json!({"window": 1}),
        json!({"limit": 50, "window": 4}),
    ] {
        set(&server, &changes);
        let window = changes["window"].as_f64();
        let mut most = 0.0_f64;
        let began = std::cell::Cell::new(None);
        events.until("the limit is reached again after a change", |snapshot| {
            let has_applied = changes["limit"].is_null() || snapshot["limit"] == changes["limit"];
            if !has_applied || window.is_some_and(|window| number(&snapshot["window"]) != window) {
                return false;
            }
            let (now, used, bound) = (
                number(&snapshot["now"]),
                number(&snapshot["absolute"]["most"]),
                number(&snapshot["absolute"]["bound"]),
            );
            assert!(used <= bound, "{used} of {bound} after {changes}");
            most = most.max(used);
            let began = began.get().unwrap_or_else(|| {
                began.set(Some(now));
                now
            });
            used == bound && now - began > 1_500.0
        });
    }
}

#[test]
fn a_page_without_redis_says_why_and_the_rest_works() {
    let server = alone();
    server.line_with("redis-server is not installed");
    let snapshot = Events::open(&server).unwrap().next();
    assert_eq!(snapshot["redis"]["status"], "absent");
    assert!(snapshot["redis"]["text"].as_str().unwrap().contains("redis-server is not installed"), "{snapshot}");
    assert_eq!(snapshot["pairs"], json!({}));
    let (status, text) = post(&server, "/redis", r#"{"running": false}"#);
    assert!(status == 409 && text.contains("has not started Redis"), "{text}");
    let missing = Server::start_with("playground", &[], &[("REDIS_SERVER", "/missing/redis-server")]);
    missing.line_with("REDIS_SERVER names no file");
    let wrong = Server::start_with("playground", &[], &[("REDIS_URL", "http://127.0.0.1/")]);
    wrong.line_with("REDIS_URL is no valid URL");
}

#[test]
fn a_limited_number_of_pages_can_be_open() {
    let server = alone();
    let open: Vec<Events> = (0..16).map(|_| Events::open(&server).unwrap()).collect();
    assert_eq!(Events::open(&server).err(), Some(503));
    drop(open);
    wait_until("the streams of closed pages are free", || Events::open(&server).is_ok());
}

#[test]
fn redis_ends_with_the_playground_however_it_ends() {
    for signal in ["INT", "TERM", "KILL"] {
        let (playground, addresses) = with_redis();
        let answer = |address: &SocketAddr| TcpStream::connect(address).is_ok();
        wait_until("both servers answer", || addresses.iter().all(answer));
        let kill = r#"kill -s "$1" "$2""#;
        let id = playground.id().to_string();
        assert!(Command::new("sh").args(["-c", kill, "kill", signal, &id]).status().unwrap().success());
        wait_until(signal, || !addresses.iter().any(answer));
    }
}

#[test]
fn instances_share_a_limit_and_each_has_its_share_while_redis_is_stopped() {
    let (server, addresses) = with_redis();
    let mut events = Events::open(&server).unwrap();
    let pairs = ["redis", "hybrid"];
    let all = |snapshot: &Value, by: &str| {
        let instances = pairs.iter().flat_map(|pair| snapshot["pairs"][pair]["instances"].as_array().unwrap());
        instances.clone().count() == 4 && instances.into_iter().all(|instance| instance["decided_by"] == by)
    };
    let check = |snapshot: &Value| {
        for pair in pairs.map(|pair| &snapshot["pairs"][pair]) {
            let (most, bound) = (number(&pair["most"]), pair["bound"].as_f64());
            assert!(bound.is_none_or(|bound| most <= bound), "{pair}");
            for instance in pair["instances"].as_array().unwrap().iter().filter(|one| one["decided_by"] == "share") {
                assert!(number(&instance["most"]) <= number(&pair["share"]), "{pair}");
            }
        }
    };
    let settled = |snapshot: &Value| {
        let calm = |pair: &&str| {
            snapshot["pairs"][pair]["disturbance"].is_null() && number(&snapshot["pairs"][pair]["most"]) > 150.0
        };
        check(snapshot);
        all(snapshot, "redis") && pairs.iter().all(calm)
    };
    events.until("the instances share the limit", settled);
    assert_eq!(post(&server, "/redis", r#"{"running": false}"#).0, 200);
    assert!(!addresses.iter().any(|address| TcpStream::connect(address).is_ok()));
    let mut full = 0;
    let stopped = events.until("each instance uses its share", |snapshot| {
        check(snapshot);
        // Several windows, so that what the outage found in them is gone.
        full += u32::from(all(snapshot, "share"));
        full > 30
    });
    assert_eq!(stopped["redis"]["status"], "stopped");
    for instance in pairs.iter().flat_map(|pair| stopped["pairs"][pair]["instances"].as_array().unwrap()) {
        assert_eq!(instance["is_breaker_open"], true, "{instance}");
    }
    assert_eq!(post(&server, "/redis", r#"{"running": true}"#).0, 200);
    events.until("the instances share the limit again", settled);
}
