//! Moving registers between the warpgroups of a block (PTX ISA, "setmaxnreg", sm_90a).
//!
//! The kernel needs launch bounds: they fix how many registers a thread starts with.

use core::arch::asm;

/// Gives back registers until each thread of the warp has `COUNT`: 24 to 256, a multiple of 8, and no
/// more than it has. ptxas keeps the code behind it within that.
///
/// All warps of the warpgroup must reach it, with all their lanes together.
#[inline(always)]
pub fn decrease<const COUNT: u32>() {
    // SAFETY: ptxas knows the count; the caller brings the warpgroup.
    unsafe { asm!("setmaxnreg.dec.sync.aligned.u32 {};", const COUNT, options(nostack)) }
}

/// Takes registers until each thread of the warp has `COUNT`: 24 to 256, a multiple of 8, and no fewer
/// than it has. Waits, if need be for ever, until other warps of the block have given them back.
///
/// All warps of the warpgroup must reach it, with all their lanes together.
#[inline(always)]
pub fn increase<const COUNT: u32>() {
    // SAFETY: ptxas knows the count; the caller brings the warpgroup.
    unsafe { asm!("setmaxnreg.inc.sync.aligned.u32 {};", const COUNT, options(nostack)) }
}
