//! The page of the playground as a screen reader gets it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::playground::Playground;
use crate::support::servers::wait_until;

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn each_control_and_each_plot_has_a_name() {
    let playground = Playground::open();
    wait_until("all plots have a text", || {
        playground
            .browser
            .value("[...document.querySelectorAll('svg.plot')].every((svg) => svg.getAttribute('aria-label'))")
            == true
    });
    let tree = playground.browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != true) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        roles.entry(role).or_default().push(node["name"]["value"].as_str().unwrap_or_default());
    }
    let expected = [
        ("slider", 5),
        ("radio", 6),
        ("button", 4),
        ("image", 11),
        ("heading", 13),
        ("main", 1),
        ("complementary", 1),
        ("banner", 1),
        ("contentinfo", 1),
        ("figure", 7),
        ("table", 2),
        ("status", 6),
    ];
    for (role, count) in expected {
        let names = roles.get(role).cloned().unwrap_or_default();
        assert_eq!(names.len(), count, "{role}: {names:?}");
        if ["slider", "radio", "button", "image", "heading", "figure", "complementary"].contains(&role) {
            assert!(names.iter().all(|name| !name.is_empty()), "{role}: {names:?}");
        }
    }
    let unnamed = ["checkbox", "textbox", "link", "combobox", "spinbutton"].map(|role| roles.get(role).cloned());
    for names in unnamed.into_iter().flatten() {
        assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
    }
}

/// A region that speaks several times a second makes a page unusable.
#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn figures_that_move_are_not_spoken() {
    let playground = Playground::open();
    let watch = "window.spoken = []; window.moved = 0;
        const live = document.querySelectorAll('[aria-live], [role=status], [role=alert], output');
        for (const region of live) {
            new MutationObserver(() => { spoken.push(region.outerHTML); }).observe(region, { subtree: true, childList: true, characterData: true });
        }
        new MutationObserver(() => { moved += 1; }).observe(document.querySelector('main'), { subtree: true, childList: true });
        return live.length";
    assert!(playground.browser.run(watch, &json!([])).as_u64().unwrap() >= 6);
    wait_until("the figures move often", || playground.browser.value("moved > 100") == true);
    assert_eq!(playground.browser.value("spoken"), json!([]));
}
