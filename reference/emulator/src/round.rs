//! Correct rounding to the narrow floating-point formats.
//!
//! A result is first computed exactly, or to f64 with round-to-odd (which keeps in its last bit that
//! something was lost), and then rounded once to its format by [`narrow`]. That is exact because f64 has
//! at least two bits more than any format here (Boldo, Melquiond: "Emulation of FMA and correctly rounded
//! sums: proved algorithms using rounding to odd").

/// A rounding mode: `.rn`, `.rna`, `.rz`, `.rm`, `.rp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rounding {
    NearestEven,
    NearestAway,
    Zero,
    Down,
    Up,
}

impl Rounding {
    /// The mode of a modifier.
    pub fn parse(modifier: &str) -> Option<Self> {
        Some(match modifier {
            "rn" => Self::NearestEven,
            "rna" => Self::NearestAway,
            "rz" => Self::Zero,
            "rm" => Self::Down,
            "rp" => Self::Up,
            _ => return None,
        })
    }
}

/// A binary floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Fraction bits.
    pub fraction: u32,
    /// Exponent bits.
    pub exponent: u32,
    /// Zero bits below the fraction (tf32 lies in the upper bits of a 32-bit register).
    pub below: u32,
}

/// `.f16`
pub const F16: Format = Format { fraction: 10, exponent: 5, below: 0 };
/// `.bf16`
pub const BF16: Format = Format { fraction: 7, exponent: 8, below: 0 };
/// `.tf32`
pub const TF32: Format = Format { fraction: 10, exponent: 8, below: 13 };
/// `.f32`
pub const F32: Format = Format { fraction: 23, exponent: 8, below: 0 };

impl Format {
    /// The NaN that arithmetic gives: all ones but the sign.
    pub fn nan(self) -> u64 {
        ((1 << (self.fraction + self.exponent)) - 1) << self.below
    }

    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }
}

/// Rounds to a format; the bits of the result.
pub fn narrow(value: f64, format: Format, rounding: Rounding) -> u64 {
    let Format { fraction, exponent, below } = format;
    if value.is_nan() {
        return format.nan();
    }
    let negative = value.is_sign_negative();
    let bits = value.to_bits() & (u64::MAX >> 1);
    let magnitude = if value.is_infinite() {
        format.infinity()
    } else if bits == 0 {
        0
    } else {
        let biased = (bits >> 52) as i32;
        // |value| = mantissa * 2^scale
        let (mantissa, scale) = match biased {
            0 => (bits, -1074),
            _ => (bits & ((1 << 52) - 1) | 1 << 52, biased - 1075),
        };
        let smallest = 2 - (1 << (exponent - 1));
        let top = scale + mantissa.ilog2() as i32;
        let quantum = top.max(smallest) - fraction as i32;
        let drop = quantum - scale;
        let (kept, lost, half) = match drop {
            ..=0 => (mantissa << (-drop).min(63), 0, 1),
            1..=63 => (mantissa >> drop, mantissa & ((1 << drop) - 1), 1 << (drop - 1)),
            // Less than half of the smallest step.
            _ => (0, 1, 2),
        };
        let up = match rounding {
            Rounding::NearestEven => lost > half || lost == half && kept & 1 != 0,
            Rounding::NearestAway => lost >= half && lost != 0,
            Rounding::Zero => false,
            Rounding::Down => negative && lost != 0,
            Rounding::Up => !negative && lost != 0,
        };
        let offset = (quantum + fraction as i32 - smallest) as u64;
        let result = (offset << fraction) + kept + u64::from(up);
        if result < format.infinity() {
            result
        } else {
            let outwards = match rounding {
                Rounding::NearestEven | Rounding::NearestAway => true,
                Rounding::Zero => false,
                Rounding::Down => negative,
                Rounding::Up => !negative,
            };
            format.infinity() - u64::from(!outwards)
        }
    };
    (magnitude | u64::from(negative) << (fraction + exponent)) << below
}

/// The value of a 16-bit float.
pub fn widen16(bits: u16, format: Format) -> f64 {
    if format == F16 {
        half::f16::from_bits(bits).to_f64()
    } else {
        half::bf16::from_bits(bits).to_f64()
    }
}

/// A NaN of f64 as a narrower format has it: the upper bits of its payload.
pub fn narrow_nan(value: f64, format: Format) -> u64 {
    let bits = value.to_bits();
    let width = format.fraction + format.exponent;
    let payload = (bits & ((1 << 52) - 1)) >> (52 - format.fraction);
    let quiet = 1 << (format.fraction - 1);
    (bits >> 63) << width | format.infinity() | payload | quiet
}

