//! A line of each format, as servers write it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{TempFile, replay, run};

struct Sample {
    format: &'static str,
    line: &'static str,
    /// The client, method and path.
    request: [&'static str; 3],
    /// In UTC.
    time: &'static str,
}

const SAMPLES: [Sample; 12] = [
    // The documentation of Apache.
    Sample {
        format: "common",
        line: r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#,
        request: ["127.0.0.1", "GET", "/apache_pb.gif"],
        time: "2000-10-10 20:55:36",
    },
    Sample {
        format: "combined",
        line: r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)""#,
        request: ["127.0.0.1", "GET", "/apache_pb.gif"],
        time: "2000-10-10 20:55:36",
    },
    // The format `vhost_combined` of Debian.
    Sample {
        format: "combined",
        line: r#"example.org:443 2001:db8:1:2:3:4:5:6 - - [29/Feb/2024:23:59:59 +0530] "POST /login?next=%2F HTTP/2.0" 401 45 "-" "-""#,
        request: ["2001:db8:1:2::/64", "POST", "/login"],
        time: "2024-02-29 18:29:59",
    },
    // The format `main` of nginx, a user with blanks, brackets and an escaped quote.
    Sample {
        format: "combined",
        line: r#"192.0.2.1 - a [b] c\x22 [01/Jan/1970:00:00:00 +0000] "GET /\x22 HTTP/1.1" 200 5 "-" "a \" b" "198.51.100.7""#,
        request: ["192.0.2.1", "GET", r"/\x22"],
        time: "1970-01-01 00:00:00",
    },
    // The documentation of Caddy.
    Sample {
        format: "json",
        line: r#"{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"127.0.0.1","remote_port":"41342","client_ip":"192.0.2.44","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/a?b","headers":{"User-Agent":["curl/7.82.0"],"Accept":["*/*"]},"tls":{"resumed":false,"version":772}},"bytes_read":0,"user_id":"","duration":0.000929675,"size":10900,"status":200,"resp_headers":{"Server":["Caddy"]}}"#,
        request: ["192.0.2.44", "GET", "/a"],
        time: "2022-03-09 21:30:01",
    },
    // nginx with `escape=json`.
    Sample {
        format: "json",
        line: r#"{"time_local":"23/Apr/2021:19:51:35 +0000","remote_addr":"192.0.2.7","request":"GET /a\"b HTTP/1.1","status":"200","http_referrer":""}"#,
        request: ["192.0.2.7", "GET", "/a\"b"],
        time: "2021-04-23 19:51:35",
    },
    Sample {
        format: "json",
        line: r#"{"msec":"1619207495.250","remote_addr":"192.0.2.7","request_method":"PUT","request_uri":"/a","status":200}"#,
        request: ["192.0.2.7", "PUT", "/a"],
        time: "2021-04-23 19:51:35",
    },
    // Envoy and Istio.
    Sample {
        format: "json",
        line: r#"{"start_time":"2020-11-25T21:26:18.409Z","method":"GET","path":"/status/418","protocol":"HTTP/1.1","response_code":418,"downstream_remote_address":"10.44.1.23:37652","x_forwarded_for":null}"#,
        request: ["10.44.1.23", "GET", "/status/418"],
        time: "2020-11-25 21:26:18",
    },
    Sample {
        format: "envoy",
        line: r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "203.0.113.1, 10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80""#,
        request: ["10.0.35.28", "POST", "/api/v1/locations"],
        time: "2016-04-15 20:17:00",
    },
    Sample {
        format: "envoy",
        line: r#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 4 "-" "curl/7.73.0-DEV" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000_._.httpbin.foo.svc.cluster.local default"#,
        request: ["10.44.1.23", "GET", "/status/418"],
        time: "2020-11-25 21:26:18",
    },
    // The documentation of AWS. The second time is that of the request.
    Sample {
        format: "alb",
        line: r#"https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/a?b=c HTTP/1.1" "curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "Root=1-58337281-1d84f3d73c47ec4e58577259" "www.example.com" "arn:aws:acm:us-east-2:123456789012:certificate/12345678-1234-1234-1234-123456789012" 1 2018-07-02T22:22:48.364000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_123456"#,
        request: ["192.168.131.39", "GET", "/a"],
        time: "2018-07-02 22:22:48",
    },
    Sample {
        format: "alb",
        line: r#"h2 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 [2001:db8::1]:41324 - -1 -1 -1 502 - 0 57 "GET http://www.example.com:80 HTTP/2.0" "-" - - arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "Root=1-58337281-1d84f3d73c47ec4e58577259" "-" "-" 0 - "forward" "-" "-" "-" "-" "-" "-""#,
        request: ["2001:db8::/64", "GET", "/"],
        time: "2018-07-02 22:23:00",
    },
];

#[test]
fn each_format_is_detected_and_read() {
    for Sample { format, line, request, time } in SAMPLES {
        let log = format!("{line}\n{line}\r\n\n{line}");
        let detected = replay(&["--limit", "1/h", "--per", "client + method + path"], log.as_bytes());
        let forced = replay(&["--limit", "1/h", "--per", "client + method + path", "--format", format], log.as_bytes());
        assert_eq!(detected.out, forced.out);
        assert!(detected.out.contains(&format!("Lines: 4 ({format}), requests: 3\n")), "{}", detected.out);
        assert!(detected.out.contains(&format!("Time: {time} to {time} UTC")), "{}", detected.out);
        assert_eq!(detected.keys(0), [(request.join(" + ").as_str(), 3, 2)]);
    }
}

