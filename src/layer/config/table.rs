//! Reads a configuration from the table that a layer prints.

use std::str::FromStr;

use super::cells::{self, Cell};
use super::limit_config::LimitConfig;
use super::rate_limit_config::RateLimitConfig;
use crate::error::{ConfigError, shortened};
use crate::key::{CODE, ClientIp, Networks};
use crate::layer::exempt;
use crate::layer::in_flight::cap::Cap;
use crate::layer::routes::{Routes, method};
use crate::quota::{HardLimitFactor, Quotas};
use crate::response;

impl FromStr for RateLimitConfig {
    type Err = ConfigError;

    /// Reads a table; see [`RateLimitConfig`].
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidLine`], which has the line and the mistake in it.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut reader = Reader::default();
        for (number, line) in (1..).zip(text.lines()) {
            reader.add_line(number, line).map_err(|error| at(number, error))?;
        }
        let Reader { mut config, exempt, deny, .. } = reader;
        for (ip, networks, number) in exempt.0 {
            let networks = Networks::union(&networks);
            exempt::check_networks(&networks).map_err(|error| at(number, error))?;
            config.exempt.networks.push((ip, networks));
        }
        let deny = deny.0.into_iter().map(|(ip, networks, _)| (ip, Networks::union(&networks)));
        config.deny.networks.extend(deny);
        Ok(config)
    }
}

fn at(line: usize, error: ConfigError) -> ConfigError {
    ConfigError::InvalidLine { line, error: Box::new(error) }
}

/// What was read so far. The routes are those of the last limit, and find a route that is listed twice.
#[derive(Default)]
struct Reader {
    config: RateLimitConfig,
    costs: Routes<()>,
    limit_routes: Routes<()>,
    limit_costs: Routes<()>,
    exempt: Lists,
    deny: Lists,
}

/// The networks of each reader of addresses, with the last line of each. They are joined once, because a list may have
/// thousands of lines.
#[derive(Default)]
struct Lists(Vec<(ClientIp, Vec<Networks>, usize)>);

impl Lists {
    fn add(&mut self, number: usize, ip: &Cell, networks: &Cell) -> Result<(), ConfigError> {
        let ip: ClientIp = ip.text.parse()?;
        let networks = Networks::new(networks.text.split_whitespace())?;
        match self.0.iter_mut().find(|(other, ..)| *other == ip) {
            Some((_, known, last)) => {
                known.push(networks);
                *last = number;
            }
            None => self.0.push((ip, vec![networks], number)),
        }
        Ok(())
    }
}

impl Reader {
    fn add_line(&mut self, number: usize, line: &str) -> Result<(), ConfigError> {
        if line.trim_start().starts_with('#') {
            return Ok(());
        }
        let cells = cells::split(line)?;
        let Some((first, others)) = cells.split_first() else { return Ok(()) };
        if line.starts_with([' ', '\t']) && !self.config.limits.is_empty() {
            return self.add_row(line, first, others);
        }
        let config = &mut self.config;
        let keyword = if first.is_quoted { "" } else { &*first.text };
        match (keyword, others) {
            ("limit", _) => Ok(()),
            ("cost", _) => cost(line, others, &mut self.costs).map(|cost| config.costs.push(cost)),
            ("exempt", _) => self.add_exemption(number, line, others),
            ("deny", [ip, networks]) => self.deny.add(number, ip, networks),
            ("deny" | "settle", [cell]) => Err(code_or(invalid(line), cell)),
            ("methods", _) => self.add_methods(others),
            ("enabled", [cell]) => yes_or_no(&cell.text).map(|enabled| config.enabled = enabled),
            ("on-missing-key", [cell]) => cell.text.parse().map(|behavior| config.on_missing_key = Some(behavior)),
            ("on-store-error", [cell]) => cell.text.parse().map(|behavior| config.on_store_error = Some(behavior)),
            ("deny" | "enabled" | "on-missing-key" | "on-store-error" | "settle", _) => Err(invalid(line)),
            _ => {
                config.limits.push(limit(line, &cells)?);
                (self.limit_routes, self.limit_costs) = Default::default();
                Ok(())
            }
        }
    }

    /// Adds the ban, or the quotas or the cost of a route, to the last limit.
    fn add_row(&mut self, line: &str, first: &Cell, others: &[Cell]) -> Result<(), ConfigError> {
        let Some(limit) = self.config.limits.last_mut() else { return Err(invalid(line)) };
        if first.is("cost") {
            limit.costs.push(cost(line, others, &mut self.limit_costs)?);
            return Ok(());
        }
        let [value] = others else { return Err(invalid(line)) };
        if first.is("ban") {
            return once(&mut limit.ban, value.text.parse()?, line);
        }
        if first.is("permit-ttl") {
            return once(&mut limit.permit_ttl, value.text.parse()?, line);
        }
        if first.is("top-keys") {
            return once(&mut limit.top_keys, value.text.parse()?, line);
        }
        if first.is("meter") {
            return once(&mut limit.meter, value.text.parse().map_err(|error| code_or(error, value))?, line);
        }
        if first.is("at-limit") {
            return once(&mut limit.at_limit, value.text.parse().map_err(|error| code_or(error, value))?, line);
        }
        if first.is("settle") {
            return Err(code_or(invalid(line), value));
        }
        let quotas = quotas_of(value)?;
        self.limit_routes.insert(&first.text, ())?;
        limit.routes.push((first.text.clone(), quotas));
        Ok(())
    }

    fn add_exemption(&mut self, number: usize, line: &str, cells: &[Cell]) -> Result<(), ConfigError> {
        let exempt = &mut self.config.exempt;
        match cells {
            [kind, path] if kind.is("path") => {
                exempt::check_path(&path.text)?;
                exempt.paths.push(path.text.clone());
            }
            [kind] if kind.is("grpc-health") => exempt.grpc_health = true,
            [kind] if kind.is("grpc-reflection") => exempt.grpc_reflection = true,
            [kind] if kind.is("preflight") => exempt.preflight = true,
            [ip, networks] => self.exempt.add(number, ip, networks)?,
            [cell] => return Err(code_or(invalid(line), cell)),
            _ => return Err(invalid(line)),
        }
        Ok(())
    }

    fn add_methods(&mut self, cells: &[Cell]) -> Result<(), ConfigError> {
        let methods = self.config.methods.get_or_insert_default();
        for name in cells.iter().flat_map(|cell| cell.text.split_whitespace()) {
            methods.push(method(name)?);
        }
        if methods.is_empty() { Err(ConfigError::NoMethod) } else { Ok(()) }
    }
}

/// Sets what only one line of a limit can set.
fn once<T>(field: &mut Option<T>, value: T, line: &str) -> Result<(), ConfigError> {
    if field.replace(value).is_none() { Ok(()) } else { Err(invalid(line)) }
}

/// A limit of five cells.
fn limit(line: &str, cells: &[Cell]) -> Result<LimitConfig, ConfigError> {
    let [name, per, quotas, strategy, mode] = cells else { return Err(invalid(line)) };
    response::check_name(&name.text)?;
    let in_flight = Cap::most_of(&quotas.text).transpose()?;
    Ok(LimitConfig {
        name: name.text.clone(),
        per: per.text.parse()?,
        quotas: if in_flight.is_some() { Quotas::UNLIMITED } else { quotas_of(quotas)? },
        in_flight,
        suppressed: factor(&strategy.text)?,
        mode: mode.text.parse()?,
        ..LimitConfig::default()
    })
}

fn quotas_of(cell: &Cell) -> Result<Quotas, ConfigError> {
    cell.text.parse().map_err(|error| code_or(error, cell))
}

/// The hard limit factor of the suppressed strategy.
fn factor(strategy: &str) -> Result<Option<HardLimitFactor>, ConfigError> {
    let known = &["absolute", "suppressed 1.2"];
    let unknown = || ConfigError::UnknownWord { text: shortened(strategy), known };
    if strategy == "absolute" {
        return Ok(None);
    }
    let factor = strategy.strip_prefix("suppressed ").and_then(|factor| factor.trim().parse::<f64>().ok());
    HardLimitFactor::try_from(factor.ok_or_else(unknown)?).map(Some)
}

/// The cost of a route, from the cells after `cost`.
fn cost(line: &str, cells: &[Cell], listed: &mut Routes<()>) -> Result<(String, u64), ConfigError> {
    match cells {
        [route, units] => {
            let units = units.text.parse().map_err(|_| invalid(line))?;
            listed.insert(&route.text, ())?;
            Ok((route.text.clone(), units))
        }
        [cell] => Err(code_or(invalid(line), cell)),
        _ => Err(invalid(line)),
    }
}

fn yes_or_no(word: &str) -> Result<bool, ConfigError> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(ConfigError::UnknownWord { text: shortened(word), known: &["yes", "no"] }),
    }
}

#[cold]
fn invalid(line: &str) -> ConfigError {
    ConfigError::InvalidRow(shortened(line.trim()))
}

/// The error of a cell, or a better one if the cell stands for a function.
fn code_or(error: ConfigError, cell: &Cell) -> ConfigError {
    if cell.is(CODE) { ConfigError::CodeInText(cell.text.clone()) } else { error }
}
