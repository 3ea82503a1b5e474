//! The two strategies: as a value, and as marker types for a store's calls.

use crate::quota::HardLimitFactor;

/// How a limit treats requests beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Strategy {
    /// The limit admits requests that fit and rejects the rest, with the exact wait.
    #[default]
    Absolute,
    /// The limit thins an overload smoothly. It never admits more than the limit times this factor.
    Suppressed(HardLimitFactor),
}

/// Marks calls with the absolute strategy.
#[derive(Clone, Copy, Debug)]
pub struct Absolute(());

/// Marks calls with the suppressed strategy.
#[derive(Clone, Copy, Debug)]
pub struct Suppressed(());

/// A marker for one of the two strategies.
pub trait StrategyKind: sealed::Sealed {
    #[doc(hidden)]
    const IS_SUPPRESSED: bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Absolute {}
    impl Sealed for super::Suppressed {}
}

impl StrategyKind for Absolute {
    const IS_SUPPRESSED: bool = false;
}

impl StrategyKind for Suppressed {
    const IS_SUPPRESSED: bool = true;
}
