//! Conversions (PTX ISA, "cvt") and the f32 instructions of the epilogue ("fma", "ex2", "rcp", "max").

use crate::pair::{Bf16Pairs, F16Pairs};
use core::arch::asm;
use layout::approximation::Instructions;
use layout::packed24::{Bf16, F16};
use layout::pair::PairInstructions;

/// Conversion between a 16-bit float type and f32, two elements in a 32-bit register at a time, the
/// first in the low half.
pub trait Convert {
    /// Arithmetic on two elements.
    type Pairs: PairInstructions;
    /// Both elements to f32, exactly.
    fn widen(pair: u32) -> [f32; 2];
    /// Two f32 rounded to nearest even.
    fn narrow(low: f32, high: f32) -> u32;
}

impl Convert for F16 {
    type Pairs = F16Pairs;

    #[inline(always)]
    fn widen(pair: u32) -> [f32; 2] {
        let (low, high): (f32, f32);
        // SAFETY: computes on registers.
        unsafe {
            asm!("cvt.f32.f16 {}, {};", out(reg32) low, in(reg16) pair as u16,
                options(pure, nomem, nostack));
            asm!("cvt.f32.f16 {}, {};", out(reg32) high, in(reg16) (pair >> 16) as u16,
                options(pure, nomem, nostack));
        }
        [low, high]
    }

    #[inline(always)]
    fn narrow(low: f32, high: f32) -> u32 {
        let pair: u32;
        // SAFETY: computes on registers.
        unsafe {
            asm!("cvt.rn.f16x2.f32 {}, {}, {};", out(reg32) pair, in(reg32) high, in(reg32) low,
                options(pure, nomem, nostack));
        }
        pair
    }
}

impl Convert for Bf16 {
    type Pairs = Bf16Pairs;

    #[inline(always)]
    fn widen(pair: u32) -> [f32; 2] {
        [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
    }

    #[inline(always)]
    fn narrow(low: f32, high: f32) -> u32 {
        let pair: u32;
        // SAFETY: computes on registers.
        unsafe {
            asm!("cvt.rn.bf16x2.f32 {}, {}, {};", out(reg32) pair, in(reg32) high, in(reg32) low,
                options(pure, nomem, nostack));
        }
        pair
    }
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let d: f32;
    // SAFETY: computes on registers.
    unsafe {
        asm!("fma.rn.f32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack));
    }
    d
}

/// The nearest integer, ties to even, saturated to -128..=127; NaN becomes 0. In the low 8 bits.
#[inline(always)]
pub fn to_i8(x: f32) -> u32 {
    let integer: u32;
    // SAFETY: computes on registers.
    unsafe {
        asm!("cvt.rni.sat.s8.f32 {}, {};", out(reg32) integer, in(reg32) x,
            options(pure, nomem, nostack));
    }
    integer & 0xFF
}

/// The hardware's instructions for activations. `.ftz` saves the three instructions that scale subnormals.
pub struct Hardware;

impl Instructions for Hardware {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        fma(a, b, c)
    }

    #[inline(always)]
    fn exp2(x: f32) -> f32 {
        let y: f32;
        // SAFETY: computes on registers.
        unsafe {
            asm!("ex2.approx.ftz.f32 {}, {};", out(reg32) y, in(reg32) x,
                options(pure, nomem, nostack));
        }
        y
    }

    #[inline(always)]
    fn recip(x: f32) -> f32 {
        let y: f32;
        // SAFETY: computes on registers.
        unsafe {
            asm!("rcp.approx.ftz.f32 {}, {};", out(reg32) y, in(reg32) x,
                options(pure, nomem, nostack));
        }
        y
    }

    #[inline(always)]
    fn max(a: f32, b: f32) -> f32 {
        let larger: f32;
        // SAFETY: computes on registers.
        unsafe {
            asm!("max.NaN.f32 {}, {}, {};", out(reg32) larger, in(reg32) a, in(reg32) b,
                options(pure, nomem, nostack));
        }
        larger
    }
}
