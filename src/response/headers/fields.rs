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

/// Whether a refusal handler has set the fields.
pub(in crate::response) fn are_set(headers: &HeaderMap) -> bool {
    headers.contains_key(RATELIMIT) || headers.contains_key(POLICY)
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

    /// Adds the fields to an admitted request's response, and keeps present ones. The wait is `None` while units remain.
    pub(in crate::response) fn admitted(
        &self,
        limit_index: usize,
        remaining: u64,
        wait: Option<Duration>,
        headers: &mut HeaderMap,
    ) {
        let Some(member) = self.member(limit_index) else { return };
        match remaining.min(member.count) {
            0 => self.append(member, 0, Some(member.reset(wait)), headers),
            remaining => self.append(member, remaining, Some(member.window), headers),
        }
    }

    /// Adds the fields to a refusal with this wait.
    pub(in crate::response) fn refused(&self, decision: &Decision, wait: Option<Duration>, headers: &mut HeaderMap) {
        let Some(member) = self.member(decision.limit_index()) else { return };
        let remaining = match decision.verdict() {
            // The quota may have room, but this request was shed.
            Verdict::Suppressed { .. } => 0,
            _ => decision.remaining().min(member.count),
        };
        if wait.is_none() && remaining == 0 {
            return self.append(member, 0, None, headers);
        }
        // Units may remain after a request with a large cost was refused. The fields offer no more of them than the
        // quota's own rate.
        let reset = member.reset(wait);
        let at_rate = || u128::from(member.count) * u128::from(reset) / u128::from(member.window);
        let remaining = match remaining {
            0 => 0,
            _ => u64::try_from(at_rate()).unwrap_or(u64::MAX).min(remaining),
        };
        self.append(member, remaining, Some(reset), headers);
    }

    /// The quota with this index, or the first one.
    fn member(&self, index: usize) -> Option<&Member> {
        self.members.get(index).or(self.members.first())
    }

    /// Appends the fields. The reset is `None` if no wait helps.
    fn append(&self, member: &Member, remaining: u64, reset: Option<u64>, headers: &mut HeaderMap) {
        let Member { prefix, count, limit, .. } = member;
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

impl Member {
    /// The wait in seconds, or the window without one.
    fn reset(&self, wait: Option<Duration>) -> u64 {
        integer(wait.map_or(self.window, retry_after::seconds))
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
