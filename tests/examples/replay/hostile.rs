//! Lines that clients wrote to attack the reader of a report.

use super::{TempFile, replay};

/// Tags, quotes, entities, orders to a terminal, invisible and right-to-left characters, and bytes that are not UTF-8.
const HOSTILE: &[&[u8]] = &[
    b"/<script>alert(1)</script>",
    b"/\"onmouseover='alert(1)'",
    b"/</title></style></svg><img/src=x/onerror=alert(1)>",
    b"/&lt;b&gt;&amp;",
    b"/\x1b[31m\x1b]0;title\x07\x1b[2J",
    b"/\xc2\x9b31m",
    b"/\xe2\x80\xae\xe2\x80\x8b\xef\xbb\xbf",
    b"/\xff\xfe\x00\x80",
    b"/]]><!--",
    b"{{constructor}}",
];

fn log() -> Vec<u8> {
    let mut log = Vec::new();
    for (at, path) in HOSTILE.iter().enumerate() {
        for _ in 0..at + 2 {
            log.extend_from_slice(b"10.0.0.1 - <b>\x1b[1m [10/Oct/2000:13:55:36 -0700] \"GET ");
            log.extend_from_slice(path);
            log.extend_from_slice(b" HTTP/1.0\" 200 1 \"-\" \"<i>\"\n");
        }
        log.extend_from_slice(path);
        log.push(b'\n');
    }
    // A user cannot forge the time, and a line without an end does not fill the memory.
    log.extend_from_slice(b"10.0.0.1 - x [10/Oct/2030:13:55:36 -0700] [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1 \"-\" \"-\"\n");
    log.extend(std::iter::repeat_n(b'a', 20 << 20));
    log
}

#[test]
fn hostile_lines_are_harmless_in_the_terminal() {
    let run = replay(&["--limit", "1/min per path", "--top", "99"], &log());
    let is_harmless = |char: char| char == '\n' || !(char.is_control() || "\u{202e}\u{200b}\u{feff}".contains(char));
    assert!(run.out.chars().all(is_harmless), "{}", run.out);
    // Servers escape quotes, so the line with a quote in its path is bad. The path of the last line is `/`.
    assert_eq!(run.keys(0).len(), HOSTILE.len() - 1);
    assert!(run.out.contains(r"/\u{1b}[31m\u{1b}]0;title\u{7}\u{1b}[2J"), "{}", run.out);
    assert!(run.out.contains("Time: 2000-10-10 20:55:36 to 2000-10-10 20:55:36 UTC"), "{}", run.out);
}

#[test]
fn hostile_lines_are_harmless_in_a_page() {
    let (page, log) = (TempFile::new("page.html", b""), TempFile::new("a&b.log", &log()));
    let arguments = ["--html", page.path(), "--top", "99", "--target", "1%", log.path()];
    let limits = [
        "--limit",
        "1/min per path",
        "--limit",
        "1/min per user + agent",
        "--field",
        "user",
        "--field",
        "agent=user-agent",
    ];
    replay(&[&arguments[..], &limits].concat(), b"");
    let html = std::fs::read_to_string(page.path()).unwrap();
    assert!(html.chars().all(|char| char == '\n' || !char.is_control()));
    assert!(html.contains("/&lt;script&gt;alert(1)&lt;/script&gt;"), "the path is shown");
    assert!(html.contains("/&amp;lt;b&amp;gt;&amp;amp;"), "and is not read as an entity");
    let tags = known_tags(html.split_once("<body>").unwrap().1.split_once("</body>").unwrap().0);
    assert!(tags > 500, "{tags} tags");
    // Nothing comes from a network, and no style or script is in an attribute.
    assert!(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\""));
    for wrong in ["<script", "@import", "url("] {
        assert!(!html.contains(wrong), "{wrong}");
    }
}

/// Checks that each tag is one that the report writes, with known attributes, and that each one is closed.
fn known_tags(html: &str) -> usize {
    const ATTRIBUTES: &str = " class viewBox role aria-label x y x1 x2 y1 y2 \
                              text-anchor points cx cy r width height ";
    let mut open: Vec<&str> = Vec::new();
    let mut count = 0;
    for rest in html.split('<').skip(1) {
        let (tag, text) = rest.split_once('>').expect("each tag has an end");
        assert!(!text.contains('>'), "{rest}");
        count += 1;
        let mut parts = tag.trim_end_matches('/').split('"');
        let head = parts.next().unwrap();
        let (name, mut attribute) = head.split_once(' ').unwrap_or((head, ""));
        while !attribute.trim().is_empty() {
            let known =
                attribute.trim().strip_suffix('=').is_some_and(|name| ATTRIBUTES.contains(&format!(" {name} ")));
            assert!(known, "{tag}");
            parts.next().expect("an attribute has a value");
            attribute = parts.next().unwrap_or_default();
        }
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    count
}
