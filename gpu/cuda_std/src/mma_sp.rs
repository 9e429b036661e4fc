//! `mma.sp::ordered_metadata` m16n8k32 with f32 or f16 accumulation (PTX ISA 8.5, "mma.sp", sm_80).
//! Fragments: `layout::fragment`; metadata words: `layout::packed24`.

use core::arch::asm;
use layout::packed24::{Bf16, F16};

/// Operand types of `mma.sp.m16n8k32` whose products are summed in a fragment `D`, as in [`crate::mma::Mma`].
pub trait MmaSp<D> {
    /// `d += a . b`, a 16x32 and 2:4 sparse (16x16 values), b 32x8 and column-major. `metadata` is the
    /// lane's word of a Packed24 block; `SELECTOR` 0 or 1 takes the block's first or second 32 columns.
    ///
    /// All lanes of the warp must reach it together.
    fn mma_sp<const SELECTOR: u32>(d: &mut D, a: &[u32; 4], b: &[u32; 4], metadata: u32);
}

macro_rules! implement {
    ($type:ty, $name:literal) => {
        impl MmaSp<[f32; 4]> for $type {
            #[inline(always)]
            fn mma_sp<const SELECTOR: u32>(
                d: &mut [f32; 4],
                a: &[u32; 4],
                b: &[u32; 4],
                metadata: u32,
            ) {
                // SAFETY: reads and writes registers; the caller brings all lanes.
                unsafe {
                    asm!(
                        concat!("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.", $name,
                            ".", $name, ".f32 {{{0}, {1}, {2}, {3}}}, {{{4}, {5}, {6}, {7}}}, ",
                            "{{{8}, {9}, {10}, {11}}}, {{{0}, {1}, {2}, {3}}}, {12}, {13};"),
                        inout(reg32) d[0], inout(reg32) d[1], inout(reg32) d[2], inout(reg32) d[3],
                        in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                        in(reg32) b[0], in(reg32) b[1], in(reg32) b[2], in(reg32) b[3],
                        in(reg32) metadata, const SELECTOR,
                        options(nomem, nostack),
                    );
                }
            }
        }
    };
}

implement!(F16, "f16");
implement!(Bf16, "bf16");

impl MmaSp<[u32; 2]> for F16 {
    #[inline(always)]
    fn mma_sp<const SELECTOR: u32>(d: &mut [u32; 2], a: &[u32; 4], b: &[u32; 4], metadata: u32) {
        // SAFETY: reads and writes registers; the caller brings all lanes.
        unsafe {
            asm!(
                "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f16.f16.f16.f16 \
                    {{{0}, {1}}}, {{{2}, {3}, {4}, {5}}}, {{{6}, {7}, {8}, {9}}}, {{{0}, {1}}}, {10}, {11};",
                inout(reg32) d[0], inout(reg32) d[1],
                in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                in(reg32) b[0], in(reg32) b[1], in(reg32) b[2], in(reg32) b[3],
                in(reg32) metadata, const SELECTOR,
                options(nomem, nostack),
            );
        }
    }
}
