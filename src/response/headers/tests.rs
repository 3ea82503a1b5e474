//! A parser of structured fields from another crate reads every field that is sent.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use sfv::{BareItem, Dictionary, Item, List, ListEntry, Parser};

use super::merge::epoch;
use super::{Fields, RateLimitHeaders, ResetFormat, check_name};
use crate::decision::{Decision, Verdict};
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::strategy::Strategy;

const X_DELTA: RateLimitHeaders = RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds };

fn fields(format: RateLimitHeaders, name: &str, quotas: &[&str]) -> Fields {
    let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    Fields::new(format, &[], &Policy::new(name, quotas, Strategy::Absolute)).unwrap().unwrap()
}

fn fields_of(
    first: RateLimitHeaders,
    others: &[RateLimitHeaders],
    quotas: &[Quota],
) -> Result<Option<Fields>, ConfigError> {
    Fields::new(first, others, &Policy::new("a", quotas, Strategy::Absolute))
}

fn send(fields: &Fields, decision: Decision, headers: &mut HeaderMap) {
    let wait = decision.retry_after().filter(|wait| !wait.is_zero());
    match decision.is_allowed() {
        true => fields.admitted(decision.limit_index(), decision.remaining(), wait, headers),
        false => fields.refused(&decision, wait, headers),
    }
}

