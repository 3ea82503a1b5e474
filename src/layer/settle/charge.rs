/// What a request is charged, for a function that knows its response; see [`Limit::settle`](crate::Limit::settle).
#[derive(Debug)]
pub struct Charge {
    units: u64,
    refusals: u64,
}

impl Charge {
    pub(in crate::layer) fn new(units: u64) -> Self {
        Self { units, refusals: 0 }
    }

    /// The units that the request is charged.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Sets the units that the request is charged.
    ///
    /// Fewer units are a refund. More units are asked of the limit like a new request: if they do not fit, the charge
    /// stays as it is.
    pub fn set(&mut self, units: u64) {
        self.units = units;
    }

    /// Takes the whole charge back.
    pub fn refund(&mut self) {
        self.units = 0;
    }

    /// Counts a refusal for the [ban](crate::Limit::ban) of the limit, if it has one that counts refusals.
    pub fn penalise(&mut self) {
        self.refusals = self.refusals.saturating_add(1);
    }

    pub(in crate::layer) fn refusals(&self) -> u64 {
        self.refusals
    }
}
