//! The two strategies: as a value, and as types that a store's calls carry.

use crate::quota::HardLimitFactor;

/// How requests over the limit are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Strategy {
    /// What fits is admitted and the rest rejected, with the exact time of the next chance.
    #[default]
    Absolute,
    /// An overload is thinned smoothly to the limit, and never passes the limit times this factor.
    Suppressed(HardLimitFactor),
}

/// Marks calls of the absolute strategy.
#[derive(Clone, Copy, Debug)]
pub struct Absolute(());

/// Marks calls of the suppressed strategy.
#[derive(Clone, Copy, Debug)]
pub struct Suppressed(());

/// The two strategies.
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
