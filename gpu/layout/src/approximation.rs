//! The activations as the kernels evaluate them in f32: few instructions, and an error that is known. Hopper's kernels
//! do it in the type of Y where that has 16 bits, see [`pair`](crate::pair).
//!
//! Nothing hides the epilogue of a tile, so each instruction of it costs. All three smooth activations are
//! `z * F(z)` with `F(z) + F(-z) = 1`, hence `max(z, 0) - a * F(-a)` of `a = |z|`, and what remains is a
//! tail that falls from 1/2 to 0:
//!
//! - GELU, both forms: `-log2 F(-a)` is so smooth that a short polynomial replaces it: one `ex2`.
//! - SiLU: `F(-a) = e / (1 + e)` of `e = 2^(-a log2(e))`, and one `rcp` for four elements, as the special
//!   functions run at an eighth of the other instructions' rate. `1 + e` is at most 2: nothing overflows.
//!
//! The error, in units of 2^-24 of `|z|`, where F(-a) <= 1/2 halves what is relative to it:
//!
//! | | GELU | SiLU |
//! |---|---|---|
//! | polynomial (weighted minimax) | 2 | |
//! | its evaluation, or the exponent's: rounded at `p < 2` by half a unit each, ln 2 * F | 1.1 | 0.4 |
//! | `ex2` (2^-22 of it): F, or F (1 - F) | 2 | 1 |
//! | `1 + e`, five products, `rcp` (1 ulp) | | 3.8 |
//! | the last `fma` | 1 | 1 |
//!
//! all within [`ACTIVATION_ROUNDINGS`](crate::params::ACTIVATION_ROUNDINGS), which the tests try with `ex2`
//! and `rcp` as far off as they may be. No element depends on its neighbours: `a` is never NaN or infinite.

use crate::activation::Activation;

/// The instructions of f32 that the approximations are made of, besides `+`, `*`, `abs` and `min` (which
/// takes a number over a NaN).
pub trait Instructions {
    /// `a * b + c`, rounded once.
    fn fma(a: f32, b: f32, c: f32) -> f32;
    /// 2 to the power of x with a relative error of at most 2^-22, and 0 below 2^-126.
    fn exp2(x: f32) -> f32;
    /// 1 / x with an error of at most one unit in the last place.
    fn recip(x: f32) -> f32;
    /// The larger; NaN if one is NaN; +0 of two zeros of different sign.
    fn max(a: f32, b: f32) -> f32;
}

/// log2 of the tail of [`Activation::Gelu`], ascending. It falls all the way to [`TAIL_END`], as does the next.
const GELU: [f32; 7] = [
    -0.999_999_7,
    -1.151_122_1,
    -0.459_060_25,
    -0.052_965_425,
    0.007_754_437,
    -0.000_658_616_3,
    1.917_643_6e-5,
];
/// log2 of the tail of [`Activation::GeluTanh`].
const GELU_TANH: [f32; 9] = [
    -1.000_000_2,
    -1.151_082,
    -0.459_489_02,
    -0.050_299_626,
    0.005_195_39,
    0.002_695_714,
    -0.001_993_076_2,
    0.000_346_420_7,
    -1.855_997_1e-5,
];
/// Where the tails of both GELU are below 2^-126, so that `exp2` gives 0.
const TAIL_END: f32 = 14.0;
/// The same of SiLU.
const SILU_END: f32 = 128.0;

impl Activation {
    /// The activation of four values. An infinite or NaN value gives what [`Self::apply`] says.
    #[inline(always)]
    pub fn approximate<I: Instructions>(self, z: [f32; 4]) -> [f32; 4] {
        match self {
            Self::None => z,
            Self::Relu => z.map(|z| I::max(z, 0.0)),
            Self::Gelu => z.map(|z| gelu::<I, _>(z, GELU)),
            Self::GeluTanh => z.map(|z| gelu::<I, _>(z, GELU_TANH)),
            Self::Silu => silu::<I>(z),
        }
    }
}

#[inline(always)]
fn gelu<I: Instructions, const N: usize>(z: f32, log2_tail: [f32; N]) -> f32 {
    let a = z.abs().min(TAIL_END);
    let mut p = log2_tail[N - 1];
    for i in (0..N - 1).rev() {
        p = I::fma(p, a, log2_tail[i]);
    }
    I::fma(-a, I::exp2(p), I::max(z, 0.0))
}

