//! A number as an exact fraction.

/// `num / den`, reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    num: u64,
    den: u64,
}

impl Ratio {
    /// Converts a finite number of at least 0 into the simplest fraction that rounds to it.
    ///
    /// So 2.05 is 41/20, and 1.0 / 60.0 is 1/60. The shortest decimal would leave 0.99999 units per minute for the
    /// latter. Numbers below 2^-60 become 0, and numbers above 2^64 become 2^64 - 1. Both are far outside the range of
    /// a limit.
    pub(super) fn from_f64(value: f64) -> Self {
        let bits = value.to_bits();
        let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
        // value = mantissa x 2^power
        let (mantissa, power) = ((bits & ((1 << 52) - 1)) | (1 << 52), exponent - 1_075);
        match power {
            ..-112 => Self { num: 0, den: 1 },
            -112..=-1 => {
                let (low, high, den) = (2 * u128::from(mantissa) - 1, 2 * u128::from(mantissa) + 1, 1 << (1 - power));
                let (num, den) = simplest((low, den), (high, den));
                Self::reduced(num, den)
            }
            0..=11 => Self { num: mantissa << power, den: 1 },
            _ => Self { num: u64::MAX, den: 1 },
        }
    }

    pub(super) fn reduced(num: u128, den: u128) -> Self {
        let shared = gcd(num, den).max(1);
        let (mut num, mut den) = (num / shared, den / shared);
        while den > u128::from(u64::MAX) {
            // Rounding down never admits too much.
            (num, den) = (num / 10, den.div_ceil(10));
        }
        Self { num: u64::try_from(num).unwrap_or(u64::MAX), den: u64::try_from(den).unwrap_or(u64::MAX) }
    }

    /// `floor(self * units)`, saturating.
    #[inline]
    pub(super) fn times(self, units: u64) -> u64 {
        if self.den == 1 {
            return self.num.saturating_mul(units);
        }
        match self.num.checked_mul(units) {
            Some(product) => product / self.den,
            None => u64::try_from(u128::from(self.num) * u128::from(units) / u128::from(self.den)).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn num(self) -> u64 {
        self.num
    }

    pub(super) fn den(self) -> u64 {
        self.den
    }
}

/// The fraction with the smallest denominator from `low` to `high`, which are above 0 (Stern and Brocot).
fn simplest((low, low_den): (u128, u128), (high, high_den): (u128, u128)) -> (u128, u128) {
    let whole = low / low_den;
    if low % low_den == 0 {
        return (whole, 1);
    }
    if whole < high / high_den {
        return (whole + 1, 1);
    }
    let (num, den) = simplest((high_den, high - whole * high_den), (low_den, low - whole * low_den));
    (whole * num + den, num)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_the_intended_fractions() {
        for (value, num, den) in [
            (2.05, 41, 20),
            (0.5, 1, 2),
            (10.0, 10, 1),
            (1e10, 10_000_000_000, 1),
            (0.1, 1, 10),
            (1.15, 23, 20),
            (0.333, 333, 1_000),
            (123.456_789, 123_456_789, 1_000_000),
            (1.0 / 60.0, 1, 60),
            (100.0 / 3.0, 100, 3),
            (7.0 / 86_400.0, 7, 86_400),
            (1e15 + 0.5, 2_000_000_000_000_001, 2),
            (1e300, u64::MAX, 1),
            (1e-300, 0, 1),
            (0.0, 0, 1),
            (f64::MIN_POSITIVE, 0, 1),
            (f64::MAX, u64::MAX, 1),
        ] {
            assert_eq!(Ratio::from_f64(value), Ratio { num, den }, "{value}");
        }
    }

    #[test]
    fn the_fraction_rounds_to_the_number() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let value = rng.f64() * 10_f64.powi(rng.i32(-6..12));
            let Ratio { num, den } = Ratio::from_f64(value);
            assert!((num as f64 / den as f64 - value).abs() <= value * 3e-16, "{value}: {num}/{den}");
        }
    }

    #[test]
    fn a_product_is_exact_and_saturates() {
        assert_eq!(Ratio::from_f64(2.05).times(60), 123);
        assert_eq!(Ratio::from_f64(1.15).times(100), 115);
        assert_eq!(Ratio::from_f64(1e300).times(u64::MAX), u64::MAX);
        assert_eq!(Ratio::reduced(123, 60).times(60), 123);
        assert_eq!(Ratio { num: u64::MAX, den: 2 }.times(4), u64::MAX);
    }
}
