//! The activations of the fused epilogue, one definition for every number type.
//!
//! [`Activation::apply`] is written over [`Math`], the few elementary functions it needs: the device
//! supplies them in f32 with the hardware's approximations, the reference in f64.

use core::ops::{Add, Mul, Neg};

/// What is applied to `alpha * X.W^T + beta * C + bias`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// The value itself.
    #[default]
    None = 0,
    /// `max(z, 0)`; NaN stays NaN.
    Relu = 1,
    /// `z * Phi(z)`, the exact (erf) form of GELU.
    Gelu = 2,
    /// The tanh approximation of GELU (Hendrycks and Gimpel, 2016).
    GeluTanh = 3,
    /// `z * sigmoid(z)`.
    Silu = 4,
}

/// Elementary functions of a number type.
pub trait Math {
    /// The number type.
    type Real: Copy
        + PartialOrd
        + Add<Output = Self::Real>
        + Mul<Output = Self::Real>
        + Neg<Output = Self::Real>;
    /// The number nearest to `x`.
    fn constant(x: f64) -> Self::Real;
    /// 1 / x.
    fn recip(x: Self::Real) -> Self::Real;
    /// e to the power of x.
    fn exp(x: Self::Real) -> Self::Real;
    /// The error function.
    fn erf(x: Self::Real) -> Self::Real;
}

impl Activation {
    /// Every activation, in the order of its number.
    pub const ALL: [Self; 5] = [Self::None, Self::Relu, Self::Gelu, Self::GeluTanh, Self::Silu];

    /// The largest slope: how much an error of z can grow. (GELU: at z = sqrt(2); SiLU: near 2.4.)
    pub const fn max_slope(self) -> f64 {
        match self {
            Self::None | Self::Relu => 1.0,
            Self::Gelu | Self::GeluTanh => 1.13,
            Self::Silu => 1.1,
        }
    }

    /// The activation of `z`.
    #[inline(always)]
    pub fn apply<M: Math>(self, z: M::Real) -> M::Real {
        let c = M::constant;
        match self {
            Self::None => z,
            Self::Relu => {
                if z < c(0.0) {
                    c(0.0)
                } else {
                    z
                }
            }
            Self::Gelu => c(0.5) * z * (c(1.0) + M::erf(z * c(core::f64::consts::FRAC_1_SQRT_2))),
            // (1 + tanh u) / 2 is the sigmoid of 2u, and 2 * sqrt(2 / pi) is 1.5957...
            Self::GeluTanh => {
                z * sigmoid::<M>(c(1.595_769_121_605_731) * (z + c(0.044_715) * z * z * z))
            }
            Self::Silu => z * sigmoid::<M>(z),
        }
    }
}

#[inline(always)]
fn sigmoid<M: Math>(z: M::Real) -> M::Real {
    M::recip(M::constant(1.0) + M::exp(-z))
}

/// erf in f32 by formula 7.1.26 of Abramowitz and Stegun, absolute error below 1.5e-7: what an
/// implementation of [`Math`] without an error function of its own uses.
#[inline(always)]
pub fn erf_f32<M: Math<Real = f32>>(x: f32) -> f32 {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];
    let magnitude = if x < 0.0 { -x } else { x };
    let t = M::recip(1.0 + P * magnitude);
    let poly = t * (A[0] + t * (A[1] + t * (A[2] + t * (A[3] + t * A[4]))));
    let y = 1.0 - poly * M::exp(-(x * x));
    if x < 0.0 { -y } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Wide;
    impl Math for Wide {
        type Real = f64;
        fn constant(x: f64) -> f64 {
            x
        }
        fn recip(x: f64) -> f64 {
            1.0 / x
        }
        fn exp(x: f64) -> f64 {
            libm::exp(x)
        }
        fn erf(x: f64) -> f64 {
            libm::erf(x)
        }
    }

    struct Narrow;
    impl Math for Narrow {
        type Real = f32;
        fn constant(x: f64) -> f32 {
            x as f32
        }
        fn recip(x: f32) -> f32 {
            1.0 / x
        }
        fn exp(x: f32) -> f32 {
            libm::expf(x)
        }
        fn erf(x: f32) -> f32 {
            erf_f32::<Self>(x)
        }
    }

    #[test]
    fn known_values() {
        // Published: Phi(1) = 0.841344746068543, sigmoid(1) = 0.731058578630005.
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(Activation::Gelu.apply::<Wide>(1.0), 0.841344746068543);
        near(Activation::Gelu.apply::<Wide>(-1.0), -0.158655253931457);
        near(Activation::Silu.apply::<Wide>(1.0), 0.731058578630005);
        near(Activation::Relu.apply::<Wide>(-3.0), 0.0);
        near(Activation::Relu.apply::<Wide>(3.0), 3.0);
        let tanh_form =
            |z: f64| 0.5 * z * (1.0 + libm::tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)));
        for i in -80..=80 {
            let z = i as f64 * 0.1;
            near(Activation::GeluTanh.apply::<Wide>(z), tanh_form(z));
        }
    }

    /// The f32 evaluation stays within `EPILOGUE_ROUNDINGS` units of 2^-24 of |z|, the constant the
    /// tolerance of the reference is derived with.
    #[test]
    fn single_precision_error() {
        for act in Activation::ALL {
            for i in -200_000..=200_000 {
                let z = i as f32 * 1e-4;
                let err = (act.apply::<Narrow>(z) as f64 - act.apply::<Wide>(z as f64)).abs();
                let bound =
                    crate::params::EPILOGUE_ROUNDINGS as f64 / 16_777_216.0 * z.abs() as f64;
                assert!(err <= bound, "{act:?} at {z}: {err} > {bound}");
            }
        }
    }

    #[test]
    fn slopes_are_bounded() {
        for act in Activation::ALL {
            let mut largest = 0.0f64;
            for i in -100_000..100_000 {
                let (z, h) = (i as f64 * 1e-4, 1e-4);
                let rise = act.apply::<Wide>(z + h) - act.apply::<Wide>(z);
                largest = largest.max((rise / h).abs());
            }
            assert!(largest <= act.max_slope() + 1e-9, "{act:?}: {largest}");
        }
    }

    #[test]
    fn nan_and_infinity() {
        for act in Activation::ALL {
            assert!(act.apply::<Narrow>(f32::NAN).is_nan(), "{act:?}");
            assert_eq!(act.apply::<Narrow>(f32::INFINITY), f32::INFINITY, "{act:?}");
        }
    }
}
