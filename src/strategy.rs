//! The two strategies as types: which of them a store's handle calls.

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
