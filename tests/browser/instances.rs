//! Several instances, and the switch of Redis.

use serde_json::json;

use crate::playground::{Playground, number};
use crate::support::servers::wait_until;

const FIGURES: [&str; 2] = ["#pair-redis", "#pair-hybrid"];

impl Playground {
    fn cell(&self, figure: &str, name: &str) -> String {
        self.browser.text(&format!("{figure} [data-cell=\"{name}\"]"))
    }

    fn cells(&self, name: &str) -> Vec<String> {
        let cell = |figure: &str, index: u32| self.cell(figure, &format!("{name}-{index}"));
        FIGURES.iter().flat_map(|figure| [cell(figure, 0), cell(figure, 1)]).collect()
    }

    /// Waits for the text of a bound, and checks the most units of the same snapshot.
    fn wait_for_bound(&self, figure: &str, text: &str, bound: f64) {
        let script = "const cell = (name) => document.querySelector(`${arguments[0]} [data-cell=${name}]`).innerText;
            return [cell('bound'), cell('most')]";
        wait_until(text, || {
            let cells = self.browser.run(script, &json!([figure]));
            let is_met = cells[0] == text;
            assert!(!is_met || number(cells[1].as_str().unwrap()) <= bound, "{figure}: {cells}");
            is_met
        });
    }

    fn wait_for_cells(&self, name: &str, texts: [&str; 4]) {
        wait_until(name, || self.cells(name) == texts);
    }
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn instances_share_the_limit_and_degrade_to_their_shares_while_redis_is_stopped() {
    let playground = Playground::open();
    let browser = &playground.browser;
    playground.wait_for_cells("by", ["Redis", "Redis", "its lease", "its lease"]);
    for figure in FIGURES {
        wait_until("the bound is the limit", || playground.cell(figure, "bound") == "200 in any window");
        wait_until("the limit is in use", || number(&playground.cell(figure, "most")) == 200.0);
        wait_until("calls are counted", || playground.cell(figure, "calls").ends_with("/s"));
    }
    browser.click("#redis-switch");
    browser.wait_for_text("#redis-state", |text| text == "Redis is stopped");
    playground.wait_for_cells("by", ["its share"; 4]);
    playground.wait_for_cells("breaker", ["open"; 4]);
    browser.wait_for_text("#status", |text| text == "Redis is stopped. The instances decide without it.");
    for figure in FIGURES {
        // Both instances use their shares, and no window of an instance exceeds its share.
        wait_until("the shares are in use", || {
            let most = [0, 1].map(|index| playground.cell(figure, &format!("most-{index}")));
            assert!(most.iter().all(|text| number(text) <= 100.0 && text.ends_with(" of 100")), "{most:?}");
            assert!(number(&playground.cell(figure, "most")) <= 300.0);
            most.iter().all(|text| number(text) >= 90.0)
        });
        assert_eq!(playground.cell(figure, "bound"), "300 in a window with the start of the outage");
        assert_eq!(playground.cell(figure, "calls"), "none");
    }
    assert_eq!(browser.text("#redis-switch"), "Start Redis");
    browser.click("#redis-switch");
    browser.wait_for_text("#redis-state", |text| text == "Redis runs");
    playground.wait_for_cells("by", ["Redis", "Redis", "its lease", "its lease"]);
    playground.wait_for_cells("breaker", ["closed"; 4]);
    for figure in FIGURES {
        playground.wait_for_bound(figure, "200 in any window", 200.0);
    }
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_policy_for_outages_can_change_during_an_outage() {
    let playground = Playground::open();
    playground.browser.click("input[value=\"reject\"]");
    playground.browser.click("#redis-switch");
    playground.wait_for_cells("by", ["refused"; 4]);
    playground.browser.click("input[value=\"allow\"]");
    playground.wait_for_cells("by", ["no limit"; 4]);
    for figure in FIGURES {
        wait_until("all requests are admitted", || number(&playground.cell(figure, "admitted")) > 200.0);
        wait_until("no bound", || playground.cell(figure, "bound") == "none: all requests are admitted");
    }
    playground.set(&json!({ "outage": "local-share" }));
    playground.wait_for_cells("by", ["its share"; 4]);
    // The units that were admitted without a limit leave the windows. Then the windows are within the bound.
    for figure in FIGURES {
        let bound = "300 in a window with the start of the outage";
        playground.wait_for_bound(figure, bound, 300.0);
    }
}
