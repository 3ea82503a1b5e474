//! The access logs of AWS Application Load Balancers.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>

use super::text::{MAX_NAMED, Parts, Rest};

pub(super) const ALB: &[&str] = &["client", "type", "elb", "user-agent", "target-group", "domain"];

/// Splits a line. The time is that of the request, if the line has it, and else that of the response.
pub(super) fn split(line: &[u8]) -> Result<Parts<'_>, &'static str> {
    let mut rest = Rest(line);
    let mut word = |missing: &'static str| rest.word().ok_or(missing);
    let (kind, responded, elb) = (word("no type")?, word("no time")?, word("no load balancer")?);
    let client = word("no client")?;
    let _target = word("no target")?;
    let _times = (word("no times")?, word("no times")?, word("no times")?);
    let status = word("no status")?;
    let _target_status = word("no status of the target")?;
    let _sizes = (word("no sizes")?, word("no sizes")?);
    let request = rest.quoted().ok_or("no request in quotes")?;
    let user_agent = rest.quoted().ok_or("no user agent in quotes")?;
    let _tls = (rest.item(), rest.item());
    let target_group = rest.item().unwrap_or_default();
    let _trace = rest.item();
    let domain = rest.item().unwrap_or_default();
    let _certificate = rest.item();
    let _priority = rest.item();
    let created = rest.item().filter(|created| created.len() > 1);
    let named: [&[u8]; MAX_NAMED] = [client, kind, elb, user_agent, target_group, domain];
    Ok(Parts { time: created.unwrap_or(responded), request, status, named })
}
