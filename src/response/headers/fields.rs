//! The fields of one layer, and their values for a decision.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::format::{RateLimitHeaders, ResetFormat, quoted};
use super::merge::{self, DRAFT6, X};
use crate::decision::{Decision, Verdict};
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::response::header_value::{self, line};
use crate::response::quota_names::quota_names;
use crate::response::retry_after;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields of one layer, with the parts that are the same in all its responses.
#[derive(Debug)]
pub(in crate::response) struct Fields {
    /// The draft's revision, or `None`.
    draft: RateLimitHeaders,
    /// The format of the reset in the `X-RateLimit` fields, if they are configured.
    x_reset: Option<ResetFormat>,
    policy: HeaderValue,
    members: Box<[Member]>,
}

/// One quota.
#[derive(Debug)]
struct Member {
    /// A member of `RateLimit` up to its first number.
    prefix: String,
    count: u64,
    /// The count as a field value.
    limit: HeaderValue,
    window: u64,
}

/// The values of a response's fields for one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::response) struct QuotaStatus {
    index: usize,
    remaining: u64,
    /// `None` if no wait helps.
    reset: Option<u64>,
}

/// The greatest Integer of a structured field (RFC 9651 section 3.3.1).
fn integer(n: u64) -> u64 {
    n.min(999_999_999_999_999)
}

impl Fields {
    /// Returns `None` if no fields are wanted.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::HeadersConflict`] if two of the families write the same header.
    pub(in crate::response) fn new(
        first: RateLimitHeaders,
        others: &[RateLimitHeaders],
        policy: &Policy,
    ) -> Result<Option<Self>, ConfigError> {
        let (mut draft, mut x_reset) = (RateLimitHeaders::None, None);
        for family in [first].iter().chain(others) {
            let is_new = match *family {
                RateLimitHeaders::None => true,
                RateLimitHeaders::XRateLimit { reset } => x_reset.replace(reset).is_none_or(|known| known == reset),
                _ => {
                    let known = std::mem::replace(&mut draft, *family);
                    known == RateLimitHeaders::None || known == *family
                }
            };
            if !is_new {
                return Err(ConfigError::HeadersConflict);
            }
        }
        Ok(Self::of(draft, x_reset, policy))
    }

    fn of(draft: RateLimitHeaders, x_reset: Option<ResetFormat>, policy: &Policy) -> Option<Self> {
        if draft == RateLimitHeaders::None && x_reset.is_none() {
            return None;
        }
        let member = |(name, quota): (String, &Quota)| Member {
            prefix: format!("{};r=", quoted(&name)),
            count: integer(quota.count()),
            limit: header_value::number(integer(quota.count())),
            window: integer(retry_after::seconds(quota.window())),
        };
        let members: Box<[Member]> = quota_names(policy).zip(policy.quotas()).map(member).collect();
        let listed = |(index, it): (usize, &Member)| match draft {
            RateLimitHeaders::Draft8 => {
                Some(format!("{}q={};w={}", it.prefix.strip_suffix("r=")?, it.count, it.window))
            }
            // These drafts identify a policy by its count, so only the strictest of equal counts is listed.
            _ if is_redundant(&members, index) => None,
            _ => Some(format!("{};w={}", it.count, it.window)),
        };
        let list: Vec<String> = members.iter().enumerate().filter_map(listed).collect();
        // Names and numbers are checked, so they are valid header values.
        let policy = HeaderValue::try_from(list.join(", ")).ok()?;
        Some(Self { draft, x_reset, policy, members })
    }

    /// The values of the fields for a decision, with the wait of its response.
    pub(in crate::response) fn standing(&self, decision: &Decision, wait: Option<Duration>) -> Option<QuotaStatus> {
        let index = if decision.limit_index() < self.members.len() { decision.limit_index() } else { 0 };
        let member = self.members.get(index)?;
        let remaining = match decision.verdict() {
            // The quota may have room, but this request was shed.
            Verdict::Suppressed { is_allowed: false } => 0,
            _ => decision.remaining().min(member.count),
        };
        if decision.is_allowed() && remaining > 0 {
            return Some(QuotaStatus { index, remaining, reset: Some(member.window) });
        }
        if wait.is_none() && !decision.is_allowed() && remaining == 0 {
            return Some(QuotaStatus { index, remaining, reset: None });
        }
        let reset = integer(wait.map_or(member.window, retry_after::seconds));
        // Units may remain after a request with a large cost was refused. The fields offer no more of them than the
        // quota's own rate.
        let at_rate = u128::from(member.count) * u128::from(reset) / u128::from(member.window);
        let remaining = u64::try_from(at_rate).unwrap_or(u64::MAX).min(remaining);
        Some(QuotaStatus { index, remaining, reset: Some(reset) })
    }

    /// Adds the fields to an admitted request's response, and keeps present ones.
    pub(in crate::response) fn admitted(&self, standing: &QuotaStatus, headers: &mut HeaderMap) {
        self.append(standing, headers);
    }

    /// Adds the fields to a refusal, unless its handler has set them.
    pub(in crate::response) fn refused(&self, standing: &QuotaStatus, headers: &mut HeaderMap) {
        if !headers.contains_key(RATELIMIT) && !headers.contains_key(POLICY) {
            self.append(standing, headers);
        }
    }

    fn append(&self, standing: &QuotaStatus, headers: &mut HeaderMap) {
        let Some(Member { prefix, count, limit, .. }) = self.members.get(standing.index) else { return };
        let QuotaStatus { remaining, reset, .. } = *standing;
        if let Some(format) = self.x_reset {
            let reset = match format {
                ResetFormat::DeltaSeconds => reset,
                ResetFormat::EpochSeconds => reset.map(|reset| merge::epoch(SystemTime::now(), reset)),
            };
            merge::triple(headers, &X, limit, remaining, reset);
        }
        if self.draft != RateLimitHeaders::None {
            merge::append(headers, POLICY, self.policy.clone());
        }
        match self.draft {
            RateLimitHeaders::Draft8 => {
                let member = match reset {
                    Some(reset) => line([(prefix, remaining), (";t=", reset)]),
                    None => line([(prefix, remaining)]),
                };
                if let Some(member) = member {
                    merge::append(headers, RATELIMIT, member);
                }
            }
            RateLimitHeaders::Draft7 => merge::dictionary(headers, RATELIMIT, *count, remaining, reset),
            RateLimitHeaders::Draft6 => merge::triple(headers, &DRAFT6, limit, remaining, reset),
            RateLimitHeaders::XRateLimit { .. } | RateLimitHeaders::None => {}
        }
    }
}

/// Whether another quota with the same count has a longer window, or an equal window and an earlier position.
fn is_redundant(members: &[Member], index: usize) -> bool {
    let Some(it) = members.get(index) else { return false };
    let stricter = |(n, other): (usize, &Member)| {
        other.count == it.count && (other.window > it.window || (other.window == it.window && n < index))
    };
    members.iter().enumerate().any(stricter)
}
