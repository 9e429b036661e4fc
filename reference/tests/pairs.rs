//! The activations on pairs of 16-bit floats (`layout::pair`): every number of both types, with a `tanh` as far off
//! as it may be.

use half::{bf16, f16};
use layout::activation::{Activation, Math};
use layout::pair::{Constant, PAIR_ROUNDINGS, PairInstructions};
use reference::Scalar;

/// A 16-bit float in both halves of a register.
trait Half: Scalar {
    /// Largest error of `tanh`, less what rounding it here may add.
    const TANH: f64;
    fn of(register: u32) -> f64;
    fn to(x: f64) -> u32;
    fn constant(c: Constant) -> u16;
}

impl Half for f16 {
    const TANH: f64 = 0.000_492_7 - 1.0 / 4096.0;

    fn of(register: u32) -> f64 {
        f16::from_bits(register as u16).to_f64()
    }

    fn to(x: f64) -> u32 {
        f16::from_f64(x).to_bits() as u32 * 0x1_0001
    }

    fn constant(c: Constant) -> u16 {
        c.f16
    }
}

impl Half for bf16 {
    const TANH: f64 = 1.0 / 256.0 - 1.0 / 512.0;

    fn of(register: u32) -> f64 {
        bf16::from_bits(register as u16).to_f64()
    }

    fn to(x: f64) -> u32 {
        bf16::from_f64(x).to_bits() as u32 * 0x1_0001
    }

    fn constant(c: Constant) -> u16 {
        c.bf16
    }
}

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
        T::to((T::of(a).tanh() + SIGN as f64 * T::TANH).clamp(-1.0, 1.0))
    }
}

/// f64.
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
        x.exp()
    }

    fn erf(x: f64) -> f64 {
        libm::erf(x)
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
        let rounding = T::UNIT_ROUNDOFF * want.abs() + 1.5 * T::SMALLEST_SUBNORMAL;
        let error = (y - want).abs() - rounding;
        if error > 0.0 {
            largest = largest.max(error / (T::UNIT_ROUNDOFF * z.abs()));
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
