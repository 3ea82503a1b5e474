//! The arguments of the program.

use std::io::IsTerminal as _;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;

use axum::http::HeaderName;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use tower_weir::{ConfigError, HardLimitFactor, ManualClock, Quota, Quotas, RateGroupSizeMs};

use crate::format::{Fields, Format, stamp};
use crate::input::Input;
use crate::key::{self, Part, Parts};
use crate::limit::{Engine, Limit};
use crate::policy::{Kind, Policy};
use crate::policy_file::PolicyFile;

/// What would this rate limit have done to my traffic?
///
/// The program reads access logs, and lets the limiter decide on each request, on a virtual clock.
#[derive(clap::Parser, Debug)]
#[command(name = "weir-replay", max_term_width = 100, after_help = EXAMPLES)]
struct Args {
    /// Access logs, plain or gzip; `-` is standard input
    #[arg(value_name = "LOG")]
    logs: Vec<String>,
    /// A limit to replay, such as "100/min" or "10/s;1000/h"; several are compared
    ///
    /// It may have its own key and strategy: "100/min per path suppressed 1.5".
    #[arg(long = "limit", value_name = "QUOTAS")]
    limits: Vec<String>,
    /// A file with a whole policy to replay: TOML, JSON, or the table that a layer prints
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<String>,
    /// Whose requests a limit counts: client, method, path, global, a --field, or several joined by +
    #[arg(long, value_name = "KEY", default_value = "client")]
    per: String,
    /// Shed requests between the limit and this factor of it, instead of rejecting all above the limit
    #[arg(long, value_name = "FACTOR")]
    suppressed: Option<f64>,
    /// Find the smallest limit that refuses at most this part of the requests, such as 1%
    #[arg(long, value_name = "PERCENT", value_parser = target)]
    target: Option<f64>,
    /// Write a report with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
    /// The format of the logs; it is detected for each file if you leave it out
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The path of a field in a JSON log: time, client, method, path, status, or a name of yours for --per and --policy
    ///
    /// A dot goes into an object: client=request.headers.X-Real-Ip. In a policy, other names are header fields. Formats
    /// of plain text have the fields user, referer, user-agent, x-forwarded-for and others.
    #[arg(long = "field", value_name = "NAME=PLACE", value_parser = field)]
    fields: Vec<String>,
    /// Replay only requests from this time on, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// Replay only requests before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<u64>,
    /// The rows of each table
    #[arg(long, value_name = "N", default_value = "10")]
    top: NonZeroUsize,
    /// Replay requests of one second at its start, if the log has whole seconds, instead of spreading them over it
    #[arg(long)]
    no_spread: bool,
    /// The most keys that the limiter retains; other keys share budgets
    #[arg(long, value_name = "N", default_value = "1000000")]
    max_keys: NonZeroUsize,
    /// The smallest step of time in which the limiter counts; a long window needs a larger one
    #[arg(long, value_name = "MS", default_value = "10")]
    rate_group_ms: NonZeroU64,
    /// Write a log with this many lines to standard output, for measurements
    #[arg(long, value_name = "LINES", hide = true, exclusive = true)]
    generate: Option<u64>,
}

const EXAMPLES: &str = "Examples:
  weir-replay --limit 100/min /var/log/nginx/access.log
  weir-replay --limit '10/s;1000/h' --limit '20/s suppressed 1.5' --html report.html access.log*
  weir-replay --limit 100/min --per tenant --field tenant=user.org --target 1% caddy.json.gz
  weir-replay --policy policy.toml access.log

The exit code is 0 after a report, 1 if a log cannot be read, and 2 for wrong arguments.";

/// What the program does.
#[derive(Debug)]
pub(crate) enum Task {
    Replay(Box<Plan>),
    Generate(u64),
}

/// A replay.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) input: Input,
    pub(crate) times: Range<u64>,
    pub(crate) columns: Vec<Parts>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) target: Option<f64>,
    pub(crate) html: Option<String>,
    pub(crate) rows: usize,
    pub(crate) spread: bool,
}

/// Reads the arguments. Ends the program with code 2 if they are wrong.
pub(crate) fn task() -> Task {
    let args = Args::parse();
    if let Some(lines) = args.generate {
        return Task::Generate(lines);
    }
    match plan(args) {
        Ok(plan) => Task::Replay(Box::new(plan)),
        Err(message) => Args::command().error(ErrorKind::ValueValidation, message).exit(),
    }
}

