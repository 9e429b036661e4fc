//! Values of other lanes (PTX ISA, "shfl.sync").

use core::arch::asm;

macro_rules! shuffle {
    ($(#[$doc:meta])* $name:ident, $mode:literal, $clamp:literal, $operand:ident) => {
        $(#[$doc])*
        ///
        /// All lanes of the warp must reach it together.
        #[inline(always)]
        pub fn $name(value: u32, $operand: u32) -> u32 {
            let other: u32;
            // SAFETY: moves registers; the caller brings all lanes.
            unsafe {
                asm!(concat!("shfl.sync.", $mode, ".b32 {}, {}, {}, ", $clamp, ", 0xffffffff;"),
                    out(reg32) other, in(reg32) value, in(reg32) $operand,
                    options(nomem, nostack));
            }
            other
        }
    };
}

shuffle!(
    /// `value` of lane `lane` (modulo 32).
    index, "idx", "31", lane);
shuffle!(
    /// `value` of the lane whose index differs in the bits of `bits` (below 32).
    butterfly, "bfly", "31", bits);
shuffle!(
    /// `value` of the lane `distance` (below 32) above; the lane's own where there is none.
    down, "down", "31", distance);
shuffle!(
    /// `value` of the lane `distance` (below 32) below; the lane's own where there is none.
    up, "up", "0", distance);
