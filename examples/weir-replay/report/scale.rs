//! From values to places on an axis.

/// An axis: the values at its ends, the places of these values, and how it counts.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) values: (f64, f64),
    pub(super) places: (f64, f64),
    pub(super) is_log: bool,
}

impl Axis {
    /// The place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let ((low, high), (from, to)) = (self.values, self.places);
        let part = if self.is_log { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) };
        from + part.clamp(0.0, 1.0) * (to - from)
    }

    /// Round values along the axis, about as many as fit.
    pub(super) fn ticks(&self, most: usize) -> Vec<f64> {
        let (low, high) = self.values;
        let ticks: Vec<f64> = if self.is_log {
            let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
            let within = |digits: &[f64]| -> Vec<f64> {
                let all =
                    decades.clone().flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
                all.filter(|value| (low * 0.999..=high * 1.001).contains(value)).collect()
            };
            [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]]
                .into_iter()
                .map(within)
                .find(|it| it.len() <= most)
                .unwrap_or_else(|| {
                    let all = within(&[1.0]);
                    let step = all.len().div_ceil(most.max(1));
                    all.into_iter().step_by(step).collect()
                })
        } else {
            let step = step(high - low, most);
            (0..=most).map(|at| low + at as f64 * step).take_while(|value| *value <= high * 1.000_001).collect()
        };
        // Sums of fractions are not exact.
        ticks.into_iter().map(|tick| (tick * 1e6).round() / 1e6).collect()
    }
}

/// A round step that divides a range into at most so many parts.
fn step(range: f64, most: usize) -> f64 {
    let least = range / most.max(1) as f64;
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * decade).find(|step| *step >= least).unwrap_or(10.0 * decade)
}

/// The end of an axis from 0: the next round value.
pub(super) fn round_up(most: f64, ticks: usize) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let step = step(most, ticks);
    (most / step - 1e-9).ceil() * step
}
