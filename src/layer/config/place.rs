//! The place of a definition, for errors.

use crate::error::ConfigError;

/// The place of a limit in a configuration, or in the code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Place {
    #[default]
    Code,
    /// The limit with this position in the list.
    Limit(usize),
    /// The whole list, which is empty.
    Limits,
}

impl Place {
    /// Adds the field to an error, if there is one and the error has none.
    pub(crate) fn wrap(self, error: ConfigError) -> ConfigError {
        let part = match &error {
            ConfigError::InvalidField { .. } => return error,
            ConfigError::TooManyLimits { .. } => "",
            ConfigError::DuplicateLimitName(_)
            | ConfigError::InvalidPolicyName(_)
            | ConfigError::AnswerTooLarge { .. } => ".name",
            ConfigError::InvalidHardLimitFactor(_) => ".suppressed",
            ConfigError::InvalidPercentage(_) => ".mode",
            ConfigError::InvalidBan(_) => ".ban",
            ConfigError::InvalidInFlight(_) | ConfigError::InFlightConflict { .. } => ".in_flight",
            ConfigError::InvalidTopKeys(_) => ".top_keys",
            ConfigError::MeterConflict(_) => ".meter",
            ConfigError::AtLimitWithoutMeter(_) => ".at_limit",
            // An error of a route's quotas is wrapped where the route is known.
            ConfigError::InvalidRoute(_) => ".costs",
            _ => ".quotas",
        };
        self.at(part, error)
    }

    /// Adds the field of a route to an error, if there is one.
    pub(crate) fn wrap_route(self, route: &str, error: ConfigError) -> ConfigError {
        self.at(&format!(".routes[{route:?}]"), error)
    }

    fn at(self, part: &str, error: ConfigError) -> ConfigError {
        match self {
            Self::Code => error,
            Self::Limit(index) => field(format!("limits[{index}]{part}"), error),
            Self::Limits => field("limits".into(), error),
        }
    }
}

/// An error in a field.
pub(crate) fn field(field: String, error: ConfigError) -> ConfigError {
    ConfigError::InvalidField { field, error: Box::new(error) }
}
