//! Arguments that make no sense.

use super::{TempFile, replay, run};

#[test]
fn wrong_arguments_end_with_code_2_and_a_reason() {
    let policy = TempFile::new("wrong.toml", b"[[limits]]\nquotas = 'often'\n");
    let unknown = TempFile::new("unknown.toml", b"[[limits]]\nquota = '1/s'\n");
    for (arguments, reason) in [
        (&[][..], "nothing to replay is given; write --limit \"100/min\" or --policy FILE"),
        (&["--limit", "often"], "--limit \"often\": \"often\" is not a quota; write a count above 0 and a period"),
        (&["--limit", "0/s"], "\"0/s\" is not a quota"),
        (&["--limit", "1/s;"], "\"\" is not a quota"),
        (&["--limit", "unlimited"], "\"unlimited\" is not a quota"),
        (&["--limit", "10/31d"], "a window of 31 days is too long; write --rate-group-ms 160"),
        (&["--limit", "1/s suppressed 0.5"], "a hard limit factor of 0.5 is not possible"),
        (&["--limit", "1/s suppressed much"], "invalid float literal"),
        (&["--limit", "1/s", "--suppressed", "-1"], "unexpected argument '-1'"),
        (&["--limit", "1/s", "--suppressed=nan"], "a hard limit factor of NaN is not possible"),
        (&["--limit", "1/s", "--per", "nobody"], "\"nobody\" is no key; write client, method, path, global"),
        (&["--limit", "1/s", "--per", "client+"], "\"\" is no key"),
        (&["--limit", "1/s per someone"], "\"someone\" is no key"),
        (&["--limit", "1/s", "--target", "100%"], "write a percentage from 0% to below 100%"),
        (&["--limit", "1/s", "--target", "few"], "write a percentage from 0% to below 100%"),
        (&["--limit", "1/s", "--format", "iis"], "invalid value 'iis' for '--format <FORMAT>'"),
        (&["--limit", "1/s", "--field", "=x"], "\"=x\" is no field; write NAME=PLACE"),
        (&["--limit", "1/s", "--field", "time=a", "--field", "time=b"], "the field time is given twice"),
        (&["--limit", "1/s", "--field", "a=a", "--field", "a=b"], "the field a is given twice"),
        (&["--limit", "1/s", "--field", "global=a"], "a field cannot have the name global"),
        (&["--limit", "1/s", "--from", "noon"], "write a time such as 2026-01-31T12:00:00Z"),
        (
            &["--limit", "1/s", "--from", "2001-01-01T00:00:00Z", "--to", "2000-01-01T00:00:00Z"],
            "no request is between",
        ),
        (&["--limit", "1/s", "--max-keys", "0"], "invalid value '0' for '--max-keys <N>'"),
        (&["--limit", "1/s", "--rate-group-ms", "0"], "invalid value '0' for '--rate-group-ms <MS>'"),
        (
            &["--limit", "1/s", "--rate-group-ms", "2000"],
            "the window of 1000 ms is too short; write --rate-group-ms 1000 or less",
        ),
        (&["--limit", "1/s", "--top", "0"], "invalid value '0' for '--top <N>'"),
        (&["--limit", "1/s", "-", "-"], "standard input is given twice"),
        (&["--limit", "1/s", "--fast"], "unexpected argument '--fast'"),
        (&["--policy", "/nowhere.toml"], "cannot read /nowhere.toml"),
        (&["--policy", policy.path()], "\"often\" is not a quota"),
        (&["--policy", unknown.path()], "unknown field `quota`"),
        (&["--policy", policy.path(), "--field", "a b=c"], "--field a b: a policy reads fields as headers"),
    ] {
        let run = run(arguments, b"");
        assert!(run.code == Some(2) && run.errors.contains(reason), "{arguments:?}: {run:?}");
        assert!(run.out.is_empty(), "{arguments:?}: {run:?}");
    }
}

#[test]
fn problems_of_a_log_end_with_code_1() {
    let line = br#"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1"#;
    for (arguments, reason) in [
        (&["/nowhere.log"][..], "cannot read /nowhere.log: No such file"),
        (
            &["--format", "common", "--field", "agent=user-agent"],
            "the format common has no field \"user-agent\"; it has",
        ),
        (&["--format", "common", "--field", "time=when"], "the time of the format common has a fixed place"),
        (&["--html", "/nowhere/report.html"], "cannot write /nowhere/report.html"),
    ] {
        let run = run(&[&["--limit", "1/s"], arguments].concat(), line);
        assert!(run.code == Some(1) && run.errors.contains(reason), "{arguments:?}: {run:?}");
    }
    assert!(replay(&["--help"], b"").out.contains("What would this rate limit have done to my traffic?"));
}
