//! A list of networks as a list of texts.

use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::networks::Networks;
use crate::error::ConfigError;
use crate::quota::FromText;

/// One network, so that an error refers to its element.
struct One(Networks);

impl FromStr for One {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Networks::new([text]).map(Self)
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FromText::read(deserializer)
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.texts())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let networks = Vec::<One>::deserialize(deserializer)?;
        match networks.is_empty() {
            true => Err(D::Error::custom(ConfigError::NoNetwork)),
            false => Ok(Self::union(networks.iter().map(|one| &one.0))),
        }
    }
}
