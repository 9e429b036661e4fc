//! Arithmetic on two 16-bit floats in a register (PTX ISA, "Half precision floating-point instructions", and "tanh").
//! Of bf16 all but `fma` and `max` is for sm_90 and later.

use core::arch::asm;
use layout::pair::{Constant, PairInstructions};

macro_rules! instructions {
    ($type:ident, $bits:ident, $name:literal) => {
        #[doc = concat!("Instructions on a `", $name, "`.")]
        pub struct $type;

        impl PairInstructions for $type {
            #[inline(always)]
            fn both(c: Constant) -> u32 {
                c.$bits as u32 * 0x1_0001
            }

            #[inline(always)]
            fn mul(a: u32, b: u32) -> u32 {
                let y: u32;
                // SAFETY: computes on registers.
                unsafe {
                    asm!(concat!("mul.rn.", $name, " {}, {}, {};"), out(reg32) y, in(reg32) a, in(reg32) b,
                        options(pure, nomem, nostack));
                }
                y
            }

            #[inline(always)]
            fn fma(a: u32, b: u32, c: u32) -> u32 {
                let y: u32;
                // SAFETY: computes on registers.
                unsafe {
                    asm!(concat!("fma.rn.", $name, " {}, {}, {}, {};"), out(reg32) y, in(reg32) a, in(reg32) b,
                        in(reg32) c, options(pure, nomem, nostack));
                }
                y
            }

            #[inline(always)]
            fn max(a: u32, b: u32) -> u32 {
                let y: u32;
                // SAFETY: computes on registers.
                unsafe {
                    asm!(concat!("max.NaN.", $name, " {}, {}, {};"), out(reg32) y, in(reg32) a, in(reg32) b,
                        options(pure, nomem, nostack));
                }
                y
            }

            #[inline(always)]
            fn tanh(a: u32) -> u32 {
                let y: u32;
                // SAFETY: computes on registers.
                unsafe {
                    asm!(concat!("tanh.approx.", $name, " {}, {};"), out(reg32) y, in(reg32) a,
                        options(pure, nomem, nostack));
                }
                y
            }
        }
    };
}

instructions!(F16Pairs, f16, "f16x2");
instructions!(Bf16Pairs, bf16, "bf16x2");
