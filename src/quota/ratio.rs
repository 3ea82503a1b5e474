//! A decimal number as an exact fraction.

/// `num / den`, reduced; `den` is a power of ten divided by what it shares with `num`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    num: u64,
    den: u64,
}

impl Ratio {
    /// Reads a finite number of at least 0 as its shortest decimal form says: 2.05 is 41/20.
    ///
    /// What is below 10^-19 becomes 0 and what is above 2^64 becomes 2^64 - 1; both are far outside of
    /// what a limit can use.
    pub(super) fn from_f64(value: f64) -> Self {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let fraction = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len());
        let digits = mantissa.bytes().filter(u8::is_ascii_digit);
        let digits = digits.fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        let scale = exponent.parse::<i32>().unwrap_or(0) - i32::try_from(fraction).unwrap_or(0);
        let power = 10_u128.checked_pow(scale.unsigned_abs());
        match (power, scale < 0) {
            (Some(power), true) => Self::reduced(digits, power),
            (Some(power), false) => Self::reduced(digits.saturating_mul(power), 1),
            (None, true) => Self { num: 0, den: 1 },
            (None, false) => Self { num: u64::MAX, den: 1 },
        }
    }

    pub(super) fn reduced(num: u128, den: u128) -> Self {
        let shared = gcd(num, den).max(1);
        let (mut num, mut den) = (num / shared, den / shared);
        while den > u128::from(u64::MAX) {
            // Seventeen digits over more than 10^19: rounded down, since a limit may err on one side only.
            (num, den) = (num / 10, den / 10);
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

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_written() {
        for (value, num, den) in [
            (2.05, 41, 20),
            (0.5, 1, 2),
            (10.0, 10, 1),
            (1e10, 10_000_000_000, 1),
            (0.1, 1, 10),
            (1.15, 23, 20),
            (1e300, u64::MAX, 1),
            (1e-300, 0, 1),
            (f64::MIN_POSITIVE, 0, 1),
            (f64::MAX, u64::MAX, 1),
        ] {
            assert_eq!(Ratio::from_f64(value), Ratio { num, den }, "{value}");
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
