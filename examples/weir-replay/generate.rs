//! Writes a log for measurements.

use std::io::{self, BufWriter, Write as _};

use crate::format::date_and_time;

/// The clients of the log.
const CLIENTS: f64 = 200_000.0;
const PATHS: [&str; 6] = ["/", "/api/items?page=2", "/login", "/static/app.js", "/api/search?q=weir", "/health"];

/// Writes lines in the combined format: about 2000 requests per second, of which a few clients send the most.
///
/// Of two runs, both write the same log.
pub(crate) fn log(lines: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let mut random = fastrand::Rng::with_seed(11);
    let mut seconds = 1_767_225_600_u64;
    let mut stamp = String::new();
    for line in 0..lines {
        if line % 2_000 == 0 {
            seconds += 1;
            let text = date_and_time(seconds * 1_000);
            // The log begins in January and is shorter than a month.
            stamp = format!("{}/Jan/{}:{} +0000", &text[8..10], &text[..4], &text[11..]);
        }
        // A power of a uniform number makes small numbers frequent.
        let client = (CLIENTS * random.f64().powi(4)) as u32;
        let [_, a, b, c] = client.to_be_bytes();
        let path = PATHS[random.usize(..PATHS.len())];
        let status = if random.u8(..) < 12 { 404 } else { 200 };
        writeln!(
            out,
            "10.{a}.{b}.{c} - - [{stamp}] \"GET {path} HTTP/1.1\" {status} {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
            random.u16(..)
        )?;
    }
    out.flush()
}
