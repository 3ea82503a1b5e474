//! One key: the figures follow the controls, and no window exceeds its bound.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::driver::key;
use crate::playground::Playground;
use crate::support::servers::wait_until;

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_figures_and_the_plots_move() {
    let playground = Playground::open();
    for plot in ["absolute-window", "absolute-slices", "suppressed-window", "absolute-rates", "factor-plot"] {
        let picture = format!("document.getElementById('{plot}').innerHTML");
        let first = playground.browser.value(&picture);
        wait_until(plot, || playground.browser.value(&picture) != first);
    }
    playground.wait_for_number("#absolute-most", |most| most == 200.0);
    playground.wait_for_number("#absolute-offered", |rate| (250.0..350.0).contains(&rate));
    playground.wait_for_number("#absolute-admitted", |rate| (80.0..=120.0).contains(&rate));
    // The text that stands for a picture has the same figures.
    let text = "document.getElementById('absolute-window').getAttribute('aria-label')";
    wait_until("the text of the plot has the figures", || {
        playground.browser.value(text).as_str().unwrap().contains("the most in any window is 200, and the limit is 200")
    });
    playground.browser.click("#freeze");
    let picture = || playground.browser.value("document.getElementById('absolute-slices').innerHTML");
    let (frozen, used) = (picture(), playground.browser.value("performance.now()"));
    wait_until("a second passes", || {
        playground.browser.value("performance.now()").as_f64() > used.as_f64().map(|then| then + 1_000.0)
    });
    assert_eq!(picture(), frozen);
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_limit_follows_the_keyboard_and_the_mouse() {
    let playground = Playground::open();
    let browser = &playground.browser;
    playground.focus("limit");
    browser.press(&[key::HOME]);
    assert_eq!(browser.text("#limit-out"), "10 units");
    // 10 units in 2 seconds.
    browser.wait_for_text("#absolute-most", |text| text == "10 of 10");
    playground.wait_for_number("#absolute-admitted", |rate| rate <= 6.0);
    assert_eq!(browser.text("#absolute-verdict"), "within the limit");
    browser.press(&[key::RIGHT, key::RIGHT]);
    assert_eq!(browser.text("#limit-out"), "30 units");
    browser.wait_for_text("#absolute-most", |text| text == "30 of 30");

    let frame = browser.run(
        "const frame = document.getElementById('limit').getBoundingClientRect(); return [frame.left, frame.right, frame.top + frame.height / 2]",
        &json!([]),
    );
    let [left, right, y] = [0, 1, 2].map(|at| frame[at].as_f64().unwrap());
    browser.drag((left + 9.0, y), (right - 2.0, y));
    let dragged = playground.number("#limit-out");
    assert!(dragged > 1_500.0, "{dragged}");
    // All requests fit.
    playground.wait_for_number("#absolute-admitted", |rate| rate >= 280.0);
    // A new page shows the settings of the server.
    browser.run("location.reload()", &json!([]));
    browser.wait_for_text("#limit-out", |text| crate::playground::number(&format!("0{text}")) == dragged);
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn no_window_exceeds_its_bound_while_the_settings_change() {
    let playground = Playground::open();
    let watch = "window.seen = { snapshots: 0, above: [] };
        new EventSource('events').addEventListener('message', (event) => {
            const snapshot = JSON.parse(event.data);
            seen.snapshots += 1;
            for (const track of [snapshot.absolute, snapshot.suppressed]) {
                if (track.most > track.bound) seen.above.push(`${track.most} of ${track.bound}`);
            }
        })";
    playground.browser.run(watch, &json!([]));
    for change in [
        json!({ "limit": 100 }),
        json!({ "offered": 2000, "pattern": "bursts" }),
        json!({ "limit": 500, "window": 4 }),
        json!({ "factor": 1.0 }),
        json!({ "window": 1, "limit": 90 }),
        json!({ "pattern": "spike", "factor": 2.5 }),
        json!({ "window": 3, "limit": 333 }),
    ] {
        playground.set(&change);
        // The end is a time, and no condition: a window that exceeds its bound could come in any moment.
        let began = Instant::now();
        wait_until("two seconds pass", || began.elapsed() > Duration::from_secs(2));
    }
    let seen = playground.browser.value("window.seen");
    assert!(seen["snapshots"].as_u64().unwrap() > 10, "{seen}");
    assert_eq!(seen["above"], json!([]));
    playground.wait_for_number("#absolute-most", |most| most == 333.0);
    assert_eq!(playground.browser.text("#absolute-verdict"), "within the limit");
    assert_eq!(playground.browser.text("#suppressed-verdict"), "within the hard cap");
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_suppressed_strategy_sheds_a_part_in_the_band() {
    let playground = Playground::open();
    assert_eq!(playground.browser.text("#factor-band"), "200 to 300 units");
    // Two thirds of 300 per second are above the limit of 100 per second.
    playground.wait_for_number("#factor-now", |factor| (0.5..0.8).contains(&factor));
    playground.wait_for_number("#suppressed-refused", |rate| rate > 100.0);
    playground.wait_for_number("#suppressed-admitted", |rate| (60.0..150.0).contains(&rate));
    playground.set(&json!({ "offered": 50 }));
    playground.wait_for_number("#factor-now", |factor| factor == 0.0);
    playground.wait_for_number("#suppressed-refused", |rate| rate == 0.0);
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn a_visitor_sees_the_responses_of_a_limited_route() {
    let playground = Playground::open();
    let browser = &playground.browser;
    let mut statuses = Vec::new();
    // Each answer is another one, because the remaining units or the wait differ.
    for _ in 0..6 {
        browser.run("document.getElementById('answer').hidden = true", &json!([]));
        browser.click("#send");
        wait_until("a response", || browser.value("!document.getElementById('answer').hidden") == true);
        statuses.push(browser.text("#answer-line"));
    }
    assert_eq!(statuses[..5], ["HTTP 200 OK"; 5]);
    assert_eq!(statuses[5], "HTTP 429 Too Many Requests");
    let fields = browser.text("#answer-fields");
    for field in ["Retry-After", "RateLimit\n", "RateLimit-Policy", "q=5;w=10"] {
        assert!(fields.contains(field), "{fields}");
    }
    browser.wait_for_text("#status", |text| text.starts_with("Response 429"));
}
