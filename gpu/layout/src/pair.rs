//! The activations as Hopper's kernels evaluate them where Y has 16 bits: on pairs of elements that have been rounded to
//! Y's type, by instructions that take both at once.
//!
//! It is what a GEMM and a kernel of activations behind it compute in turn, where Y is rounded between them. A third of
//! the instructions of [`approximation`](crate::approximation), of which the products of the next tile hide most.
//!
//! All three smooth activations are `h + h tanh(u)` of `h = z / 2`: SiLU with `u = h`, GELU with an odd polynomial of z.
//! The error, in units of the type's roundoff times |z|, besides the rounding of the result: the slope of the activation,
//! up to 1.13, as z is rounded, and at most 0.88 of what comes after it: `tanh`, which may be off by 2^-10.987 (f16) or
//! 2^-8 (bf16; PTX ISA, "tanh"), the rounding of u, and of GELU's erf form that it is a tanh (1.5e-4). A test tries all
//! numbers of both types with `tanh` as far off as it may be. All of it is within [`PAIR_ROUNDINGS`] times the slope.
//! Where z is subnormal it is off by half of the smallest number, and so is h.

use crate::activation::Activation;

/// The error of evaluating a smooth activation on pairs, in units of the type's roundoff times |z|, that of a
/// subnormal z aside, and to be multiplied by the activation's slope.
pub const PAIR_ROUNDINGS: u32 = 2;

/// A constant as it is in either type.
#[derive(Clone, Copy)]
pub struct Constant {
    /// Its bits in f16.
    pub f16: u16,
    /// Its bits in bf16.
    pub bf16: u16,
}

/// Instructions on two 16-bit floats in a register.
pub trait PairInstructions {
    /// The constant, twice.
    fn both(c: Constant) -> u32;
    /// `a * b`, rounded.
    fn mul(a: u32, b: u32) -> u32;
    /// `a * b + c`, rounded once.
    fn fma(a: u32, b: u32, c: u32) -> u32;
    /// The larger; NaN if one is NaN; +0 of two zeros of different sign.
    fn max(a: u32, b: u32) -> u32;
    /// The hyperbolic tangent with an absolute error of at most 2^-10.987 (f16) or 2^-8 (bf16).
    fn tanh(a: u32) -> u32;
}

const ZERO: Constant = Constant { f16: 0, bf16: 0 };
const HALF: Constant = Constant { f16: 0x3800, bf16: 0x3f00 };
/// -64, where all three are 0: keeps -Inf from `-Inf + Inf`.
const LOWEST: Constant = Constant { f16: 0xd400, bf16: 0xc280 };
/// The linear and the cubic term of the tanh form of GELU: sqrt(2 / pi), and 0.044715 of it.
const GELU_TANH: [Constant; 2] =
    [Constant { f16: 0x3a62, bf16: 0x3f4c }, Constant { f16: 0x2891, bf16: 0x3d12 }];
/// Those of the erf form: 0.79880 and 0.035282 (minimax in `erf(z / sqrt(2))`).
const GELU: [Constant; 2] =
    [Constant { f16: 0x3a64, bf16: 0x3f4c }, Constant { f16: 0x2884, bf16: 0x3d11 }];

impl Activation {
    /// The activation of two values. An infinite or NaN value gives what [`Self::apply`] says.
    #[inline(always)]
    pub fn approximate_pair<I: PairInstructions>(self, z: u32) -> u32 {
        match self {
            Self::None => z,
            Self::Relu => I::max(z, I::both(ZERO)),
            Self::Gelu => gelu::<I>(z, GELU),
            Self::GeluTanh => gelu::<I>(z, GELU_TANH),
            Self::Silu => {
                let h = I::mul(I::max(z, I::both(LOWEST)), I::both(HALF));
                I::fma(h, I::tanh(h), h)
            }
        }
    }
}