fn plan(args: Args) -> Result<Plan, String> {
    let mut fields = Fields::default();
    args.fields.iter().try_for_each(|text| fields.add(text))?;
    let mut logs = args.logs;
    if logs.is_empty() {
        if std::io::stdin().is_terminal() {
            return Err("no log is given; name a file, or pipe a log into standard input".into());
        }
        logs.push("-".into());
    }
    if logs.iter().filter(|log| *log == "-").count() > 1 {
        return Err("standard input is given twice; it can be read once".into());
    }
    let times = args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX);
    if times.is_empty() {
        return Err("--from is not before --to, so no request is between them".into());
    }
    let rate_group_ms = RateGroupSizeMs::try_from(args.rate_group_ms.get()).map_err(|error| error.to_string())?;
    let engine = Engine { max_keys: args.max_keys.get(), rate_group_ms };
    let mut columns = Columns(Vec::new());
    let mut policies = Vec::new();
    for text in &args.limits {
        let limit = limit(text, &args.per, args.suppressed)?;
        limit
            .open(engine, &ManualClock::new())
            .map_err(|error| format!("--limit {text:?}: {}", with_options(&error)))?;
        let column = columns.number(key::parts(&limit.per, &fields)?);
        policies.push(Policy { kind: Kind::Limit(limit), column, requests: column, engine });
    }
    for path in &args.policies {
        let header = |(name, _): &(String, String)| {
            let invalid = |_| format!("--field {name}: a policy reads fields as headers, and this is no header name");
            HeaderName::try_from(name).map_err(invalid)
        };
        let file = PolicyFile::read(path, fields.extra.iter().map(header).collect::<Result<_, _>>()?)?;
        let (column, requests) = (columns.number(vec![Part::Client]), columns.number(file.request_parts()));
        policies.push(Policy { kind: Kind::File(Box::new(file)), column, requests, engine });
    }
    if policies.is_empty() {
        return Err("nothing to replay is given; write --limit \"100/min\" or --policy FILE".into());
    }
    Ok(Plan {
        input: Input { files: logs, format: args.format, fields },
        times,
        columns: columns.0,
        policies,
        target: args.target,
        html: args.html,
        rows: args.top.get(),
        spread: !args.no_spread,
    })
}

/// An error of the limiter, with the option of this program instead of the setter.
fn with_options(error: &ConfigError) -> String {
    match error {
        ConfigError::WindowTooLong { window_ms, least_bucket_ms } => {
            format!("a window of {} days is too long; write --rate-group-ms {least_bucket_ms}", window_ms / 86_400_000)
        }
        ConfigError::BucketExceedsWindow { window_ms, .. } => {
            format!("the window of {window_ms} ms is too short; write --rate-group-ms {window_ms} or less")
        }
        error => error.to_string(),
    }
}

/// The distinct kinds of keys.
struct Columns(Vec<Parts>);

impl Columns {
    fn number(&mut self, parts: Parts) -> usize {
        self.0.iter().position(|known| *known == parts).unwrap_or_else(|| {
            self.0.push(parts);
            self.0.len() - 1
        })
    }
}

/// Reads a limit, such as `10/s;1000/h per path suppressed 1.5`.
fn limit(text: &str, per: &str, suppressed: Option<f64>) -> Result<Limit, String> {
    let failed = |error: &dyn std::fmt::Display| format!("--limit {text:?}: {error}");
    let (rest, factor) = match text.split_once(" suppressed ") {
        Some((rest, factor)) => (rest, Some(factor.trim().parse().map_err(|error| failed(&error))?)),
        None => (text, suppressed),
    };
    let (quotas, per) = rest.split_once(" per ").unwrap_or((rest, per));
    let quotas: Result<Vec<Quota>, _> = quotas.split([';', ',']).map(str::parse).collect();
    let quotas = quotas.map_err(|error| failed(&error))?;
    let suppressed = factor.map(HardLimitFactor::try_from).transpose().map_err(|error| failed(&error))?;
    // The words of a policy file are no limits to replay.
    debug_assert!(!Quotas::from(quotas.as_slice()).is_unlimited());
    Ok(Limit { quotas, suppressed, per: per.trim().to_owned() })
}

/// Reads a part of the requests, such as `1%`.
fn target(text: &str) -> Result<f64, String> {
    let percent = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    match percent {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("write a percentage from 0% to below 100%, such as 1% or 0.1%".into()),
    }
}

fn time(text: &str) -> Result<u64, String> {
    stamp(text.as_bytes()).map(|stamp| stamp.ms).ok_or_else(|| "write a time such as 2026-01-31T12:00:00Z".into())
}

fn field(text: &str) -> Result<String, String> {
    Fields::default().add(text).map(|()| text.to_owned())
}
