//! The page with plots.

use super::{TempFile, json, replay};

/// How often a text occurs.
fn occurrences(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[test]
fn a_page_has_plots_with_labels_and_the_numbers_of_the_text() {
    let page = TempFile::new("plots.html", b"");
    let log: String = (0..2_000_u64)
        .map(|at| json(1_700_000_000_000 + at * 30, &format!("10.0.0.{}", at % 20 * (at % 3)), "GET", "/"))
        .collect();
    let run = replay(
        &["--limit", "20/min", "--limit", "30/min per global", "--target", "5%", "--html", page.path()],
        log.as_bytes(),
    );
    let html = std::fs::read_to_string(page.path()).unwrap();
    // One for wide and one for narrow screens. The second limit has one key, so its distribution has no plot.
    for (plot, policies) in [("Requests over time", 2), ("Refusals of each key", 1), ("Refused share by limit", 2)] {
        assert_eq!(occurrences(&html, &format!("aria-label=\"{plot}\"")), 2 * policies, "{plot}");
    }
    for (label, policies) in [
        ("requests per second", 2),
        ("time (UTC)", 2),
        ("refused requests of the key", 1),
        ("keys with a refusal, ordered by their refusals (rank)", 1),
        ("refused share of all requests", 2),
        ("limit, in requests per min", 2),
    ] {
        assert_eq!(occurrences(&html, &format!(">{label}</text>")), 2 * policies, "{label}");
    }
    for legend in ["offered", "admitted", "refused", "target 5 %: "] {
        assert!(html.contains(&format!("</i>{legend}")), "{legend}");
    }
    for line in run.out.lines().filter(|line| line.contains("The smallest limit that refuses at most 5 %")) {
        assert!(html.contains(line.trim()), "{line}");
    }
    for (requests, refused) in run.policies() {
        assert!(refused > 0 && html.contains(&format!("<td>{}</td>", with_comma(refused))), "{requests} {refused}");
    }
}

fn with_comma(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

#[test]
fn a_log_without_refusals_has_a_page_too() {
    let page = TempFile::new("empty.html", b"");
    let log = json(1_700_000_000_000, "10.0.0.1", "GET", "/");
    let run = replay(&["--limit", "1/s", "--target", "0%", "--html", page.path()], log.as_bytes());
    assert!(run.out.contains("No request is refused\n") && run.out.contains("at most 0 % is 1/s, "), "{}", run.out);
    let html = std::fs::read_to_string(page.path()).unwrap();
    assert!(html.contains("0 of 1 requests are refused (0 %), of 0 of 1 keys."));
    assert!(!html.contains("NaN") && !html.contains("inf"));
}
