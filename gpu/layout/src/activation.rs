//! The activations of the fused epilogue, one definition for every number type.
//!
//! [`Activation::apply`] is written over [`Math`], the few elementary functions it needs, which the reference
//! supplies in f32 and in f64. The kernels evaluate them as [`approximation`](crate::approximation) says.

use core::ops::{Add, Mul, Neg};

/// What is applied to `alpha * X.W^T + beta * C + bias`. NaN stays NaN; of infinities the limits are taken,
/// so that of -Inf all but the first give 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// The value itself.
    #[default]
    None = 0,
    /// `max(z, 0)`.
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
        let weight = match self {
            Self::None => return z,
            Self::Relu => return if z <= c(0.0) { c(0.0) } else { z },
            Self::Gelu => c(0.5) * (c(1.0) + M::erf(z * c(core::f64::consts::FRAC_1_SQRT_2))),
            // (1 + tanh u) / 2 is the sigmoid of 2u, and 2 * sqrt(2 / pi) is 1.5957...
            Self::GeluTanh => {
                sigmoid::<M>(c(1.595_769_121_605_731) * (z + c(0.044_715) * z * z * z))
            }
            Self::Silu => sigmoid::<M>(z),
        };
        // Not -Inf * 0.
        if weight <= c(0.0) { c(0.0) } else { z * weight }
    }
}

#[inline(always)]
fn sigmoid<M: Math>(z: M::Real) -> M::Real {
    M::recip(M::constant(1.0) + M::exp(-z))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct Wide;
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
            assert!(act.apply::<Wide>(f64::NAN).is_nan(), "{act:?}");
            assert_eq!(act.apply::<Wide>(f64::INFINITY), f64::INFINITY, "{act:?}");
            let limit = if act == Activation::None { f64::NEG_INFINITY } else { 0.0 };
            assert_eq!(act.apply::<Wide>(f64::NEG_INFINITY), limit, "{act:?}");
        }
    }
}
