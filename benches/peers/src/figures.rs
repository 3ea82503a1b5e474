//! The figures of several rounds.

/// The median, the least and the most.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figures {
    /// Returns `None` if there are no rounds.
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_by(f64::total_cmp);
        let (min, max) = (*rounds.first()?, *rounds.last()?);
        let half = rounds.len() / 2;
        let median = if rounds.len() % 2 == 1 { rounds[half] } else { (rounds[half - 1] + rounds[half]) / 2.0 };
        Some(Self { median, min, max })
    }

    /// The median with the least and the most, without decimals.
    pub fn cell(&self) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|figure| grouped(figure.round() as u64));
        format!("{median} ({min} to {max})")
    }
}

/// The median of the ratios in each round, as text. A disturbance of one round moves both figures of the ratio.
pub fn ratio(own: &[f64], other: &[f64]) -> String {
    let ratios = own.iter().zip(other).map(|(own, other)| own / other);
    Figures::of(ratios).map_or("-".into(), |figures| format!("{:.2}", figures.median))
}

/// A number with spaces between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    parts.collect::<Vec<_>>().join(" ")
}

/// A span of time with two or three digits and its unit.
pub fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "us"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let decimals = if value < 10.0 && unit != "ns" { 1 } else { 0 };
    format!("{value:.decimals$} {unit}")
}
