use std::sync::Arc;

use super::count::Quota;
use crate::error::ConfigError;

/// The quotas of one request, where they depend on the request.
///
/// It is one [`Quota`], several quotas, [`Quotas::UNLIMITED`] or [`Quotas::BLOCKED`].
///
/// # Examples
///
/// ```
/// use tower_weir::Quotas;
///
/// enum Plan {
///     Free,
///     Pro,
///     Internal,
///     Suspended,
/// }
///
/// fn quotas(plan: &Plan) -> Result<Quotas, tower_weir::ConfigError> {
///     Ok(match plan {
///         Plan::Free => Quotas::try_from("60/min")?,
///         Plan::Pro => Quotas::try_from(["100/s", "100000/d"])?,
///         Plan::Internal => Quotas::UNLIMITED,
///         Plan::Suspended => Quotas::BLOCKED,
///     })
/// }
/// # assert_eq!(quotas(&Plan::Free)?.as_slice().len(), 1);
/// # assert_eq!(quotas(&Plan::Pro)?.as_slice().len(), 2);
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quotas(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Unlimited,
    /// Without an allocation, because it is the usual case.
    One(Quota),
    Several(Arc<[Quota]>),
}

impl Quotas {
    /// The request is admitted, and nothing is charged.
    pub const UNLIMITED: Self = Self(Kind::Unlimited);
    /// The request is refused, and no wait helps. It is the same as [`Quota::reject_all`].
    pub const BLOCKED: Self = Self(Kind::One(Quota::reject_all()));

    /// The quotas; none if the request is not limited.
    #[must_use]
    pub fn as_slice(&self) -> &[Quota] {
        match &self.0 {
            Kind::Unlimited => &[],
            Kind::One(quota) => std::slice::from_ref(quota),
            Kind::Several(quotas) => quotas,
        }
    }

    /// Whether the request is not limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl From<Quota> for Quotas {
    fn from(quota: Quota) -> Self {
        Self(Kind::One(quota))
    }
}

/// An empty list blocks: a list without quotas is more likely a mistake than a wish for no limit.
impl From<&[Quota]> for Quotas {
    fn from(quotas: &[Quota]) -> Self {
        match quotas {
            [] => Self::BLOCKED,
            [quota] => (*quota).into(),
            _ => Self(Kind::Several(quotas.into())),
        }
    }
}

impl<const N: usize> From<[Quota; N]> for Quotas {
    fn from(quotas: [Quota; N]) -> Self {
        quotas.as_slice().into()
    }
}

impl From<Vec<Quota>> for Quotas {
    fn from(quotas: Vec<Quota>) -> Self {
        quotas.as_slice().into()
    }
}

impl TryFrom<&str> for Quotas {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse::<Quota>().map(Self::from)
    }
}

impl<const N: usize> TryFrom<[&str; N]> for Quotas {
    type Error = ConfigError;

    fn try_from(texts: [&str; N]) -> Result<Self, ConfigError> {
        let quotas: Result<Vec<Quota>, _> = texts.iter().map(|text| text.parse()).collect();
        quotas.map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_blocks() {
        assert_eq!(Quotas::from(Vec::new()), Quotas::BLOCKED);
        assert!(!Quotas::BLOCKED.is_unlimited());
        assert_eq!(Quotas::BLOCKED.as_slice()[0].count(), 0);
        assert!(Quotas::UNLIMITED.is_unlimited());
    }

    #[test]
    fn one_quota_is_the_same_alone_and_in_a_list() {
        let quota = Quota::per_second(3).unwrap();
        assert_eq!(Quotas::from([quota]), Quotas::from(quota));
        assert!(Quotas::try_from("3/s").is_ok_and(|it| it == Quotas::from(quota)));
        assert!(Quotas::try_from(["3/s", "0/s"]).is_err());
    }
}
