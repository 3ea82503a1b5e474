//! How the values of a configuration are read and written as data. Each value checks itself, for a precise error.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use http::Method;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::ConfigError;
use crate::layer::exempt;
use crate::layer::routes::{Routes, method};
use crate::quota::FromText;
use crate::response;

/// A text that is valid.
macro_rules! checked_text {
    ($name:ident($value:ty), $check:expr) => {
        struct $name($value);

        impl FromStr for $name {
            type Err = ConfigError;

            fn from_str(text: &str) -> Result<Self, ConfigError> {
                let check: fn(&str) -> Result<$value, ConfigError> = $check;
                check(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                FromText::read(deserializer)
            }
        }
    };
}

checked_text!(Name(String), |name| response::check_name(name).map(|()| name.to_owned()));
checked_text!(Path(String), |path| exempt::check_path(path).map(|()| path.to_owned()));
checked_text!(Route(String), |route| Routes::default().insert(route, ()).map(|()| route.to_owned()));
checked_text!(Listed(Method), method);

pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Name::deserialize(deserializer).map(|name| name.0)
}

pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Path>::deserialize(deserializer)?.into_iter().map(|path| path.0).collect())
}

/// A map, in the order in which it was written.
struct Pairs<K, V>(Vec<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

struct InOrder<K, V>(PhantomData<fn() -> (K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for InOrder<K, V> {
    type Value = Pairs<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<K, V>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// A value for each route, such as `{ "POST /login" = "5/min" }`. No route is listed twice.
pub(super) mod routes {
    use serde::{Serialize, Serializer};

    use crate::layer::config::forms::*;

    pub(in crate::layer::config) fn serialize<S: Serializer, V: Serialize>(
        values: &[(String, V)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(route, value)| (route, value)))
    }

    pub(in crate::layer::config) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, V)>, D::Error> {
        let Pairs(pairs) = Pairs::<Route, V>::deserialize(deserializer)?;
        let mut known = Routes::default();
        pairs.iter().try_for_each(|(route, _)| known.insert(&route.0, ())).map_err(D::Error::custom)?;
        Ok(pairs.into_iter().map(|(route, value)| (route.0, value)).collect())
    }
}

/// Networks for each reader of addresses, such as `{ client-ip = ["10.0.0.0/8"] }`.
pub(super) mod networks {
    use serde::Serializer;

    use crate::key::{ClientIp, Networks};
    use crate::layer::client_networks::{self, ClientNetworks};
    use crate::layer::config::forms::*;

    pub(in crate::layer::config) fn serialize<S: Serializer>(
        lists: &[(ClientIp, Networks)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(lists.iter().map(|(ip, networks)| (ip, networks)))
    }

    pub(in crate::layer::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ClientNetworks, D::Error> {
        let Pairs(pairs) = Pairs::<ClientIp, Networks>::deserialize(deserializer)?;
        let mut all = ClientNetworks::new();
        for (ip, networks) in pairs {
            client_networks::add(&mut all, ip, &networks);
        }
        Ok(all)
    }
}

/// The same, but not every address.
pub(super) mod exempt_networks {
    use crate::layer::client_networks::ClientNetworks;
    use crate::layer::config::forms::*;

    pub(in crate::layer::config) use crate::layer::config::forms::networks::serialize;

    pub(in crate::layer::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ClientNetworks, D::Error> {
        let lists = networks::deserialize(deserializer)?;
        lists.iter().try_for_each(|(_, networks)| exempt::check_networks(networks)).map_err(D::Error::custom)?;
        Ok(lists)
    }
}

/// A list of at least one method, such as `["POST", "PUT"]`.
pub(super) mod methods {
    use serde::Serializer;

    use crate::layer::config::forms::*;

    pub(in crate::layer::config) fn serialize<S: Serializer>(
        methods: &Option<Vec<Method>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(methods.iter().flatten().map(Method::as_str))
    }

    pub(in crate::layer::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<Method>>, D::Error> {
        let methods: Vec<Method> = Vec::<Listed>::deserialize(deserializer)?.into_iter().map(|it| it.0).collect();
        if methods.is_empty() { Err(D::Error::custom(ConfigError::NoMethod)) } else { Ok(Some(methods)) }
    }
}
