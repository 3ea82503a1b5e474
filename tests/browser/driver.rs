//! A thin client of chromedriver, with the few commands of [WebDriver](https://www.w3.org/TR/webdriver2/) that these
//! tests need.
//!
//! The usual clients compile many more crates. This one needs only an HTTP client, and the repository has one.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::servers::wait_until;

/// The name of an element's reference in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The keys that have no character.
pub(crate) mod key {
    pub(crate) const TAB: char = '\u{e004}';
    pub(crate) const END: char = '\u{e010}';
    pub(crate) const HOME: char = '\u{e011}';
    pub(crate) const RIGHT: char = '\u{e014}';
    pub(crate) const SPACE: char = ' ';
}

/// A browser with one window and a new profile; it ends with this value.
pub(crate) struct Browser {
    driver: Child,
    /// The address of the session.
    session: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Browser {
    /// Starts the browser and opens a page.
    pub(crate) fn open(url: &str) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver starts; `tests/run.sh` installs it");
        let output = BufReader::new(driver.stdout.take().unwrap());
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let rest = line.split_once("started successfully on port ")?.1;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        let session = format!("http://127.0.0.1:{}/session", port.expect("chromedriver prints its port"));
        let mut browser = Self { driver, session, client, runtime };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-proxy-server",
            "--lang=en",
            "--window-size=1280,900",
        ];
        let made = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            } } }),
        );
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser.go_to(url);
        browser
    }

    pub(crate) fn go_to(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let request = self.client.post(url).header("content-type", "application/json").body(body.to_string());
        let text = self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
        let mut response: Value = serde_json::from_str(&text).unwrap();
        assert!(response["value"]["error"].is_null(), "{path} {body}: {}", response["value"]);
        response["value"].take()
    }

    /// Runs a function body with arguments in the page, and returns its value. It can be a promise.
    pub(crate) fn run(&self, script: &str, arguments: &Value) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"), &json!([]))
    }

    /// The visible text of the first element that a selector finds.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run("return document.querySelector(arguments[0]).innerText", &json!([selector]));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the text of an element meets a condition.
    pub(crate) fn wait_for_text(&self, selector: &str, mut is_met: impl FnMut(&str) -> bool) -> String {
        let mut text = String::new();
        wait_until(selector, || {
            text = self.text(selector);
            is_met(&text)
        });
        text
    }

    /// Runs a command of Chromium's DevTools.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The entries of a log since the last call, which is `browser` or `performance`.
    pub(crate) fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }

    /// Presses keys, one after the other.
    pub(crate) fn press(&self, keys: &[char]) {
        let presses =
            keys.iter().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let actions: Vec<Value> = presses.collect();
        self.act(&json!({ "type": "key", "id": "keyboard", "actions": actions }));
    }

    /// Drags with the mouse from one point of the window to another.
    pub(crate) fn drag(&self, from: (f64, f64), to: (f64, f64)) {
        let go = |(x, y): (f64, f64)| json!({ "type": "pointerMove", "duration": 100, "x": x as i64, "y": y as i64 });
        let button = |kind: &str| json!({ "type": kind, "button": 0 });
        let actions = [go(from), button("pointerDown"), go(to), button("pointerUp")];
        let parameters = json!({ "pointerType": "mouse" });
        self.act(&json!({ "type": "pointer", "id": "mouse", "parameters": parameters, "actions": actions }));
    }

    fn act(&self, source: &Value) {
        self.post("/actions", &json!({ "actions": [source] }));
    }

    /// Clicks an element as a user does, after scrolling to it.
    pub(crate) fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        self.post(&format!("/element/{}/click", found[ELEMENT].as_str().unwrap()), &json!({}));
    }

    /// Gives the page the size of a screen, in CSS pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets what the user prefers, such as `prefers-color-scheme` and `dark`.
    pub(crate) fn prefer(&self, feature: &str, value: &str) {
        let features = json!({ "features": [{ "name": feature, "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session. Without it, the browser would go on.
        let _ = self.runtime.block_on(async { self.client.delete(&self.session).send().await });
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
