//! The examples on axum: tiers, routes, several limits and a rollout.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;

use crate::programs::Server;

/// A response: the status, the wait in seconds, the `RateLimit` lines, and the body.
#[derive(Debug)]
struct Seen {
    status: u16,
    wait: Option<u64>,
    limits: Vec<String>,
    body: String,
}

/// Sends requests to an example.
struct Caller {
    client: reqwest::Client,
    server: Server,
}

impl Caller {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { client, server: Server::start(name, arguments) }
    }

    async fn send(&self, method: Method, path: &str, header: (&str, &str)) -> Seen {
        self.receive(self.request(method, path).header(header.0, header.1)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.server.address))
    }

    async fn receive(&self, request: reqwest::RequestBuilder) -> Seen {
        let response = request.send().await.unwrap();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        Seen {
            status: response.status().as_u16(),
            wait: response.headers().get("retry-after").map(|wait| text(wait).parse().unwrap()),
            limits: response.headers().get_all("ratelimit").iter().map(text).collect(),
            body: response.text().await.unwrap(),
        }
    }

    /// The statuses of some requests with one header.
    async fn statuses<const N: usize>(&self, header: (&str, &str)) -> [u16; N] {
        let mut statuses = [0; N];
        for status in &mut statuses {
            *status = self.send(Method::GET, "/", header).await.status;
        }
        statuses
    }
}

/// The header that names a user.
fn user(name: &str) -> (&str, &str) {
    ("x-user", name)
}

/// A file of the test, which is replaced in one step.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file of plans.
struct Plans(File);

impl Plans {
    fn create() -> Self {
        let plans = Self(File::new("plans.json"));
        // The windows are long, so that no unit leaves them during the test.
        plans.write("\"3/h\"", "free", "suspended");
        plans
    }

    /// The quota of the plan `free`, and the plans of Bob and of Eve.
    fn write(&self, free: &str, bob: &str, eve: &str) {
        let text = format!(
            r#"{{
                "plans": {{ "free": [{free}], "pro": ["20/h", "100/d"], "all": "unlimited", "suspended": "blocked" }},
                "customers": [
                    {{ "id": 1, "api_key": "ann", "plan": "free" }},
                    {{ "id": 1, "api_key": "ann-too", "plan": "free" }},
                    {{ "id": 2, "api_key": "bob", "plan": "{bob}" }},
                    {{ "id": 3, "api_key": "job", "plan": "all" }},
                    {{ "id": 4, "api_key": "eve", "plan": "{eve}" }}
                ]
            }}"#
        );
        self.0.write(&text);
    }
}

#[tokio::test]
async fn tiers_follow_the_file_of_plans() {
    let plans = Plans::create();
    let caller = Caller::start("tiers", &[plans.0.path()]);
    let key = |value| ("x-api-key", value);

    assert_eq!(caller.statuses(("x-other", "ann")).await, [401]);
    assert_eq!(caller.statuses(key("mallory")).await, [401]);
    assert_eq!(caller.statuses(key("ann")).await, [200, 200, 200, 429]);
    assert_eq!(caller.statuses(key("ann-too")).await, [429], "another API key of the same customer");
    let refused = caller.send(Method::GET, "/", key("ann")).await;
    assert!(refused.wait.is_some_and(|wait| (3_000..=3_601).contains(&wait)), "{refused:?}");
    assert_eq!(caller.statuses(key("job")).await, [200; 30]);
    let blocked = caller.send(Method::GET, "/", key("eve")).await;
    assert_eq!((blocked.status, blocked.wait), (429, None), "no wait helps");
    assert_eq!(caller.statuses(key("bob")).await, [200, 200, 200, 429]);

    // A better plan for all, Bob is promoted, Eve is no longer suspended.
    plans.write("\"5/h\"", "pro", "free");
    caller.server.line_with("new plans");
    assert_eq!(caller.statuses(key("ann")).await, [200, 200, 429], "three are in use");
    assert_eq!(caller.statuses(key("bob")).await, [200; 17], "three of 20 are in use");
    assert_eq!(caller.statuses(key("bob")).await, [429]);
    assert_eq!(caller.statuses(key("eve")).await, [200; 5]);

    // A mistake changes nothing.
    plans.write("\"often\"", "all", "all");
    caller.server.line_with("the old plans stay");
    assert_eq!(caller.statuses(key("ann")).await, [429]);
    assert_eq!(caller.statuses(key("bob")).await, [429]);

    plans.write("\"5/h\"", "suspended", "all");
    caller.server.line_with("new plans");
    assert_eq!(caller.send(Method::GET, "/", key("bob")).await.wait, None);
    assert_eq!(caller.statuses(key("eve")).await, [200; 10]);
}

