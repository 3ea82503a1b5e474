//! The table of a layer's policy, which a review signs.

use std::fmt;

use super::builder::RateLimitLayerBuilder;
use super::client_networks::ClientNetworks;
use super::config::{BLANKS, RateLimitConfig, cell, first_cell};
use super::limit::Limit;
use super::on_missing_key::OnMissingKey;
use super::rate_limit_layer::RateLimitLayer;
use crate::key::{CODE, ClientIp, KeyExtractor as _};
use crate::policy::OnStoreError;
use crate::quota::Quotas;

/// The cells of a line. An empty cell is not printed.
type Row = Vec<String>;

impl fmt::Display for RateLimitLayer {
    /// Writes the limits and lists as a table, with the modes that the limits have now. A function is `(code)`.
    ///
    /// Without a function, the table parses as a [`RateLimitConfig`] with the same limits and lists. The table omits the
    /// stores and the settings for responses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.current.get();
        let mut builder = state.source.as_ref().clone().merged();
        for (limit, built) in builder.limits.iter_mut().zip(&state.limits) {
            limit.mode = built.mode.get();
        }
        write_table(f, &builder, Some(builder.on_missing_key), Some(builder.on_store_error))
    }
}

impl fmt::Display for RateLimitConfig {
    /// Writes the table that parses as an equal configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = RateLimitLayerBuilder::new().config(self.clone()).merged();
        builder.limits.truncate(self.limits.len());
        write_table(f, &builder, self.on_missing_key, self.on_store_error)
    }
}

fn write_table(
    f: &mut fmt::Formatter<'_>,
    builder: &RateLimitLayerBuilder,
    on_missing_key: Option<OnMissingKey>,
    on_store_error: Option<OnStoreError>,
) -> fmt::Result {
    let head = ["limit", "per", "quotas", "strategy", "mode"].map(String::from).to_vec();
    let limits: Vec<Row> = std::iter::once(head).chain(builder.limits.iter().flat_map(limit_rows)).collect();
    write_rows(f, &limits)?;
    let mut rules = rule_rows(builder);
    rules.extend(on_missing_key.map(|behavior| vec!["on-missing-key".into(), behavior.to_string()]));
    rules.extend(on_store_error.map(|behavior| vec!["on-store-error".into(), behavior.to_string()]));
    if !rules.is_empty() {
        writeln!(f)?;
    }
    write_rows(f, &rules)
}

/// Writes the cells below each other.
fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at| rows.iter().filter_map(|row: &Row| row.get(at)).map(|cell: &String| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}{BLANKS}"));
        }
        writeln!(f, "{}", line.trim_end_matches(' '))?;
    }
    Ok(())
}

/// The line of a limit, and the lines of its routes, its costs and its ban.
fn limit_rows(limit: &Limit) -> Vec<Row> {
    let (name, per) = (first_cell(limit.given_name()), cell(&key_text(limit)));
    let mut rows = vec![vec![name, per, quotas_text(limit), strategy_text(limit), limit.mode.to_string()]];
    let indented = |first: &str, second: String, third: String| vec![format!("{BLANKS}{first}"), second, third];
    let routes = limit.routes.iter();
    rows.extend(routes.map(|(route, quotas)| indented(&first_cell(route), String::new(), quotas.to_string())));
    rows.extend(limit.costs.iter().map(|(route, units)| indented("cost", cell(route), units.to_string())));
    rows.extend(limit.cost.as_ref().map(|_| indented("cost", CODE.into(), String::new())));
    rows.extend(limit.in_flight.ttl.map(|ttl| indented("permit-ttl", String::new(), ttl.to_string())));
    rows.extend(limit.ban.map(|ban| indented("ban", String::new(), ban.to_string())));
    rows.extend(limit.metering.as_ref().map(|unit| indented("meter", String::new(), unit.to_string())));
    rows.extend(
        limit.at_limit.as_ref().map(|at_limit| indented("at-limit", String::new(), cell(&at_limit.to_string()))),
    );
    rows.extend(limit.top_keys.map(|keys| indented("top-keys", String::new(), keys.to_string())));
    rows.extend(limit.settles.is_some().then(|| indented("settle", String::new(), CODE.into())));
    rows
}

pub(super) fn quotas_text(limit: &Limit) -> String {
    match limit.choose.is_some() || limit.quota_lookup.is_some() {
        true => CODE.to_owned(),
        false if limit.in_flight.most.is_some() => limit.in_flight.to_string(),
        false if limit.quotas.is_empty() => Quotas::UNLIMITED.to_string(),
        false => Quotas::from(limit.quotas.as_slice()).to_string(),
    }
}

pub(super) fn strategy_text(limit: &Limit) -> String {
    limit.suppressed.map_or("absolute".to_owned(), |factor| format!("suppressed {factor}"))
}

/// The text of a limit's key. A lookup is joined to the other key.
fn key_text(limit: &Limit) -> String {
    match (&limit.key, &limit.lookup) {
        (None, None) => ClientIp::peer().to_string(),
        (None, Some(_)) => CODE.into(),
        (Some(key), None) => key.text().into_owned(),
        (Some(key), Some(_)) => format!("{} + {CODE}", key.text()),
    }
}

/// The lines after the limits.
fn rule_rows(builder: &RateLimitLayerBuilder) -> Vec<Row> {
    let (exempt, deny) = (&builder.exemptions, &builder.denials);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Row>();
    let mut rows = Vec::new();
    rows.extend(exempt.paths.iter().map(|path| words(&["exempt", "path", &cell(path)])));
    rows.extend(network_rows("exempt", &exempt.networks));
    for (is_on, name) in [
        (exempt.grpc_health, "grpc-health"),
        (exempt.grpc_reflection, "grpc-reflection"),
        (exempt.preflight, "preflight"),
    ] {
        rows.extend(is_on.then(|| words(&["exempt", name])));
    }
    rows.extend(exempt.predicates.iter().map(|_| words(&["exempt", CODE])));
    rows.extend(network_rows("deny", &deny.networks));
    rows.extend(deny.predicates.iter().map(|_| words(&["deny", CODE])));
    rows.extend(exempt.methods.iter().map(|methods| {
        let names: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
        words(&["methods", &names.join(" ")])
    }));
    rows.extend(builder.costs.iter().map(|(route, units)| words(&["cost", &cell(route), &units.to_string()])));
    rows.extend(builder.cost.as_ref().map(|_| words(&["cost", CODE])));
    rows.extend(builder.settles.is_some().then(|| words(&["settle", CODE])));
    rows.extend(exempt.is_off.then(|| words(&["enabled", "no"])));
    rows
}

fn network_rows<'a>(word: &'a str, lists: &'a ClientNetworks) -> impl Iterator<Item = Row> + 'a {
    lists.iter().flat_map(move |(ip, networks)| {
        networks.texts().map(move |network| vec![word.to_owned(), cell(&ip.to_string()), network])
    })
}
