//! `ldmatrix` (PTX ISA, "ldmatrix", sm_75).

use core::arch::asm;

/// Loads four 8x8 matrices of 16-bit elements: lanes 8i..8i+7 point at the rows of matrix i, and lane
/// l receives in register i the elements 2(l%4), 2(l%4)+1 of row l/4 of it.
///
/// All lanes of the warp must reach it together.
///
/// # Safety
/// `row` is the shared-memory address of 16 readable bytes, 16-byte aligned.
#[inline(always)]
pub unsafe fn x4(row: u32) -> [u32; 4] {
    let (a, b, c, d): (u32, u32, u32, u32);
    // SAFETY: the caller vouches for the address and brings all lanes.
    unsafe {
        asm!("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{}, {}, {}, {}}}, [{}];", out(reg32) a,
            out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) row, options(nostack));
    }
    [a, b, c, d]
}
