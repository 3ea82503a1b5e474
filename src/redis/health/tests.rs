use super::*;

fn cause(line: Option<Line>) -> String {
    match line {
        Some(Line::Lost(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// A server that stops briefly again and again: ten outages a second, for a minute.
#[test]
fn a_flapping_redis_has_one_pair_of_lines_in_ten_seconds() {
    let (mut lines, start) = (Lines::default(), Instant::now());
    let mut written = Vec::new();
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100) * tenth;
        written.push(lines.on_open(&Failure::unavailable(), now));
        written.extend(lines.on_close(now + Duration::from_millis(50)));
    }
    let written: Vec<Line> = written.into_iter().flatten().collect();
    assert_eq!(written.len(), 12, "{written:?}");
    for pair in written.chunks(2) {
        assert!(matches!(pair[0], Line::Lost(_)) && pair[1] == Line::Back, "{pair:?}");
    }
    assert!(matches!(&written[0], Line::Lost(text) if !text.contains("more")), "{written:?}");
    assert!(matches!(&written[2], Line::Lost(text) if text.contains("99 more short outages")), "{written:?}");
}

/// Rate limiting of the log must not hide an outage that lasts.
#[test]
fn a_long_outage_gets_its_line_eventually() {
    let (mut lines, start) = (Lines::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(lines.on_open(&Failure::unavailable(), start).is_some());
    assert_eq!(lines.on_close(at(1)), [None, Some(Line::Back)]);
    assert_eq!(lines.on_open(&Failure::unavailable(), at(2)), None);
    assert_eq!(lines.goes_on(&Failure::unavailable(), at(9)), None);
    cause(lines.goes_on(&Failure::unavailable(), at(10)));
    assert_eq!(lines.goes_on(&Failure::unavailable(), at(25)), None);
    assert_eq!(lines.on_close(at(30)), [None, Some(Line::Back)]);
}

#[test]
fn the_line_waits_for_a_cause_that_is_not_known_at_once() {
    let (mut lines, start) = (Lines::default(), Instant::now());
    assert_eq!(lines.on_open(&Failure::timeout(), start), None);
    assert!(lines.seek() && !lines.seek(), "one looks for it");
    assert_eq!(lines.goes_on(&Failure::timeout(), start), None);
    assert!(cause(lines.found(&Failure::crowded(), start)).contains("too many requests"));
    lines.on_close(start);
    // The search found no cause, so the log reports the known failure.
    let later = start + PAUSE;
    assert_eq!(lines.on_open(&Failure::timeout(), later), None);
    let [lost, back] = lines.on_close(later);
    assert!(cause(lost).contains("in time") && back == Some(Line::Back));
}

#[cfg(feature = "metrics")]
mod figures {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::super::*;

    #[test]
    fn failures_are_counted_by_kind_and_an_outage_is_gauged() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let values = || {
            let values = snapshotter.snapshot().into_vec().into_iter();
            let mut values: Vec<_> = values
                .map(|(key, _, _, value)| {
                    let labels = key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
                    (key.key().name().to_owned(), labels.collect::<String>(), value)
                })
                .collect();
            values.sort_by(|a, b| a.0.cmp(&b.0));
            values
        };
        let outage = HealthLog::default();
        metrics::with_local_recorder(&recorder, || {
            count_failure(&Failure::timeout());
            count_failure(&Failure::timeout());
            outage.on_open(&Failure::timeout());
        });
        let gauge =
            |open: f64| ("rate_limit.store.open_breakers".to_owned(), String::new(), DebugValue::Gauge(open.into()));
        let failures =
            ("rate_limit.store.failures".to_owned(), "error.type=timeout".to_owned(), DebugValue::Counter(2));
        assert_eq!(values(), [failures, gauge(1.0)]);
        metrics::with_local_recorder(&recorder, || outage.on_close());
        // A snapshot of this recorder resets it to zero.
        assert_eq!(values().last(), Some(&gauge(-1.0)));
        // A limiter is dropped during an outage.
        metrics::with_local_recorder(&recorder, || {
            outage.on_open(&Failure::timeout());
            outage.on_open(&Failure::timeout());
        });
        assert_eq!(values().last(), Some(&gauge(2.0)));
        metrics::with_local_recorder(&recorder, || drop(outage));
        assert_eq!(values().last(), Some(&gauge(-2.0)));
    }
}
