//! What a warp does together (PTX ISA, "bar.warp.sync", "elect.sync").

use core::arch::asm;

/// `bar.warp.sync`: waits for the 32 lanes and orders their memory accesses.
///
/// All lanes of the warp must reach it together.
#[inline(always)]
pub fn sync_warp() {
    // SAFETY: the caller brings all lanes, as documented.
    unsafe { asm!("bar.warp.sync 0xffffffff;", options(nostack)) }
}

/// `elect.sync`: true in one lane, always the same. ptxas knows that no other lane is in a branch on it, and needs no
/// loop over lanes for instructions that take their operands from the warp.
///
/// All lanes of the warp must reach it together.
#[inline(always)]
pub fn elect() -> bool {
    let elected: u32;
    // SAFETY: the caller brings all lanes, as documented.
    unsafe {
        asm!(
            "{{",
            ".reg .pred %elected;",
            "elect.sync _|%elected, 0xffffffff;",
            "selp.u32 {}, 1, 0, %elected;",
            "}}",
            out(reg32) elected,
            options(nostack),
        );
    }
    elected != 0
}
