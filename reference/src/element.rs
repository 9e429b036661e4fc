//! The number types: f16 and bf16 as inputs ([`Element`]), those, f32 and int8 as outputs ([`Scalar`]).

use core::fmt::Debug;

use half::{bf16, f16};
use layout::instance::Dtype;
use layout::packed24::{Bf16, F16, Float16};
use layout::params::Output;

/// A type that Y may have. What is said of floats holds for int8 as follows: the roundoff is 0, the
/// smallest positive number 1, and nothing overflows, as values saturate.
pub trait Scalar: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// Positive zero.
    const ZERO: Self;
    /// Largest relative error of rounding to the nearest.
    const UNIT_ROUNDOFF: f64;
    /// Smallest positive number.
    const SMALLEST_SUBNORMAL: f64;
    /// Largest finite number.
    const MAX_FINITE: f64;
    /// Smallest magnitude that rounds to infinity: half a unit beyond [`Self::MAX_FINITE`].
    const OVERFLOW: f64;
    /// The same value in f32; always exact.
    fn to_f32(self) -> f32;
    /// The same value in f64; always exact.
    fn to_f64(self) -> f64 {
        self.to_f32() as f64
    }
    /// `x` limited to what rounds to a number of this type: of int8 to -128..=127, of floats `x` itself.
    fn saturated(x: f64) -> f64 {
        x
    }
    /// The number nearest to `x`, ties to even. As int8, NaN is 0.
    fn from_f32(x: f32) -> Self;
    /// The bits, in the low end.
    fn bits(self) -> u32;
}

/// A type that X, W and bias may have.
pub trait Element: Scalar {
    /// How `layout::packed24` reads the bits of this type.
    type Format: Float16;
    /// The type's name in the kernel registry.
    const DTYPE: Dtype;
    /// The 16 bits.
    fn bits16(self) -> u16;
    /// The element of these bits.
    fn from_bits16(bits: u16) -> Self;
}

/// A type that Y may have where X and W are of type `T`.
pub trait OutputOf<T: Element>: Scalar {
    /// The type of C.
    type Addend: Scalar;
    /// How the kernels call the type of Y.
    const OUTPUT: Output;
}

impl OutputOf<f16> for f16 {
    type Addend = f16;
    const OUTPUT: Output = Output::Input;
}

impl OutputOf<bf16> for bf16 {
    type Addend = bf16;
    const OUTPUT: Output = Output::Input;
}

impl<T: Element> OutputOf<T> for f32 {
    type Addend = f32;
    const OUTPUT: Output = Output::F32;
}

impl<T: Element> OutputOf<T> for i8 {
    type Addend = T;
    const OUTPUT: Output = Output::Int8;
}

const fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

impl Scalar for f16 {
    const ZERO: Self = f16::ZERO;
    const UNIT_ROUNDOFF: f64 = power_of_two(-11);
    const SMALLEST_SUBNORMAL: f64 = power_of_two(-24);
    const MAX_FINITE: f64 = 65504.0;
    const OVERFLOW: f64 = 65520.0;

    // Without branches, so that converting a row is vectorised (`half` would go bit by bit).
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let magnitude = (self.to_bits() & 0x7FFF) as u32;
        let sign = ((self.to_bits() & 0x8000) as u32) << 16;
        // The exponent is re-biased by a multiplication by 2^112, which is right for subnormals too.
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
        let infinite = if magnitude >= F16::INFINITY as u32 { 0x7F80_0000 } else { 0 };
        f32::from_bits(scaled.to_bits() | infinite | sign)
    }

    #[inline]
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }

    fn bits(self) -> u32 {
        self.to_bits() as u32
    }
}