#[tokio::test]
async fn a_policy_follows_its_file() {
    let file = File::new("policy.toml");
    let policy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policy.toml")).unwrap();
    // The windows are long, so that no unit leaves them during the test.
    let policy = policy.replace("/10s", "/2h");
    file.write(&policy);
    let caller = Caller::start("policy_file", &[file.path()]);
    let ann = ("x-client", "ann");
    caller.server.line_with("client         header x-client  3/2h, 1000/h  absolute  enforce");
    assert_eq!(caller.statuses(ann).await, [200, 200, 200, 429]);
    assert_eq!(caller.statuses(("x-client", "bob")).await, [200]);
    let login = async || caller.send(Method::POST, "/login", ann).await.status;
    assert_eq!([login().await, login().await], [200, 429]);
    assert_eq!(caller.send(Method::GET, "/health", ann).await.status, 200);

    file.write(&policy.replace("3/2h", "5/2h").replace("shadow", "off"));
    caller.server.line_with("service        global           100/s         absolute  off");
    assert_eq!(caller.statuses(ann).await, [200, 200, 429], "three are in use");

    // A mistake changes nothing.
    file.write(&policy.replace("3/2h", "often"));
    caller.server.line_with("TOML parse error at line 9, column 11");
    caller.server.line_with("\"often\" is not a quota; write a count above 0 and a period");
    caller.server.line_with("The old policy stays.");
    file.write(&policy.replace("\"service\"", "\"client\""));
    caller.server.line_with("limits[1].name: two limits have the name \"client\"");
    assert_eq!(caller.statuses(ann).await, [429]);
}

#[tokio::test]
async fn routes_have_quotas_and_costs_of_their_own() {
    let caller = Caller::start("routes", &[]);
    let send = async |method, path: &str| caller.send(method, path, ("accept", "*/*")).await;
    let mut seen = Vec::new();
    for (method, path) in [
        (Method::POST, "/login"),
        (Method::POST, "/login"),
        (Method::POST, "/login"),
        (Method::GET, "/reports/1"),
        (Method::GET, "/reports/2"),
        (Method::GET, "/reports/3"),
        (Method::GET, "/"),
        (Method::GET, "/health"),
    ] {
        let response = send(method, path).await;
        assert_eq!(response.wait.is_some(), response.status == 429, "{response:?}");
        assert!(response.wait.is_none_or(|wait| (1..=11).contains(&wait)), "{response:?}");
        seen.push((response.status, response.limits.len()));
    }
    // Every response lists both limits, except that of an exempt request.
    assert_eq!(seen, [(200, 2), (200, 2), (429, 2), (200, 2), (200, 2), (429, 2), (200, 2), (200, 0)]);
    let refused = send(Method::POST, "/login").await;
    assert!(refused.limits[0].starts_with("\"requests:POST /login\";r=0;t="), "{refused:?}");
}

#[tokio::test]
async fn a_refusal_of_a_user_costs_the_tenant_and_the_service_nothing() {
    let caller = Caller::start("tenant_and_global", &[]);
    let header = |who| ("authorization", who);
    let first = caller.send(Method::GET, "/", header("Bearer ann")).await;
    assert_eq!(first.body, "left: user 2, tenant 4, service 6\n");
    let ann = caller.statuses::<9>(header("Bearer ann")).await;
    assert_eq!(ann, [200, 200, 429, 429, 429, 429, 429, 429, 429]);
    assert_eq!(caller.statuses(header("Bearer bob")).await, [200, 200, 429, 429]);
    assert_eq!(caller.statuses(header("Bearer eve")).await, [200, 200, 429, 429]);
    let refused = caller.send(Method::GET, "/", header("Bearer eve")).await;
    assert!(refused.wait.is_some_and(|wait| (1..=11).contains(&wait)), "{refused:?}");
    let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(problem["violated-policies"], serde_json::json!(["service"]));
    assert_eq!(caller.statuses(header("Bearer mallory")).await, [401]);
}

