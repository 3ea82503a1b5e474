//! Whole policies, decided by the layer.

use super::{TempFile, json, replay, run};

const START_MS: u64 = 1_700_000_000_000;

const POLICY: &str = r#"
[exempt]
paths = ["/health"]

[deny]
networks = { client-ip = ["192.0.2.0/24"] }

[[limits]]
name = "client"
quotas = "6/min"
routes = { "POST /login" = "1/min", "/users/{id}" = "2/min" }
costs = { "/export" = 3 }

[[limits]]
name = "service"
per = "global"
quotas = "4/min"
mode = "shadow"
"#;

/// Lines for some clients, a millisecond apart.
fn log(requests: &[(&str, &str, &str)]) -> String {
    let line = |(at, (client, method, path)): (u64, &(&str, &str, &str))| json(START_MS + at, client, method, path);
    (0..).zip(requests).map(line).collect()
}

#[test]
fn a_policy_file_is_replayed_on_its_layer() {
    let policy = TempFile::new("policy.toml", POLICY.as_bytes());
    let (ann, bob, denied) = ("10.0.0.1", "10.0.0.2", "192.0.2.7");
    let mut requests = vec![(ann, "POST", "/login"), (ann, "POST", "/login"), (bob, "POST", "/login")];
    requests.extend([(ann, "GET", "/users/1"), (ann, "GET", "/users/2"), (ann, "GET", "/users/3")]);
    requests.extend([(bob, "GET", "/export?all"), (bob, "GET", "/export"), (bob, "GET", "/export")]);
    requests.extend([(ann, "GET", "/health"); 20]);
    requests.extend([(denied, "GET", "/"), ("no-address", "GET", "/"), (ann, "GET", "/ bad"), (ann, "", "")]);
    let run = replay(&["--policy", policy.path()], log(&requests).as_bytes());
    // A login, a user, an export, the denied client and the one without an address.
    assert_eq!(run.policies(), [(31, 5)]);
    for note in [
        "Refused by limit client: 1\n",
        "Refused by limit client:POST /login: 1\n",
        "Refused by limit client:/users/{id}: 1\n",
        "Refused by the deny list: 1\n",
        "Refused without a key, such as a client's address: 1\n",
        "Lines that are no HTTP request for a layer, and left out: 2 of 33\n",
    ] {
        assert!(run.out.contains(note), "{note}{}", run.out);
    }
    assert_eq!(run.keys(0), [(ann, 25, 2), (bob, 4, 1), (denied, 1, 1), ("no-address", 1, 1)]);
    // Six requests are admitted, and the limit in shadow has room for four.
    assert!(run.out.contains("Admitted, although limit service in shadow is exceeded: 2\n"), "{}", run.out);
}

#[test]
fn a_policy_of_one_limit_decides_like_the_limit() {
    let policy = TempFile::new("one.txt", b"client  client-ip  5/s, 40/min  absolute  enforce\n");
    let mut random = fastrand::Rng::with_seed(5);
    let mut time = START_MS;
    let mut line = |_| {
        time += random.u64(..120);
        json(time, &format!("10.0.0.{}", random.u8(..5)), "GET", "/")
    };
    let log: String = (0..3_000).map(&mut line).collect();
    let run = replay(
        &["--policy", policy.path(), "--limit", "5/s;40/min", "--top", "100", "--target", "10%"],
        log.as_bytes(),
    );
    // Limits come before policies.
    assert_eq!(run.policies()[0], run.policies()[1]);
    assert_eq!(run.keys(0), run.keys(1));
    assert!(run.policies()[0].1 > 500, "the test is not vacuous");
    let found = run.out.lines().filter(|line| line.contains("refuses at most 10 % is")).collect::<Vec<_>>();
    assert!(found.len() == 2 && found[1].contains(" % of the quotas, which refuses "), "{found:?}");
}

/// Fields of the log are the headers of the requests.
#[test]
fn a_policy_reads_headers_from_fields() {
    let policy = TempFile::new("tenant.json", br#"{"limits":[{"per":"header x-tenant","quotas":"2/min"}]}"#);
    let line =
        |tenant: &str| format!("{{\"ts\":1700000000.5,\"org\":\"{tenant}\",\"method\":\"GET\",\"uri\":\"/\"}}\n");
    let log = [line("a"), line("a"), line("a"), line("b"), line("")].concat();
    let run = replay(&["--policy", policy.path(), "--field", "x-tenant=org", "--target", "0%"], log.as_bytes());
    assert_eq!(run.policies(), [(5, 2)]);
    assert!(run.out.contains("Refused without a key, such as a client's address: 1\n"), "{}", run.out);
    assert!(run.out.contains("No size of this policy refuses at most 0 %\n"), "{}", run.out);
}

#[test]
fn routes_that_no_router_has_are_an_error() {
    let policy = TempFile::new("routes.toml", b"[[limits]]\nroutes = { '/{a}/x' = '1/s', '/{*b}' = '1/s' }\n");
    let run = run(&["--policy", policy.path()], b"");
    assert!(run.code == Some(2) && run.errors.contains("Invalid route \"/{a}/x\""), "{run:?}");
    assert!(!run.errors.contains("backtrace"), "{run:?}");
}