#[inline(always)]
fn gelu<I: PairInstructions>(z: u32, [linear, cubic]: [Constant; 2]) -> u32 {
    let z = I::max(z, I::both(LOWEST));
    let u = I::mul(z, I::fma(I::mul(z, z), I::both(cubic), I::both(linear)));
    let h = I::mul(z, I::both(HALF));
    I::fma(h, I::tanh(u), h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::tests::Wide;
    use half::{bf16, f16};

    /// A 16-bit float in both halves of a register.
    trait Half {
        /// Unit roundoff and smallest number.
        const UNIT: f64;
        const SMALLEST: f64;
        /// Largest error of `tanh`, less what rounding it here may add.
        const TANH: f64;
        fn of(register: u32) -> f64;
        fn to(x: f64) -> u32;
        fn constant(c: Constant) -> u16;
    }

    macro_rules! half {
        ($type:ident, $unit:expr, $smallest:expr, $tanh:expr) => {
            impl Half for $type {
                const UNIT: f64 = $unit;
                const SMALLEST: f64 = $smallest;
                const TANH: f64 = $tanh - $unit / 2.0;

                fn of(register: u32) -> f64 {
                    $type::from_bits(register as u16).to_f64()
                }

                fn to(x: f64) -> u32 {
                    $type::from_f64(x).to_bits() as u32 * 0x1_0001
                }

                fn constant(c: Constant) -> u16 {
                    c.$type
                }
            }
        };
    }

    half!(f16, 1.0 / 2048.0, 1.0 / (1 << 24) as f64, 0.000_492_7);
    half!(bf16, 1.0 / 256.0, f32::from_bits(1 << 16) as f64, 1.0 / 256.0);

    /// Instructions whose `tanh` is off by `SIGN` times the most that it may be.
    struct Worst<T, const SIGN: i32>(T);

    impl<T: Half, const SIGN: i32> PairInstructions for Worst<T, SIGN> {
        fn both(c: Constant) -> u32 {
            T::constant(c) as u32 * 0x1_0001
        }

        fn mul(a: u32, b: u32) -> u32 {
            T::to(T::of(a) * T::of(b))
        }

        fn fma(a: u32, b: u32, c: u32) -> u32 {
            T::to(T::of(a) * T::of(b) + T::of(c))
        }

        fn max(a: u32, b: u32) -> u32 {
            let (a, b) = (T::of(a), T::of(b));
            T::to(if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
        }

        fn tanh(a: u32) -> u32 {
            T::to((libm::tanh(T::of(a)) + SIGN as f64 * T::TANH).clamp(-1.0, 1.0))
        }
    }

    const SMOOTH: [Activation; 3] = [Activation::Gelu, Activation::GeluTanh, Activation::Silu];

    /// The largest error of any finite number, in units of the roundoff times it, besides the rounding of the result.
    fn largest<T: Half, const SIGN: i32>(activation: Activation) -> f64 {
        let mut largest: f64 = 0.0;
        for bits in 0..=u16::MAX {
            let z = T::of(bits as u32);
            if !z.is_finite() {
                continue;
            }
            let register = bits as u32 * 0x1_0001;
            let y = T::of(activation.approximate_pair::<Worst<T, SIGN>>(register));
            let want = activation.apply::<Wide>(z);
            let rounding = T::UNIT * want.abs() + 1.5 * T::SMALLEST;
            let error = (y - want).abs() - rounding;
            if error > 0.0 {
                largest = largest.max(error / (T::UNIT * z.abs()));
            }
        }
        largest
    }

    fn check<T: Half>() {
        for activation in SMOOTH {
            let errors = [
                largest::<T, -1>(activation),
                largest::<T, 0>(activation),
                largest::<T, 1>(activation),
            ];
            // Of what the bound allows, z's own rounding takes one.
            let allowed = (PAIR_ROUNDINGS - 1) as f64 * activation.max_slope();
            let found = errors.into_iter().fold(0.0, f64::max);
            assert!(found > 0.3 && found <= allowed, "{activation:?}: {errors:?} of {allowed}");
        }
    }

    #[test]
    fn errors_are_within_the_derivation() {
        check::<f16>();
        check::<bf16>();
    }

    #[test]
    fn relu_is_exact() {
        for bits in 0..=u16::MAX {
            let z = f16::from_bits(bits).to_f64();
            let register = bits as u32 * 0x1_0001;
            let y = f16::of(Activation::Relu.approximate_pair::<Worst<f16, 0>>(register));
            assert!(y == Activation::Relu.apply::<Wide>(z) || y.is_nan() && z.is_nan(), "{z}: {y}");
            let same = Activation::None.approximate_pair::<Worst<f16, 0>>(register);
            assert_eq!(same, register);
        }
    }

    #[test]
    fn what_is_not_finite_has_its_limit() {
        fn check<T: Half>() {
            for activation in SMOOTH {
                let of = |z: f64| T::of(activation.approximate_pair::<Worst<T, 0>>(T::to(z)));
                assert_eq!(of(f64::INFINITY), f64::INFINITY, "{activation:?}");
                assert_eq!(of(f64::NEG_INFINITY), 0.0, "{activation:?}");
                assert_eq!(of(-60_000.0), 0.0, "{activation:?}");
                assert!(of(f64::NAN).is_nan(), "{activation:?}");
            }
        }
        check::<f16>();
        check::<bf16>();
    }
}