#[tokio::test]
async fn a_limit_goes_from_shadow_to_a_part_of_the_users_to_all() {
    let caller = Caller::start("shadow_rollout", &[]);
    let admin = async |method, path: &str| caller.send(method, path, ("accept", "*/*")).await;
    assert_eq!(caller.statuses(user("ann")).await, [200; 4]);
    caller.server.line_with("user would have refused a request: 3 of 3 in use");
    let shown = admin(Method::GET, "/admin").await;
    assert_eq!(shown.body, "Shadow: 1 of 4 admitted requests would have been refused\n");

    let refused = async || {
        let mut refused = Vec::new();
        for n in 0..100 {
            let name = format!("user {n}");
            if caller.statuses::<4>(user(&name)).await[3] == 429 {
                refused.push(n);
            }
        }
        refused
    };
    assert_eq!(admin(Method::POST, "/admin/enforce_for/5").await.status, 200);
    let few = refused().await;
    assert!((1..=20).contains(&few.len()), "{few:?} of 100");
    assert!(admin(Method::GET, "/admin").await.body.starts_with("EnforceFor(5.0)"));
    assert_eq!(admin(Method::POST, "/admin/enforce_for/50").await.status, 200);
    let half = refused().await;
    assert!((30..=70).contains(&half.len()) && few.iter().all(|n| half.contains(n)), "{half:?} of 100");

    assert_eq!(admin(Method::POST, "/admin/enforce").await.status, 200);
    assert_eq!(caller.statuses(user("bob")).await, [200, 200, 200, 429]);
    let response = caller.send(Method::GET, "/", user("bob")).await;
    assert!(response.wait.is_some_and(|wait| (1..=11).contains(&wait)), "{response:?}");
    assert_eq!(admin(Method::POST, "/admin/shadow").await.status, 200);
    assert_eq!(caller.statuses(user("bob")).await, [200]);
    assert_eq!(admin(Method::POST, "/admin/off").await.status, 200);
    assert_eq!(caller.statuses(user("bob")).await, [200; 5]);
    assert_eq!(admin(Method::POST, "/admin/enforce_for/101").await.status, 400);
    assert_eq!(admin(Method::POST, "/admin/often").await.status, 404);
}

#[tokio::test]
async fn only_failed_logins_count_and_guessing_is_locked_out() {
    let caller = Caller::start("login", &[]);
    let login = async |account: &str, password: &'static str| {
        let seen = caller.receive(caller.request(Method::POST, &format!("/login/{account}")).body(password)).await;
        (seen.status, seen.wait)
    };
    for _ in 0..20 {
        assert_eq!(login("bob", "secret").await.0, 200, "successes do not count");
    }
    for _ in 0..2 {
        assert_eq!([login("bob", "guess").await.0, login("bob", "guess").await.0], [401; 2]);
        assert_eq!(login("bob", "secret").await.0, 200, "a success clears the account");
    }
    // The fifth to the seventh failure of the address.
    for _ in 0..3 {
        assert_eq!(login("ann", "guess").await.0, 401);
    }
    let (status, wait) = login("ann", "secret").await;
    assert!(status == 429 && wait.is_some_and(|wait| (800..=901).contains(&wait)), "{status} {wait:?}");
    for account in ["joe", "eve", "mia"] {
        assert_eq!(login(account, "guess").await.0, 401);
    }
    let (status, wait) = login("sue", "secret").await;
    assert!(status == 429 && wait < Some(902), "{status} {wait:?}");
    let (status, wait) = login("sue", "secret").await;
    assert!(status == 429 && wait > Some(3_500), "the address is locked out: {status} {wait:?}");
}

/// An upload is charged what was received, whether it declares its length or not.
#[tokio::test]
async fn uploads_are_charged_the_bytes_that_were_received() {
    let caller = Caller::start("upload_quota", &[]);
    let upload = async |bytes: usize, is_declared: bool| {
        let body = match is_declared {
            true => reqwest::Body::from(vec![7; bytes]),
            false => {
                reqwest::Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(
                    http_body::Frame::data(bytes::Bytes::from(vec![7; bytes])),
                )])))
            }
        };
        let seen = caller.receive(caller.request(Method::PUT, "/files/a").body(body)).await;
        (seen.status, seen.wait)
    };
    // Each is charged 100 000 until it is received.
    for _ in 0..20 {
        assert_eq!(upload(1_000, false).await, (201, None));
    }
    assert_eq!(upload(90_000, true).await, (201, None));
    assert_eq!(upload(89_000, true).await, (201, None));
    let (status, wait) = upload(1_001, true).await;
    assert!(status == 429 && wait.is_some_and(|wait| (3_500..=3_601).contains(&wait)), "{status} {wait:?}");
    assert_eq!(upload(1_000, true).await, (201, None));
    assert_eq!(upload(300_000, true).await, (429, None), "no wait helps");
}