#[inline(always)]
fn silu<I: Instructions>(z: [f32; 4]) -> [f32; 4] {
    let a = z.map(|z| z.abs().min(SILU_END));
    let e = a.map(|a| I::exp2(a * -core::f32::consts::LOG2_E));
    let d = e.map(|e| 1.0 + e);
    let (low, high) = (d[0] * d[1], d[2] * d[3]);
    let all = I::recip(low * high);
    let (low, high) = (all * high, all * low);
    let recip = [low * d[1], low * d[0], high * d[3], high * d[2]];
    core::array::from_fn(|i| I::fma(-(a[i] * e[i]), recip[i], I::max(z[i], 0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::tests::Wide;
    use crate::params::ACTIVATION_ROUNDINGS;

    /// Instructions whose approximations are as far off as is allowed, up or down: `ex2` where bit 0 of
    /// `SIGNS` is set, `rcp` where bit 1 is.
    struct Worst<const SIGNS: u32>;

    fn off(exact: f64, relative: f64, up: bool) -> f32 {
        (if up { exact * (1.0 + relative) } else { exact * (1.0 - relative) }) as f32
    }

    impl<const SIGNS: u32> Instructions for Worst<SIGNS> {
        fn fma(a: f32, b: f32, c: f32) -> f32 {
            libm::fmaf(a, b, c)
        }

        fn exp2(x: f32) -> f32 {
            let y = off(libm::exp2(x as f64), 1.0 / (1u32 << 22) as f64, SIGNS & 1 != 0);
            if y < f32::MIN_POSITIVE { 0.0 } else { y }
        }

        fn recip(x: f32) -> f32 {
            off(1.0 / x as f64, 1.0 / (1u32 << 23) as f64, SIGNS & 2 != 0)
        }

        fn max(a: f32, b: f32) -> f32 {
            if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) + 0.0 }
        }
    }

    fn largest_error<I: Instructions>(act: Activation) -> f64 {
        let mut largest = 0.0f64;
        for i in -55_000..55_000 {
            // Four elements that lie far apart, so that they are judged together with all others.
            let z = [1.0, -0.37, 0.013, -5.1].map(|far| i as f32 * 3.7e-4 * far);
            for (z, y) in z.into_iter().zip(act.approximate::<I>(z)) {
                let error = (y as f64 - act.apply::<Wide>(z as f64)).abs();
                if error > 0.0 {
                    largest = largest.max(error / z.abs() as f64 * (1 << 24) as f64);
                }
            }
        }
        largest
    }

    #[test]
    fn errors_are_within_the_derivation() {
        for act in Activation::ALL {
            let errors = [
                largest_error::<Worst<0>>(act),
                largest_error::<Worst<1>>(act),
                largest_error::<Worst<2>>(act),
                largest_error::<Worst<3>>(act),
            ];
            let largest = errors.into_iter().fold(0.0, f64::max);
            assert!(largest <= ACTIVATION_ROUNDINGS as f64, "{act:?}: {errors:?}");
        }
    }

    #[test]
    fn tails_fall_to_zero() {
        // Beyond the grid above: each step of a down to where nothing is left.
        for act in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
            let mut before = f32::INFINITY;
            for i in 400..13_000 {
                let z = i as f32 * -0.01;
                let tail = act.approximate::<Worst<1>>([z; 4])[0] / z;
                assert!(0.0 <= tail && tail <= before, "{act:?} at {z}: {tail} after {before}");
                before = tail;
            }
            assert_eq!(before, 0.0, "{act:?}");
            for z in [-1e3, -1e30, f32::MIN, f32::NEG_INFINITY] {
                assert_eq!(act.approximate::<Worst<1>>([z; 4]), [0.0; 4], "{act:?} of {z}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_with_its_element() {
        for act in Activation::ALL {
            let z = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
            let y = act.approximate::<Worst<0>>(z);
            assert!(y[0].is_nan(), "{act:?}");
            for i in 1..4 {
                let want = act.apply::<Wide>(z[i] as f64);
                assert!(y[i] as f64 == want || (y[i] as f64 - want).abs() < 1e-6, "{act:?}: {y:?}");
            }
        }
    }
}
