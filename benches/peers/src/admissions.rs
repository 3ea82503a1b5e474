//! Admitted requests on a line of time, in seconds.

/// Admissions: when each was asked for, and when that was answered.
pub struct Admissions(Vec<(f64, f64)>);

impl Admissions {
    pub fn new(admissions: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut admissions: Vec<_> = admissions.into_iter().collect();
        admissions.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(admissions)
    }

    /// The admissions that were asked for in the span.
    fn asked(&self, from: f64, to: f64) -> &[(f64, f64)] {
        let upto = |end: f64| self.0.partition_point(|(asked, _)| *asked < end);
        &self.0[upto(from)..upto(to).max(upto(from))]
    }

    /// The units that were certainly admitted in the span: asked for and answered in it.
    pub fn within(&self, from: f64, to: f64) -> usize {
        self.asked(from, to).iter().filter(|(_, answered)| *answered < to).count()
    }

    /// The most units that were certainly admitted in a window, of those windows that begin in the span.
    pub fn most(&self, window: f64, from: f64, to: f64) -> usize {
        // A fullest window begins with an admission.
        let begins = self.asked(from, to).iter().map(|(asked, _)| *asked);
        begins.map(|begin| self.within(begin, begin + window)).max().unwrap_or(0)
    }

    /// Rates per second in steps of time, each at the begin of its step, and the last one again at the end.
    pub fn rates(&self, step: f64, from: f64, to: f64) -> Vec<(f64, f64)> {
        let rate = |from| (from, self.asked(from, from + step).len() as f64 / step);
        let mut rates: Vec<_> = grid(step, from, to - step).map(rate).collect();
        rates.extend(rates.last().map(|&(_, rate)| (to, rate)));
        rates
    }

    /// The units in the window before each step of time.
    pub fn windows(&self, window: f64, step: f64, to: f64) -> Vec<(f64, f64)> {
        grid(step, 0.0, to).map(|at| (at, self.within(at - window, at) as f64)).collect()
    }
}

fn grid(step: f64, from: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..=((to - from) / step).round() as u32).map(move |at| from + f64::from(at) * step)
}
