//! The plot of an outage: the two instances with the default policy, and all policies beside the peer.

use super::{LIMIT, Outage};
use crate::plot::{BLUE, GREEN, GREY, Guide, Line, Lines, ORANGE, PURPLE, Panel, RED, SKY, Shape, Span};

/// The step of time.
const STEP: f64 = 0.1;

pub fn draw(outages: &[Outage]) -> String {
    // The hybrid store, which stands first: LocalShare, Reject, Allow. Its peer is the first peer.
    let [share, reject, allow, ..] = outages else { return String::new() };
    let peer = outages.iter().find(|outage| outage.is_peer);
    let line = |outage: &Outage, instances: &[usize], name: &str, color, width| Line {
        name: name.into(),
        color,
        points: outage.admissions(instances).windows(1.0, STEP, outage.end),
        width,
        shape: Shape::Straight,
    };
    let instances = vec![
        line(share, &[0, 1], "both instances", BLUE, 3.0),
        line(share, &[0], "instance A", SKY, 1.5),
        line(share, &[1], "instance B", PURPLE, 1.5),
    ];
    let mut sums = vec![
        line(share, &[0, 1], "LocalShare (default)", BLUE, 3.0),
        line(allow, &[0, 1], "Allow", ORANGE, 1.5),
        line(reject, &[0, 1], "Reject", GREY, 1.5),
    ];
    if let Some(peer) = peer {
        sums.push(line(peer, &[0, 1], &peer.title(), GREEN, 1.5));
    }
    Lines {
        title: "Two instances that share a limit, through an outage of Redis",
        description: "While Redis is down, both instances together admit no more than the limit of 200 units in a \
                      second with the default policy, and twice as much with Allow. With Reject, they admit nothing \
                      once their leases have expired.",
        axis: ("time in seconds", share.end),
        panels: vec![
            panel("Hybrid store, default policy: each instance has its share of the limit", 1.5, share, instances),
            panel("Hybrid stores, both instances together, by policy", 2.2, share, sums),
        ],
    }
    .draw(620.0, 580.0)
}

fn panel<'a>(heading: &'a str, most: f64, outage: &Outage, lines: Vec<Line>) -> Panel<'a> {
    let across = [(0.0, LIMIT), (outage.end, LIMIT)];
    Panel {
        heading,
        axis: ("units in the last second", most * LIMIT),
        spans: vec![Span { name: "Redis is down", ends: outage.down }],
        guides: vec![Guide { name: "limit", color: RED, ends: across, label: Some((0.2, LIMIT + 5.0 * most)) }],
        lines,
    }
}
