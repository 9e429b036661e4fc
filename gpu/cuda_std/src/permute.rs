//! Bytes picked from two registers (PTX ISA, "prmt").

use core::arch::asm;

/// Four bytes of `low` (bytes 0 to 3) and `high` (4 to 7): byte i of the result is the one that bits
/// 4i to 4i + 2 of `selector` name. Bit 4i + 3 must be 0: it would fill the byte with the sign.
#[inline(always)]
pub fn bytes(low: u32, high: u32, selector: u32) -> u32 {
    let picked: u32;
    // SAFETY: computes on registers.
    unsafe {
        asm!("prmt.b32 {}, {}, {}, {};", out(reg32) picked, in(reg32) low, in(reg32) high,
            in(reg32) selector, options(pure, nomem, nostack));
    }
    picked
}