/// All lines, in the order of their names.
fn sent(fields: &Fields, decision: Decision) -> Vec<String> {
    let mut headers = HeaderMap::new();
    send(fields, decision, &mut headers);
    lines(&headers)
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

fn rejected(limit: u64, used: u64, wait_ms: u64) -> Decision {
    Decision::rejected(limit, used, Some(Duration::from_millis(wait_ms)))
}

#[test]
fn each_generation_equals_its_draft() {
    let quotas = &["100/min"];
    for (format, want) in [
        (RateLimitHeaders::Draft8, &[r#"ratelimit-policy: "burst";q=100;w=60"#, r#"ratelimit: "burst";r=40;t=60"#][..]),
        (RateLimitHeaders::Draft7, &["ratelimit-policy: 100;w=60", "ratelimit: limit=100, remaining=40, reset=60"]),
        (
            RateLimitHeaders::Draft6,
            &["ratelimit-limit: 100", "ratelimit-policy: 100;w=60", "ratelimit-remaining: 40", "ratelimit-reset: 60"],
        ),
        (X_DELTA, &["x-ratelimit-limit: 100", "x-ratelimit-remaining: 40", "x-ratelimit-reset: 60"]),
    ] {
        assert_eq!(sent(&fields(format, "burst", quotas), Decision::allowed(100, 60)), want);
    }
    assert!(Fields::new(RateLimitHeaders::None, &[], &Policy::new("burst", [], Strategy::Absolute)).unwrap().is_none());
}

#[test]
fn the_reset_is_the_window_while_units_remain_and_then_the_wait() {
    let one = fields(RateLimitHeaders::Draft8, "a", &["10/min"]);
    let full = Decision { retry_after_ms: 59_001, ..Decision::allowed(10, 10) };
    let shed = Decision { verdict: Verdict::Suppressed { is_allowed: false }, ..rejected(10, 3, 700) };
    for (decision, want) in [
        (Decision::allowed(10, 1), "r=9;t=60"),
        (full, "r=0;t=60"),
        (rejected(10, 10, 1), "r=0;t=1"),
        (rejected(10, 10, 1_001), "r=0;t=2"),
        (shed, "r=0;t=1"),
        // No wait helps.
        (Decision::rejected(10, 10, None), "r=0"),
        (Decision::rejected(10, 3, None), "r=7;t=60"),
        (Decision::allowed(10, 10), "r=0;t=60"),
        // For costs above 1, the fields offer no more of the remaining units than the quota's own rate.
        (rejected(10, 7, 30_000), "r=3;t=30"),
        (rejected(10, 7, 6_000), "r=1;t=6"),
        // The figures of a custom store are limited to the quota.
        (Decision::allowed(1_000, 0), "r=10;t=60"),
        (Decision::allowed(10, 99), "r=0;t=60"),
        (Decision::allowed(10, 1).with_limit_index(7), "r=9;t=60"),
    ] {
        assert_eq!(sent(&one, decision)[1], format!("ratelimit: \"a\";{want}"), "{decision:?}");
    }
}

#[test]
fn a_quota_without_a_useful_wait_has_no_reset() {
    for (format, want) in [
        (RateLimitHeaders::Draft8, &[r#"ratelimit-policy: "a";q=0;w=1"#, r#"ratelimit: "a";r=0"#][..]),
        (RateLimitHeaders::Draft7, &["ratelimit-policy: 0;w=1", "ratelimit: limit=0, remaining=0"]),
        (RateLimitHeaders::Draft6, &["ratelimit-limit: 0", "ratelimit-policy: 0;w=1", "ratelimit-remaining: 0"]),
        (X_DELTA, &["x-ratelimit-limit: 0", "x-ratelimit-remaining: 0"]),
    ] {
        let fields = fields_of(format, &[], &[Quota::reject_all()]).unwrap().unwrap();
        assert_eq!(sent(&fields, Decision::rejected(0, 0, None)), want);
        // The figure of an inner limit with a reset is less strict, and is removed with its reset.
        let mut headers = HeaderMap::new();
        send(&self::fields(format, "b", &["5/s"]), Decision::allowed(5, 1), &mut headers);
        send(&fields, Decision::rejected(0, 0, None), &mut headers);
        if format == X_DELTA {
            assert_eq!(lines(&headers), want);
        }
    }
}

#[test]
fn a_draft_and_its_predecessor_are_sent_together() {
    let quotas: Vec<Quota> = vec!["100/min".parse().unwrap()];
    let both = fields_of(RateLimitHeaders::Draft8, &[X_DELTA, X_DELTA], &quotas).unwrap().unwrap();
    let lines = sent(&both, Decision::allowed(100, 60));
    assert_eq!(
        lines,
        [
            r#"ratelimit-policy: "a";q=100;w=60"#,
            r#"ratelimit: "a";r=40;t=60"#,
            "x-ratelimit-limit: 100",
            "x-ratelimit-remaining: 40",
            "x-ratelimit-reset: 60",
        ]
    );
    let epoch = RateLimitHeaders::XRateLimit { reset: ResetFormat::EpochSeconds };
    for (first, other) in [
        (RateLimitHeaders::Draft8, RateLimitHeaders::Draft7),
        (RateLimitHeaders::Draft6, RateLimitHeaders::Draft8),
        (X_DELTA, epoch),
    ] {
        assert_eq!(fields_of(first, &[other], &quotas).unwrap_err(), ConfigError::HeadersConflict);
    }
}

#[test]
fn several_quotas_have_distinct_names() {
    let quotas = &["10/s", "5000/h", "3/250ms"];
    let second = Decision::allowed(5_000, 1).with_limit_index(1);
    assert_eq!(
        sent(&fields(RateLimitHeaders::Draft8, "a", quotas), second),
        [r#"ratelimit-policy: "a";q=10;w=1, "a-2";q=5000;w=3600, "a-3";q=3;w=1"#, r#"ratelimit: "a-2";r=4999;t=3600"#],
    );
    // These drafts name quotas by count, so two quotas with equal counts would be indistinguishable.
    let alike = fields(RateLimitHeaders::Draft7, "a", &["10/s", "10/min", "10/min", "9/h"]);
    assert_eq!(sent(&alike, Decision::allowed(10, 1))[0], "ratelimit-policy: 10;w=60, 9;w=3600");
}

#[test]
fn numbers_stay_in_the_range_of_structured_fields() {
    let long = Quota::new(1, Duration::from_secs(1 << 53)).unwrap();
    let fields = fields_of(RateLimitHeaders::Draft8, &[], &[long]).unwrap().unwrap();
    let wait = Decision::rejected(1, 1, Some(Duration::from_secs(1 << 53)));
    assert_eq!(
        sent(&fields, wait),
        [r#"ratelimit-policy: "a";q=1;w=999999999999999"#, r#"ratelimit: "a";r=0;t=999999999999999"#]
    );
}

#[test]
fn list_fields_are_appended() {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit", r#""handler";r=1;t=1"#.parse().unwrap());
    for (name, quota) in [("inner", "5/s"), ("outer", "100/min")] {
        send(&fields(RateLimitHeaders::Draft8, name, &[quota]), Decision::allowed(5, 1), &mut headers);
    }
    assert_eq!(
        lines(&headers),
        [
            r#"ratelimit-policy: "inner";q=5;w=1"#,
            r#"ratelimit-policy: "outer";q=100;w=60"#,
            r#"ratelimit: "handler";r=1;t=1"#,
            r#"ratelimit: "inner";r=4;t=1"#,
            r#"ratelimit: "outer";r=4;t=60"#,
        ]
    );
}

#[test]
fn fields_for_one_limit_report_the_strictest() {
    for (format, name) in [
        (RateLimitHeaders::Draft7, "ratelimit"),
        (RateLimitHeaders::Draft6, "ratelimit-remaining"),
        (X_DELTA, "x-ratelimit-remaining"),
    ] {
        for (inner, outer, want) in [(5, 9, 5), (9, 5, 5), (0, 9, 0), (9, 0, 0)] {
            let mut headers = HeaderMap::new();
            for (name, left) in [("inner", inner), ("outer", outer)] {
                send(&fields(format, name, &["10/s"]), Decision::allowed(10, 10 - left), &mut headers);
            }
            let value = headers[name].to_str().unwrap();
            assert!(value == want.to_string() || value.contains(&format!("remaining={want},")), "{value}");
            assert_eq!(headers.get_all(name).iter().count(), 1);
        }
        // Of equal figures, the one with the longer reset is sent.
        for quotas in [["10/s", "10/min"], ["10/min", "10/s"]] {
            let mut headers = HeaderMap::new();
            for quota in quotas {
                send(&fields(format, "a", &[quota]), Decision::allowed(10, 9), &mut headers);
            }
            assert!(lines(&headers).iter().any(|line| line.ends_with("reset=60") || line.ends_with("reset: 60")));
        }
    }
}

#[test]
fn unreadable_fields_stay_unchanged() {
    for (format, lines_before) in [
        (RateLimitHeaders::Draft7, &[("ratelimit", "\"a\";r=5;t=1")][..]),
        (RateLimitHeaders::Draft7, &[("ratelimit", "limit=5, reset=1")]),
        (RateLimitHeaders::Draft6, &[("ratelimit-limit", "5")]),
        (X_DELTA, &[("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "4"), ("x-ratelimit-reset", "6m0s")]),
        (X_DELTA, &[("x-ratelimit-remaining", "many")]),
    ] {
        let mut headers = HeaderMap::new();
        headers.extend(
            lines_before.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())),
        );
        let mut before = lines(&headers);
        send(&fields(format, "a", &["1/s"]), Decision::allowed(1, 1), &mut headers);
        before.extend(headers.get("ratelimit-policy").map(|_| "ratelimit-policy: 1;w=1".to_owned()));
        before.sort();
        assert_eq!(lines(&headers), before);
    }
}

#[test]
fn an_epoch_is_never_early() {
    for (now_ms, seconds, want) in [(10_000, 5, 15), (10_001, 5, 16), (10_999, 1, 12)] {
        assert_eq!(epoch(UNIX_EPOCH + Duration::from_millis(now_ms), seconds), want);
    }
    assert_eq!(epoch(UNIX_EPOCH - Duration::from_secs(1), 5), 5);
}

#[test]
fn names_are_printable_ascii() {
    for name in ["", "default", "a \"b\" \\c ~"] {
        assert_eq!(check_name(name), Ok(()));
    }
    for name in ["a\n", "\0", "\u{7f}", "ö", &"é".repeat(10_000)] {
        let error = check_name(name).unwrap_err().to_string();
        assert!(error.contains("write") && error.len() < 500, "{error}");
    }
}

fn integer(item: &Item, key: &str) -> i64 {
    match item.params.get(key) {
        Some(BareItem::Integer(n)) => (*n).into(),
        other => panic!("{key} is {other:?}"),
    }
}

fn items(text: &str) -> Vec<(String, Item)> {
    let list: List = Parser::new(text).parse().unwrap();
    let item = |entry: ListEntry| match entry {
        ListEntry::Item(item) => item,
        ListEntry::InnerList(list) => panic!("{list:?}"),
    };
    let name = |item: Item| match &item.bare_item {
        BareItem::String(name) => (name.as_str().to_owned(), item),
        other => panic!("{other:?}"),
    };
    list.into_iter().map(item).map(name).collect()
}

proptest! {
    /// For every name, quota and decision, the fields parse, the names agree, and the rate never exceeds the quota's.
    #[test]
    fn every_field_reads_back(
        name in "[ -~]{0,20}",
        quotas in prop::collection::vec((1_u64..1 << 39, 1_u64..1 << 45), 1..8),
        used in 0..=1_u64 << 40,
        wait_ms in prop::option::of(1..1_u64 << 60),
        is_allowed: bool,
        index in 0..9_usize,
    ) {
        let quotas: Vec<Quota> =
            quotas.into_iter().map(|(n, ms)| Quota::new(n, Duration::from_millis(ms)).unwrap()).collect();
        let policy = Policy::new(name.as_str(), quotas.clone(), Strategy::Absolute);
        let limit = quotas.get(index).unwrap_or(&quotas[0]).count();
        let decision = match is_allowed {
            true => Decision::allowed(limit, used),
            false => Decision::rejected(limit, used, wait_ms.map(Duration::from_millis)),
        };
        let mut headers = HeaderMap::new();
        send(&Fields::new(RateLimitHeaders::Draft8, &[], &policy).unwrap().unwrap(), decision.with_limit_index(index), &mut headers);
        let policies = items(headers["ratelimit-policy"].to_str().unwrap());
        prop_assert_eq!(policies.len(), quotas.len());
        prop_assert_eq!(&policies[0].0, &name);
        let [(sent, item)] = &items(headers["ratelimit"].to_str().unwrap())[..] else { panic!("one member") };
        let (_, policy) = policies.iter().find(|(name, _)| name == sent).unwrap();
        let (r, q, w) = (integer(item, "r"), integer(policy, "q"), integer(policy, "w"));
        // Without a reset, nothing remains.
        let t = if item.params.contains_key("t") { integer(item, "t") } else { i64::from(r == 0) };
        prop_assert!((0..=q).contains(&r) && t >= 1 && w >= 1);
        prop_assert!(i128::from(r) * i128::from(w) <= i128::from(q) * i128::from(t), "r/t is above q/w");
        for (name, format) in [("ratelimit", RateLimitHeaders::Draft7), ("ratelimit-policy", RateLimitHeaders::Draft6)] {
            let policy = Policy::new("a", quotas.clone(), Strategy::Absolute);
            let mut headers = HeaderMap::new();
            send(&Fields::new(format, &[], &policy).unwrap().unwrap(), decision, &mut headers);
            let text = headers[name].to_str().unwrap();
            let is_read = match name {
                "ratelimit" => Parser::new(text).parse::<Dictionary>().is_ok_and(|it| it.len() == if headers[name].to_str().unwrap().contains("reset") { 3 } else { 2 }),
                _ => Parser::new(text).parse::<List>().is_ok_and(|it| !it.is_empty()),
            };
            prop_assert!(is_read, "{}", text);
        }
    }
}
