//! `mma.sync` m16n8k16 with f32 or f16 accumulation (PTX ISA, "mma", sm_80). Fragments:
//! `layout::fragment`.

use core::arch::asm;
use layout::packed24::{Bf16, F16};

/// Operand types of `mma.sync.m16n8k16` whose products are summed in a fragment `D`: `[f32; 4]`, or, of f16
/// only, `[u32; 2]`, the same four elements as pairs of f16, the first in the low half.
pub trait Mma<D> {
    /// `d += a . b`, a 16x16 and row-major, b 16x8 and column-major.
    ///
    /// All lanes of the warp must reach it together.
    fn mma(d: &mut D, a: &[u32; 4], b: &[u32; 2]);
}

macro_rules! implement {
    ($type:ty, $name:literal) => {
        impl Mma<[f32; 4]> for $type {
            #[inline(always)]
            fn mma(d: &mut [f32; 4], a: &[u32; 4], b: &[u32; 2]) {
                // SAFETY: reads and writes registers; the caller brings all lanes.
                unsafe {
                    asm!(
                        concat!("mma.sync.aligned.m16n8k16.row.col.f32.", $name, ".", $name, ".f32 ",
                            "{{{0}, {1}, {2}, {3}}}, {{{4}, {5}, {6}, {7}}}, {{{8}, {9}}}, ",
                            "{{{0}, {1}, {2}, {3}}};"),
                        inout(reg32) d[0], inout(reg32) d[1], inout(reg32) d[2], inout(reg32) d[3],
                        in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                        in(reg32) b[0], in(reg32) b[1],
                        options(nomem, nostack),
                    );
                }
            }
        }
    };
}

implement!(F16, "f16");
implement!(Bf16, "bf16");

impl Mma<[u32; 2]> for F16 {
    #[inline(always)]
    fn mma(d: &mut [u32; 2], a: &[u32; 4], b: &[u32; 2]) {
        // SAFETY: reads and writes registers; the caller brings all lanes.
        unsafe {
            asm!(
                "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 \
                    {{{0}, {1}}}, {{{2}, {3}, {4}, {5}}}, {{{6}, {7}}}, {{{0}, {1}}};",
                inout(reg32) d[0], inout(reg32) d[1],
                in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                in(reg32) b[0], in(reg32) b[1],
                options(nomem, nostack),
            );
        }
    }
}
