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
