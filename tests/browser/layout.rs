//! The page of the playground on screens of different sizes, light and dark.

use serde_json::{Value, json};

use crate::driver::{Browser, key};
use crate::playground::Playground;
use crate::support::servers::wait_until;

impl Browser {
    /// The result of a check in `checks.js`.
    pub(crate) fn check(&self, check: &str) -> Value {
        self.run(&format!("{}\nreturn {check}()", include_str!("checks.js")), &json!([]))
    }

    /// Waits until the plots are drawn for the size of the screen.
    fn settle(&self) {
        wait_until("the plots have the width of their frames", || {
            let fits = "[...document.querySelectorAll('svg.plot')].filter((svg) => svg.clientWidth > 0)
                .every((svg) => svg.viewBox.baseVal.width === svg.clientWidth)";
            self.value(fits) == true
        });
    }
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_checks_find_what_they_look_for() {
    let page = "<body style='margin:0;background:%23fff'><p style='position:absolute;top:0'>lower</p>\
        <p style='position:absolute;top:4px;color:%23999'>upper</p>\
        <p style='position:absolute;top:90px;left:0;width:3000px'>wide <b style='float:right'>right</b></p>\
        <p style='position:absolute;top:150px;width:20px;overflow:hidden;white-space:nowrap'>a long text</p>\
        <svg style='position:absolute;top:200px' width='50' height='50'><text x='40' y='20'>leaves</text>\
        <path class='line' stroke='%23eee' d='M0 0L9 9'/></svg>";
    let browser = Browser::open(&format!("data:text/html,<!doctype html>{page}"));
    assert_eq!(browser.check("overlaps"), json!(["\"lower\" lies on \"upper\""]));
    let outside = browser.check("outside").to_string();
    for problem in
        ["the page is 3000 wide", "right\\\" leaves the page", "text\\\" is cut off", "leaves\\\" leaves its picture"]
    {
        assert!(outside.contains(problem), "{problem}: {outside}");
    }
    let found = browser.check("contrasts");
    let contrasts = found["problems"].to_string();
    assert!(contrasts.contains("upper\\\" has a contrast of 2.85"), "{found}");
    assert!(contrasts.contains("the line line has a contrast of 1.1"), "{found}");
    assert_eq!(found["problems"].as_array().unwrap().len(), 2, "{found}");
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn no_text_is_cut_off_or_lies_on_another_on_any_screen() {
    let playground = Playground::open();
    let browser = &playground.browser;
    // The widest texts: large numbers, an outage, an answer.
    playground.set(&json!({ "offered": 2000, "limit": 2000, "window": 10, "factor": 1.1, "pattern": "spike" }));
    (0..6).for_each(|_| browser.click("#send"));
    wait_until("an answer", || browser.value("!document.getElementById('answer').hidden") == true);
    playground.wait_for_number("#absolute-most", |most| most == 2_000.0);
    let screens = |what: &str| {
        for (width, height) in [(360, 740), (412, 915), (768, 1024), (1152, 800), (1280, 900), (1920, 1080)] {
            browser.resize(width, height);
            browser.settle();
            for check in ["overlaps", "outside"] {
                assert_eq!(browser.check(check), json!([]), "{what} at {width} x {height}");
            }
        }
    };
    screens("Redis runs");
    browser.click("#redis-switch");
    browser.wait_for_text("#pair-hybrid [data-cell=\"by-0\"]", |text| text == "its share");
    screens("Redis is stopped");
    playground.set(&json!({ "factor": 1.0 }));
    browser.wait_for_text("#factor-band", |text| text == "2,000 to 2,000 units");
    screens("without a band");
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn text_and_lines_have_enough_contrast_in_light_and_dark() {
    let playground = Playground::open();
    let browser = &playground.browser;
    browser.click("#paused");
    browser.click("#send");
    browser.click("#redis-switch");
    browser.wait_for_text("#redis-state", |text| text == "Redis is stopped");
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        let found = browser.check("contrasts");
        assert_eq!(found["problems"], json!([]), "{scheme}");
        assert!(found["least"].as_f64().unwrap() >= 4.5, "{found}");
        grounds.push(found["ground"][0].as_f64().unwrap());
    }
    assert!(grounds[0] > 200.0 && grounds[1] < 50.0, "{grounds:?}");
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_keyboard_reaches_each_control_in_the_order_of_the_page() {
    let playground = Playground::open();
    let browser = &playground.browser;
    let mut reached = Vec::new();
    for _ in 0..12 {
        browser.press(&[key::TAB]);
        let focused = browser.run(
            "const element = document.activeElement; const style = getComputedStyle(element);
             const frame = element.getBoundingClientRect();
             return { name: element.id || element.name || element.className, outline: parseFloat(style.outlineWidth),
                 style: style.outlineStyle, seen: frame.top >= 0 && frame.bottom <= innerHeight }",
            &json!([]),
        );
        assert!(focused["outline"].as_f64().unwrap() >= 2.0 && focused["style"] != "none", "{focused}");
        let name = focused["name"].as_str().unwrap().to_owned();
        wait_until(&name, || {
            let seen = "(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(document.activeElement.getBoundingClientRect())";
            browser.value(seen) == true
        });
        match name.as_str() {
            "offered" | "limit" | "window" | "factor" | "split" => {
                let out = format!("#{name}-out");
                let before = browser.text(&out);
                browser.press(&[key::RIGHT]);
                assert_ne!(browser.text(&out), before, "{name}");
            }
            "pattern" | "outage" => browser.press(&[key::RIGHT]),
            "paused" | "freeze" | "send" => browser.press(&[key::SPACE]),
            _ => {}
        }
        reached.push(name);
    }
    assert_eq!(
        reached,
        [
            "skip",
            "offered",
            "pattern",
            "limit",
            "window",
            "factor",
            "paused",
            "freeze",
            "redis-switch",
            "split",
            "outage",
            "send"
        ]
    );
    for (id, is_pressed) in [("paused", "true"), ("freeze", "true")] {
        assert_eq!(browser.value(&format!("document.getElementById('{id}').getAttribute('aria-pressed')")), is_pressed);
    }
    let chosen = |name: &str| browser.value(&format!("document.querySelector('input[name={name}]:checked').value"));
    assert_eq!((chosen("pattern"), chosen("outage")), (json!("bursts"), json!("reject")));
    // The end of a slider is one key away.
    playground.focus("window");
    browser.press(&[key::END]);
    assert_eq!(browser.text("#window-out"), "10 s");
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn plots_move_rarely_for_readers_who_prefer_less_motion() {
    let playground = Playground::open();
    let browser = &playground.browser;
    browser.prefer("prefers-reduced-motion", "reduce");
    let watch = "window.moves = [];
        new MutationObserver(() => moves.push(performance.now()))
            .observe(document.getElementById('absolute-slices'), { childList: true })";
    browser.run(watch, &json!([]));
    wait_until("the plot moves four times", || browser.value("moves.length >= 4") == true);
    let moves: Vec<f64> = serde_json::from_value(browser.value("moves")).unwrap();
    assert!(moves.windows(2).all(|pair| pair[1] - pair[0] > 1_500.0), "{moves:?}");
}
