//! The fields of one layer and what they say of a decision.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::merge::{self, DRAFT6, X};
use super::{RateLimitHeaders, ResetFormat, quoted};
use crate::decision::{Decision, Verdict};
use crate::quota::Quota;
use crate::response::line::{self, line};
use crate::response::{names, retry_after};
use crate::store::Policy;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields of one layer, as far as they are the same in all its responses.
#[derive(Debug)]
pub(in crate::response) struct Fields {
    format: RateLimitHeaders,
    policy: HeaderValue,
    members: Box<[Member]>,
}

/// One quota.
#[derive(Debug)]
struct Member {
    /// A member of `RateLimit` up to its first number.
    prefix: String,
    count: u64,
    /// The count as a field's value.
    limit: HeaderValue,
    window: u64,
}

/// What a response's fields say of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    index: usize,
    remaining: u64,
    reset: u64,
    /// The wait in seconds until the next request fits, where that is not at once.
    wait: Option<u64>,
}

/// The greatest Integer of a structured field (RFC 9651 section 3.3.1).
fn integer(n: u64) -> u64 {
    n.min(999_999_999_999_999)
}

impl Fields {
    /// Nothing where no fields are asked for.
    pub(in crate::response) fn new(format: RateLimitHeaders, policy: &Policy) -> Option<Self> {
        if format == RateLimitHeaders::None {
            return None;
        }
        let member = |(name, quota): (String, &Quota)| Member {
            prefix: format!("{};r=", quoted(&name)),
            count: integer(quota.count()),
            limit: line::number(integer(quota.count())),
            window: integer(retry_after::seconds(quota.window())),
        };
        let members: Box<[Member]> = names(policy).zip(policy.quotas()).map(member).collect();
        let listed = |(index, it): (usize, &Member)| match format {
            RateLimitHeaders::Draft8 => {
                Some(format!("{}q={};w={}", it.prefix.strip_suffix("r=")?, it.count, it.window))
            }
            // A policy is known by its count here, so of equal ones only the strictest is told.
            _ if is_redundant(&members, index) => None,
            _ => Some(format!("{};w={}", it.count, it.window)),
        };
        let list: Vec<String> = members.iter().enumerate().filter_map(listed).collect();
        // Of checked names and numbers; no header value refuses them.
        let policy = HeaderValue::try_from(list.join(", ")).ok()?;
        Some(Self { format, policy, members })
    }

    /// What to tell of a decision.
    pub(in crate::response) fn standing(&self, decision: &Decision) -> Option<Standing> {
        let index = if decision.limit_index() < self.members.len() { decision.limit_index() } else { 0 };
        let member = self.members.get(index)?;
        let wait = decision.retry_after().filter(|wait| !wait.is_zero()).map(retry_after::seconds);
        let remaining = match decision.verdict() {
            // There may be quota left, but not for now.
            Verdict::Suppressed { is_allowed: false } => 0,
            _ => decision.remaining().min(member.count),
        };
        if decision.is_allowed() && remaining > 0 {
            return Some(Standing { index, remaining, reset: member.window, wait: None });
        }
        let reset = integer(wait.unwrap_or(member.window));
        // A refused request of a large cost may leave some; no more of it is told than the quota's own rate.
        let at_rate = u128::from(member.count) * u128::from(reset) / u128::from(member.window);
        let remaining = u64::try_from(at_rate).unwrap_or(u64::MAX).min(remaining);
        Some(Standing { index, remaining, reset, wait })
    }

    /// Adds the fields to an admitted request's response, beside those that it has.
    pub(in crate::response) fn admitted(&self, standing: &Standing, headers: &mut HeaderMap) {
        self.append(standing, headers);
        // Its own answer may ask for a wait; when that is over this layer must have room too.
        if let (Some(wait), Some(_)) = (standing.wait, retry_after::told(headers)) {
            retry_after::raise(headers, wait);
        }
    }

    /// Adds the fields to a refusal, unless its maker has set them.
    pub(in crate::response) fn refused(&self, standing: &Standing, headers: &mut HeaderMap) {
        if !headers.contains_key(RATELIMIT) && !headers.contains_key(POLICY) {
            self.append(standing, headers);
        }
    }

    fn append(&self, standing: &Standing, headers: &mut HeaderMap) {
        let Some(Member { prefix, count, limit, .. }) = self.members.get(standing.index) else { return };
        let Standing { remaining, reset, .. } = *standing;
        if let RateLimitHeaders::XRateLimit { reset: format } = self.format {
            let reset = match format {
                ResetFormat::DeltaSeconds => reset,
                ResetFormat::EpochSeconds => merge::epoch(SystemTime::now(), reset),
            };
            return merge::triple(headers, &X, limit, [remaining, reset]);
        }
        merge::append(headers, POLICY, self.policy.clone());
        match self.format {
            RateLimitHeaders::Draft8 => {
                if let Some(member) = line([(prefix, remaining), (";t=", reset)]) {
                    merge::append(headers, RATELIMIT, member);
                }
            }
            RateLimitHeaders::Draft7 => merge::dictionary(headers, RATELIMIT, *count, [remaining, reset]),
            RateLimitHeaders::Draft6 => merge::triple(headers, &DRAFT6, limit, [remaining, reset]),
            RateLimitHeaders::XRateLimit { .. } | RateLimitHeaders::None => {}
        }
    }
}

/// Whether another quota of the same count has a longer window, or as long a one and stands before.
fn is_redundant(members: &[Member], index: usize) -> bool {
    let Some(it) = members.get(index) else { return false };
    let stricter = |(n, other): (usize, &Member)| {
        other.count == it.count && (other.window > it.window || (other.window == it.window && n < index))
    };
    members.iter().enumerate().any(stricter)
}
