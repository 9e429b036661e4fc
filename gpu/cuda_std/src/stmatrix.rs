//! `stmatrix` (PTX ISA, "stmatrix", sm_90): the inverse of `ldmatrix`.

use core::arch::asm;

macro_rules! store {
    ($(#[$doc:meta])* $name:ident, $trans:literal) => {
        $(#[$doc])*
        ///
        /// All lanes of the warp must reach it together.
        ///
        /// # Safety
        /// `row` is the shared-memory address of 16 writable bytes, 16-byte aligned.
        #[inline(always)]
        pub unsafe fn $name(row: u32, v: [u32; 4]) {
            // SAFETY: the caller vouches for the address and brings all lanes.
            unsafe {
                asm!(
                    concat!("stmatrix.sync.aligned.m8n8.x4", $trans,
                        ".shared.b16 [{}], {{{}, {}, {}, {}}};"),
                    in(reg32) row, in(reg32) v[0], in(reg32) v[1], in(reg32) v[2],
                    in(reg32) v[3], options(nostack),
                );
            }
        }
    };
}

store!(
    /// Stores four 8x8 matrices of 16-bit elements: lanes 8i..8i+7 point at the rows of matrix i, and
    /// lane l supplies in register i the elements 2(l%4), 2(l%4)+1 of row l/4 of it.
    x4, "");
store!(
    /// As [`x4`], but lane l supplies the elements 2(l%4), 2(l%4)+1 of COLUMN l/4.
    x4_trans, ".trans");
