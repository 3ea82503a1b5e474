//! The program and the page that the tests of the playground share.

use serde_json::json;

use crate::driver::Browser;
use crate::programs::Server;
use crate::support::servers::{Flavor, wait_until};

/// The program, and a browser that shows its page with figures.
pub(crate) struct Playground {
    pub(crate) browser: Browser,
    pub(crate) server: Server,
}

impl Playground {
    pub(crate) fn open() -> Self {
        let program = Flavor::Debian.binary();
        let server = Server::start_with("playground", &[], &[("REDIS_SERVER", program.to_str().unwrap())]);
        let browser = Browser::open(&format!("http://{}/", server.address));
        browser.wait_for_text("#absolute-used", |text| !text.is_empty());
        browser.wait_for_text("#redis-state", |text| text == "Redis runs");
        Self { browser, server }
    }

    /// The number at the start of an element's text.
    pub(crate) fn number(&self, selector: &str) -> f64 {
        number(&self.browser.text(selector))
    }

    /// Waits until the number at the start of an element's text meets a condition.
    pub(crate) fn wait_for_number(&self, selector: &str, mut is_met: impl FnMut(f64) -> bool) {
        self.browser.wait_for_text(selector, |text| !text.is_empty() && is_met(number(text)));
    }

    /// Changes settings as the page does.
    pub(crate) fn set(&self, changes: &serde_json::Value) {
        let script = "const [body] = arguments; const headers = { 'content-type': 'application/json' };
            return fetch('settings', { method: 'POST', headers, body: JSON.stringify(body) }).then((response) => response.status)";
        assert_eq!(self.browser.run(script, &json!([changes])), 200, "{changes}");
    }

    /// Scrolls to a control, and gives it the focus.
    pub(crate) fn focus(&self, id: &str) {
        let script =
            "const element = document.getElementById(arguments[0]); element.scrollIntoView({ block: 'center' });
            element.focus()";
        self.browser.run(script, &json!([id]));
        wait_until(id, || self.browser.value("document.activeElement.id") == id);
    }
}

/// The number at the start of a text, such as `1,200 of 2,000`.
pub(crate) fn number(text: &str) -> f64 {
    let digits = text.trim_start_matches("× ").chars().take_while(|char| char.is_ascii_digit() || ".,".contains(*char));
    let digits: String = digits.filter(|char| *char != ',').collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {text:?}"))
}
