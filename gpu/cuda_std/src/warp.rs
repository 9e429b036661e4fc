//! Warp barrier (PTX ISA, "bar.warp.sync").

use core::arch::asm;

/// `bar.warp.sync`: waits for the 32 lanes and orders their memory accesses.
///
/// All lanes of the warp must reach it together.
#[inline(always)]
pub fn sync_warp() {
    // SAFETY: the caller brings all lanes, as documented.
    unsafe { asm!("bar.warp.sync 0xffffffff;", options(nostack)) }
}