#[test]
fn fields_have_other_places() {
    let log = r#"{"when":"2024-05-06 07:08:09,5","who":{"ip":["10.0.0.1","10.0.0.2"]},"org":"acme","verb":"GET","to":"/x","is":"200"}"#;
    let log = format!("{log}\n{log}\n{}", log.replace("acme", "other"));
    let fields = ["time=when", "client=who.ip", "method=verb", "path=to", "status=is", "tenant=org"];
    let mut arguments = vec!["--limit", "1/h", "--per", "tenant+client+method+path"];
    arguments.extend(fields.iter().flat_map(|field| ["--field", field]));
    let run = replay(&arguments, log.as_bytes());
    assert_eq!(run.keys(0), [("acme + 10.0.0.1 + GET + /x", 2, 1)]);
    assert!(run.out.contains("by the status in the log: 2xx 1\n"), "{}", run.out);

    let combined =
        r#"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1 "-" "curl/8" "192.0.2.1, 192.0.2.2""#;
    let log = format!("{combined}\n{combined}\n");
    let forwarded = ["--limit", "1/h", "--per", "client + user-agent", "--field", "client=x-forwarded-for"];
    let run = replay(&[&forwarded[..], &["--field", "user-agent"]].concat(), log.as_bytes());
    assert_eq!(run.keys(0), [("192.0.2.2 + curl/8", 2, 1)]);
}

#[test]
fn compressed_files_are_read_like_plain_ones() {
    let lines: Vec<String> = (0..5_000_u64)
        .map(|at| super::json(1_700_000_000_000 + at * 7, &format!("10.0.0.{}", at % 9), "GET", "/"))
        .collect();
    let whole = lines.concat();
    // As `cat a.gz b.gz` writes it.
    let mut compressed = Vec::new();
    for part in lines.chunks(3_000) {
        let mut encoder = GzEncoder::new(&mut compressed, Compression::fast());
        encoder.write_all(part.concat().as_bytes()).unwrap();
        encoder.finish().unwrap();
    }
    let (plain, packed) = (TempFile::new("plain", whole.as_bytes()), TempFile::new("packed", &compressed));
    let runs = [
        replay(&["--limit", "10/s", plain.path()], b""),
        replay(&["--limit", "10/s", packed.path()], b""),
        replay(&["--limit", "10/s", "-"], whole.as_bytes()),
        replay(&["--limit", "10/s"], &compressed),
    ];
    let body = |out: &str| out.split_once('\n').unwrap().1.to_owned();
    assert!(runs[0].policies()[0].1 > 0, "the test is not vacuous");
    for run in &runs {
        assert_eq!(body(&run.out), body(&runs[0].out));
    }
    let cut = run(&["--limit", "10/s"], &compressed[..compressed.len() / 2]);
    assert!(cut.code == Some(1) && cut.errors.contains("cannot read -: "), "{cut:?}");
}

#[test]
fn bad_lines_are_counted_and_shown() {
    let good = super::json(1_700_000_000_123, "10.0.0.1", "GET", "/");
    let log = format!("{good}no JSON\n{good}{{\"time\":\"yesterday\"}}\n{{\"client\":1}}\n{good}{}", "bad\n".repeat(9));
    let run = replay(&["--limit", "1/h"], log.as_bytes());
    assert_eq!(run.policies(), [(3, 2)]);
    assert!(run.out.contains("Lines that are not readable, and left out: 12\n"), "{}", run.out);
    for shown in [
        "-:2: no JSON object: no JSON\n",
        "-:4: the time is not readable: {\"time\":\"yesterday\"}\n",
        "-:5: no time; name its field with --field time=..: {\"client\":1}\n",
        "-:7: no JSON object: bad\n",
        "-:8: no JSON object: bad\n",
    ] {
        assert!(run.out.contains(shown), "{}", run.out);
    }
    assert!(!run.out.contains("-:9:"), "{}", run.out);

    // The number of a line is that in its file, also beyond the first block.
    let long = format!("{}bad\n", good.repeat(30_000));
    let (first, second) = (TempFile::new("first", good.as_bytes()), TempFile::new("second", long.as_bytes()));
    let run = replay(&["--limit", "1/h", first.path(), second.path()], b"");
    assert!(run.out.contains(&format!("{}:30001: no JSON object: bad\n", second.path())), "{}", run.out);
}

#[test]
fn a_log_without_requests_is_an_error() {
    for (arguments, log, error) in [
        (&[][..], "", "the log has no requests to replay"),
        (&[], "what\nis this\n", "cannot detect the format: no line has one of the known formats; write --format"),
        (&[], "{\"a\":1}\n", "cannot detect the format: no time; name its field with --field time=.."),
        (&["--format", "alb"], "what\n", "the log has no requests to replay; line 1: no time"),
        (&["--to", "2000-01-01T00:00:00Z"], "{\"time\":1700000000}\n", "the log has no requests to replay"),
    ] {
        let run = run(&[&["--limit", "1/h"], arguments].concat(), log.as_bytes());
        assert!(run.code == Some(1) && run.errors.contains(error), "{log:?}: {run:?}");
    }
}
