//! Plots for the guide as rustdoc shows it, which has no files beside its pages.

use std::fmt::Write as _;

/// The definition of the link `plot-NAME`, with the whole image as its target.
pub fn link(name: &str, svg: &str) -> String {
    let mut link = format!("[plot-{name}]: data:image/svg+xml,");
    for byte in svg.bytes() {
        // A target in Markdown ends at a space, and HTML escapes quotes and angle brackets.
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' | b'/' | b'=' | b',' | b';' => {
                write!(link, "{}", char::from(byte))
            }
            _ => write!(link, "%{byte:02X}"),
        };
    }
    link + "\n"
}
