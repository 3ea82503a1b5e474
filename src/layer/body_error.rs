use std::error::Error;
use std::fmt;

/// The error of a response's body.
///
/// It converts into a boxed error if the error of the inner body does, which is what axum, tonic and hyper need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitBodyError<E> {
    /// The error of the inner service's body.
    Inner(E),
    /// The next frame did not fit a limit that [meters](crate::Limit::meter) responses.
    LimitExceeded,
}

/// The source of [`RateLimitBodyError::LimitExceeded`] in a boxed error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LimitExceeded;

const LIMIT_EXCEEDED: &str = "the response exceeded its rate limit";

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LIMIT_EXCEEDED)
    }
}

impl Error for LimitExceeded {}

impl<E: fmt::Display> fmt::Display for RateLimitBodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::LimitExceeded => f.write_str(LIMIT_EXCEEDED),
        }
    }
}

/// It does not implement [`Error`], so that bodies with a boxed error, which does not either, can be limited too.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<RateLimitBodyError<E>> for Box<dyn Error + Send + Sync> {
    fn from(error: RateLimitBodyError<E>) -> Self {
        match error {
            RateLimitBodyError::Inner(error) => error.into(),
            RateLimitBodyError::LimitExceeded => Box::new(LimitExceeded),
        }
    }
}