impl Scalar for bf16 {
    const ZERO: Self = bf16::ZERO;
    const UNIT_ROUNDOFF: f64 = power_of_two(-8);
    const SMALLEST_SUBNORMAL: f64 = power_of_two(-133);
    const MAX_FINITE: f64 = (2.0 - power_of_two(-7)) * power_of_two(127);
    const OVERFLOW: f64 = (2.0 - power_of_two(-8)) * power_of_two(127);

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }

    #[inline]
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }

    fn bits(self) -> u32 {
        self.to_bits() as u32
    }
}

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const UNIT_ROUNDOFF: f64 = power_of_two(-24);
    const SMALLEST_SUBNORMAL: f64 = 1.0 / (power_of_two(126) * power_of_two(23));
    const MAX_FINITE: f64 = f32::MAX as f64;
    const OVERFLOW: f64 = (2.0 - power_of_two(-24)) * power_of_two(127);

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Scalar for i8 {
    const ZERO: Self = 0;
    const UNIT_ROUNDOFF: f64 = 0.0;
    const SMALLEST_SUBNORMAL: f64 = 1.0;
    const MAX_FINITE: f64 = 127.0;
    const OVERFLOW: f64 = f64::INFINITY;

    fn saturated(x: f64) -> f64 {
        if x.is_nan() { 0.0 } else { x.clamp(-128.0, 127.0) }
    }

    fn to_f32(self) -> f32 {
        self.into()
    }

    // A cast saturates and takes NaN to 0.
    fn from_f32(x: f32) -> Self {
        x.round_ties_even() as i8
    }

    fn bits(self) -> u32 {
        self as u8 as u32
    }
}

impl Element for f16 {
    type Format = F16;
    const DTYPE: Dtype = Dtype::F16;

    #[inline(always)]
    fn bits16(self) -> u16 {
        self.to_bits()
    }

    #[inline(always)]
    fn from_bits16(bits: u16) -> Self {
        f16::from_bits(bits)
    }
}

impl Element for bf16 {
    type Format = Bf16;
    const DTYPE: Dtype = Dtype::Bf16;

    #[inline(always)]
    fn bits16(self) -> u16 {
        self.to_bits()
    }

    #[inline(always)]
    fn from_bits16(bits: u16) -> Self {
        bf16::from_bits(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_value<T: Element>(half_says: fn(u16) -> f32) {
        for bits in 0..=u16::MAX {
            let (x, want) = (T::from_bits16(bits).to_f32(), half_says(bits));
            assert!(x.to_bits() == want.to_bits() || x.is_nan() && want.is_nan(), "{bits:#x}");
            assert!(x.is_nan() || T::from_f32(x).bits16() == bits);
        }
    }

    #[test]
    fn every_16_bit_value_widens_exactly() {
        every_value::<f16>(|b| f16::from_bits(b).to_f32());
        every_value::<bf16>(|b| bf16::from_bits(b).to_f32());
    }

    fn limits<T: Element>() {
        let (max, tiny) = (T::from_bits16(T::Format::INFINITY - 1), T::from_bits16(1));
        assert_eq!((max.to_f64(), tiny.to_f64()), (T::MAX_FINITE, T::SMALLEST_SUBNORMAL));
        let overflow = T::OVERFLOW as f32;
        assert_eq!(T::from_f32(overflow).to_f32(), f32::INFINITY);
        assert_eq!(T::from_f32(overflow.next_down()), max);
        // 1 + u is the tie between 1 and its successor, and goes to the even one, 1.
        let tie = 1.0 + T::UNIT_ROUNDOFF as f32;
        assert_eq!(T::from_f32(tie).to_f32(), 1.0);
        assert_eq!(T::from_f32(tie.next_up()).to_f64(), 1.0 + 2.0 * T::UNIT_ROUNDOFF);
    }

    #[test]
    fn int8_rounds_to_even_and_saturates() {
        let cases = [
            (0.5, 0),
            (1.5, 2),
            (-2.5, -2),
            (126.5, 126),
            (127.49, 127),
            (128.0, 127),
            (-128.5, -128),
            (-1e30, -128),
            (f32::INFINITY, 127),
            (f32::NAN, 0),
        ];
        for (x, want) in cases {
            assert_eq!(i8::from_f32(x), want, "{x}");
            assert!((i8::saturated(x as f64) - want as f64).abs() <= 0.5, "{x}");
        }
    }

    #[test]
    fn the_constants_are_those_of_the_bits() {
        limits::<f16>();
        limits::<bf16>();
        assert_eq!(f32::SMALLEST_SUBNORMAL, f32::from_bits(1) as f64);
        assert_eq!(
            (f32::OVERFLOW as f32, f32::OVERFLOW.next_down() as f32),
            (f32::INFINITY, f32::MAX)
        );
    }
}
