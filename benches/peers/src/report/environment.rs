//! The machine, the date, and the versions of a run.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// When, where and how a section was measured, as its first paragraph.
pub fn provenance(how: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = if cores == 1 { "one core".into() } else { format!("{cores} cores") };
    format!("*Recorded on {}: {how}. Machine: {cores} of {}, {}.*", today(), processor(), rustc())
}

fn processor() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    model.unwrap_or_else(|| "an unknown processor".into())
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("-V").output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    // Without the commit, whose date readers could take for that of the run.
    text.and_then(|text| Some(text.split_once(" (")?.0.to_owned())).unwrap_or_else(|| "an unknown rustc".into())
}

/// The date by UTC, as in "26 November 2026".
fn today() -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (day, month, year) = civil(seconds / 86_400);
    format!("{day} {} {year}", MONTHS[month as usize - 1])
}

/// The day, the month and the year, from days since 1970 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (day_of_year - (153 * shifted + 2) / 5 + 1, month, era * 400 + year_of_era + u64::from(month <= 2))
}

/// A library with the version that was compiled, as in "governor 0.10.4".
pub fn version(library: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{library}\"\nversion = \"")).map(|(_, rest)| rest);
    match entry.and_then(|rest| rest.split_once('"')) {
        Some((version, _)) => format!("{library} {version}"),
        None => library.into(),
    }
}
