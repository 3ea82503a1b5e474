//! The settings that visitors can change, and the check of their input.

use serde_json::{Map, Value, json};
use tower_weir::OnStoreError;

use crate::meter::LONGEST_WINDOW_MS;

/// The longest window that a visitor can choose, in seconds.
pub(crate) const MAX_WINDOW_S: u64 = LONGEST_WINDOW_MS / 1_000;

/// The shape of the load over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    Steady,
    Bursts,
    Spike,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Requests per second.
    pub(crate) offered: u32,
    /// Units in any window.
    pub(crate) limit: u64,
    pub(crate) window_s: u64,
    /// The hard cap of the suppressed strategy, as a factor of the limit.
    pub(crate) factor: f64,
    /// The part of the load that goes to the first of two instances, in percent.
    pub(crate) split: u32,
    pub(crate) pattern: Pattern,
    pub(crate) paused: bool,
    pub(crate) on_outage: OnStoreError,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offered: 300,
            limit: 200,
            window_s: 2,
            factor: 1.5,
            split: 70,
            pattern: Pattern::Steady,
            paused: false,
            on_outage: OnStoreError::LocalShare,
        }
    }
}

/// The names of the fields, in the order of the page.
const FIELDS: [&str; 8] = ["offered", "limit", "window", "factor", "split", "pattern", "paused", "outage"];

impl Settings {
    /// The settings with the changes in a JSON object.
    ///
    /// # Errors
    ///
    /// Returns a message for the visitor if a field is unknown or a value is out of range.
    pub(crate) fn with(&self, changes: &Value) -> Result<Self, String> {
        let Some(changes) = changes.as_object() else {
            return Err(format!("send a JSON object, such as {{\"limit\": {}}}", self.limit));
        };
        if let Some(unknown) = changes.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let unknown: String = unknown.chars().take(40).collect();
            return Err(format!("unknown field {unknown:?}; the fields are {}", FIELDS.join(", ")));
        }
        let number = |name, range, old| number(changes, name, range, old);
        let whole = |name, range, old: u64| whole(changes, name, range, old);
        Ok(Self {
            offered: whole("offered", (0, 2_000), self.offered.into())? as u32,
            limit: whole("limit", (1, 2_000), self.limit)?,
            window_s: whole("window", (1, MAX_WINDOW_S), self.window_s)?,
            factor: number("factor", (1.0, 3.0), self.factor)?,
            split: whole("split", (0, 100), self.split.into())? as u32,
            pattern: match changes.get("pattern") {
                None => self.pattern,
                Some(value) => pattern(value)?,
            },
            paused: match changes.get("paused") {
                None => self.paused,
                Some(value) => value.as_bool().ok_or("`paused` must be true or false")?,
            },
            on_outage: match changes.get("outage") {
                None => self.on_outage,
                Some(value) => {
                    let word = value.as_str().and_then(|word| word.parse().ok());
                    word.ok_or("`outage` must be \"local-share\", \"reject\" or \"allow\"")?
                }
            },
        })
    }

    /// Whether the limit itself differs, and not only its load.
    pub(crate) fn has_other_limit(&self, other: &Self) -> bool {
        (self.limit, self.window_s, self.factor, self.on_outage)
            != (other.limit, other.window_s, other.factor, other.on_outage)
    }

    /// The most units that the suppressed strategy admits in a window.
    pub(crate) fn hard_cap(&self) -> u64 {
        // The factor has one digit, so that the product of two floats is not exact.
        ((self.limit as f64 * self.factor) + 1e-6).floor() as u64
    }

    pub(crate) fn window_ms(&self) -> u64 {
        self.window_s * 1_000
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "offered": self.offered,
            "limit": self.limit,
            "window": self.window_s,
            "factor": self.factor,
            "split": self.split,
            "pattern": match self.pattern {
                Pattern::Steady => "steady",
                Pattern::Bursts => "bursts",
                Pattern::Spike => "spike",
            },
            "paused": self.paused,
            "outage": self.on_outage.to_string(),
        })
    }
}

fn pattern(value: &Value) -> Result<Pattern, String> {
    match value.as_str() {
        Some("steady") => Ok(Pattern::Steady),
        Some("bursts") => Ok(Pattern::Bursts),
        Some("spike") => Ok(Pattern::Spike),
        _ => Err("`pattern` must be \"steady\", \"bursts\" or \"spike\"".into()),
    }
}

/// Reads a number in a range. JSON has neither NaN nor infinity.
fn number(changes: &Map<String, Value>, name: &str, (least, most): (f64, f64), old: f64) -> Result<f64, String> {
    let Some(value) = changes.get(name) else { return Ok(old) };
    let in_range = value.as_f64().filter(|number| (least..=most).contains(number));
    in_range.ok_or_else(|| format!("`{name}` must be a number from {least} to {most}, and not {}", shortened(value)))
}

fn whole(changes: &Map<String, Value>, name: &str, (least, most): (u64, u64), old: u64) -> Result<u64, String> {
    let Some(value) = changes.get(name) else { return Ok(old) };
    let in_range = value.as_u64().filter(|number| (least..=most).contains(number));
    in_range
        .ok_or_else(|| format!("`{name}` must be a whole number from {least} to {most}, and not {}", shortened(value)))
}

/// The text of a value, for a message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
