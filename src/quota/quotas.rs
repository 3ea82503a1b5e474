use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::count::Quota;
use crate::error::ConfigError;

/// The quotas of one request, where they depend on the request.
///
/// It is one [`Quota`], several quotas, [`Quotas::UNLIMITED`] or [`Quotas::BLOCKED`].
///
/// The text form is `unlimited`, `blocked`, or quotas with commas between them, as in `100/s, 5000/h`.
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

const UNLIMITED: &str = "unlimited";
const BLOCKED: &str = "blocked";

impl FromStr for Quotas {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.trim() {
            UNLIMITED => Ok(Self::UNLIMITED),
            BLOCKED => Ok(Self::BLOCKED),
            text => text.split(',').map(str::parse).collect::<Result<Vec<Quota>, _>>().map(Self::from),
        }
    }
}

impl fmt::Display for Quotas {
    /// Writes the text that parses as the same quotas. With a quota of 0 among them, that is `blocked`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_slice() {
            [] => f.write_str(UNLIMITED),
            quotas if quotas.iter().any(|quota| quota.count() == 0) => f.write_str(BLOCKED),
            [first, others @ ..] => {
                write!(f, "{first}")?;
                others.iter().try_for_each(|quota| write!(f, ", {quota}"))
            }
        }
    }
}

impl TryFrom<&str> for Quotas {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl TryFrom<String> for Quotas {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl<const N: usize> TryFrom<[&str; N]> for Quotas {
    type Error = ConfigError;

    fn try_from(texts: [&str; N]) -> Result<Self, ConfigError> {
        let quotas: Result<Vec<Quota>, _> = texts.iter().map(|text| text.parse()).collect();
        quotas.map(Self::from)
    }
}

#[cfg(feature = "serde")]
mod as_data {
    use std::fmt;

    use serde::de::{Error as _, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::error::ConfigError;
    use crate::quota::count::Quota;
    use crate::quota::quotas::Quotas;

    impl Serialize for Quotas {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    /// Reads a text, or a list of quotas. An error of a list refers to its element.
    impl<'de> Deserialize<'de> for Quotas {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(OneOrMore)
        }
    }

    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Quotas;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a quota such as \"100/s\", a list of quotas, \"unlimited\" or \"blocked\"")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quotas, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Quotas, A::Error> {
            let mut quotas = Vec::new();
            while let Some(quota) = list.next_element::<Quota>()? {
                quotas.push(quota);
            }
            if quotas.is_empty() { Err(A::Error::custom(ConfigError::NoQuota)) } else { Ok(quotas.into()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quotas_parse_from_their_text(list in prop::collection::vec((1..=1_u64 << 39, 1..=u64::MAX), 0..9)) {
            let quota = |(count, ms)| Quota::new(count, std::time::Duration::from_millis(ms)).unwrap();
            let quotas = Quotas::from(list.into_iter().map(quota).collect::<Vec<_>>());
            prop_assert_eq!(quotas.to_string().parse(), Ok(quotas));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z/,. ]{0,40}|\\PC{0,40}") {
            let _ = text.parse::<Quotas>();
        }
    }

    #[test]
    fn a_text_is_one_quota_or_several_or_a_word() {
        for (text, want) in [
            ("3/s", Ok(Quotas::try_from(["3/s"]).unwrap())),
            (" 3/s ,100/h", Quotas::try_from(["3/s", "100/h"])),
            ("unlimited", Ok(Quotas::UNLIMITED)),
            ("blocked", Ok(Quotas::BLOCKED)),
            ("", Err(ConfigError::InvalidQuota(String::new()))),
            ("3/s,", Err(ConfigError::InvalidQuota(String::new()))),
            ("3/s, often", Err(ConfigError::InvalidQuota(" often".into()))),
        ] {
            assert_eq!(text.parse::<Quotas>(), want, "{text:?}");
        }
        assert_eq!(Quotas::UNLIMITED.to_string(), "unlimited");
        assert_eq!(Quotas::from([Quota::per_second(3).unwrap(), Quota::reject_all()]).to_string(), "blocked");
    }

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