/// `a + b` to f64 with round-to-odd.
pub fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // Knuth's two-sum: sum + error = a + b exactly.
    let virtual_b = sum - a;
    let error = (a - (sum - virtual_b)) + (b - virtual_b);
    odd(sum, error)
}

/// An integer to f64 with round-to-odd.
pub fn odd_integer(value: i128) -> f64 {
    let high = value as f64;
    odd(high, (value - high as i128) as f64)
}

/// `high + low`, where `high` is their rounded sum, with round-to-odd.
fn odd(high: f64, low: f64) -> f64 {
    if low == 0.0 || low.is_nan() || !high.is_finite() || high.to_bits() & 1 != 0 {
        high
    } else if low > 0.0 {
        high.next_up()
    } else {
        high.next_down()
    }
}

/// Rounds a round-to-odd sum of integers to f64 in a direction: `high` is the nearest f64.
pub fn integer_to_f64(value: i128, rounding: Rounding) -> f64 {
    let high = value as f64;
    let low = value - high as i128;
    let towards_zero = (low < 0 && value > 0) || (low > 0 && value < 0);
    match rounding {
        Rounding::Zero if towards_zero && value > 0 => high.next_down(),
        Rounding::Zero if towards_zero => high.next_up(),
        Rounding::Down if low < 0 => high.next_down(),
        Rounding::Up if low > 0 => high.next_up(),
        _ => high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rounding::{Down, NearestAway, NearestEven, Up, Zero};

    #[test]
    fn agrees_with_the_host_on_f32() {
        let mut bits = 0x3ff0_0000_0000_0001_u64;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let mut value = f64::from_bits(bits);
            if bits & 1 != 0 {
                // Near the range of f32, where it matters.
                let exponent = 1023 - 160 + (bits >> 20) % 320;
                value = f64::from_bits(bits & 0x800f_ffff_ffff_ffff | exponent << 52);
            }
            if !value.is_nan() {
                let host = u64::from((value as f32).to_bits());
                assert_eq!(narrow(value, F32, NearestEven), host, "{value:e}");
            }
        }
    }

    #[test]
    fn halves_by_hand() {
        assert_eq!(narrow(1.0, F16, NearestEven), 0x3c00);
        assert_eq!(narrow(65504.0, F16, NearestEven), 0x7bff);
        assert_eq!(narrow(65519.9, F16, NearestEven), 0x7bff);
        assert_eq!(narrow(65520.0, F16, NearestEven), 0x7c00);
        assert_eq!(narrow(1e9, F16, Zero), 0x7bff);
        assert_eq!(narrow(-1e9, F16, Up), 0xfbff);
        assert_eq!(narrow(-1e9, F16, Down), 0xfc00);
        // 1 + 2^-11 is half-way between 0x3c00 and 0x3c01.
        assert_eq!(narrow(1.0 + 2f64.powi(-11), F16, NearestEven), 0x3c00);
        assert_eq!(narrow(1.0 + 2f64.powi(-11), F16, NearestAway), 0x3c01);
        assert_eq!(narrow(1.0 + 2f64.powi(-11) + 1e-13, F16, NearestEven), 0x3c01);
        // Subnormals: the smallest is 2^-24.
        assert_eq!(narrow(2f64.powi(-24), F16, NearestEven), 1);
        assert_eq!(narrow(2f64.powi(-25), F16, NearestEven), 0);
        assert_eq!(narrow(2f64.powi(-25) * 1.01, F16, NearestEven), 1);
        assert_eq!(narrow(-1e-30, F16, Down), 0x8001);
        assert_eq!(narrow(f64::NAN, BF16, NearestEven), 0x7fff);
        assert_eq!(narrow(1.0, TF32, NearestAway), 0x3f80_0000);
        assert_eq!(narrow(1.0 + 2f64.powi(-11), TF32, NearestAway), 0x3f80_2000);
    }

    #[test]
    fn odd_sums_keep_the_sticky_bit() {
        // A tie in bf16 that a tiny addend breaks, far below the last bit of f64.
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(narrow(odd_sum(tie, 1e-30), BF16, NearestEven), 0x3f81);
        assert_eq!(narrow(odd_sum(tie, -1e-30), BF16, NearestEven), 0x3f80);
        assert_eq!(odd_integer(i128::from(u64::MAX)).to_bits() & 1, 1);
        assert_eq!(integer_to_f64(i128::from(u64::MAX), Zero), 18_446_744_073_709_549_568.0);
        assert_eq!(integer_to_f64(i128::from(u64::MAX), Up), 18_446_744_073_709_551_616.0);
    }
}
