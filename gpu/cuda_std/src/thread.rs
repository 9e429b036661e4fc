//! Special registers and the block barrier (PTX ISA, "Special Registers", "bar").

use core::arch::asm;

macro_rules! special_register {
    ($(#[$doc:meta])* $name:ident, $register:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() -> u32 {
            let value: u32;
            // SAFETY: reads a special register, which every thread has.
            unsafe {
                asm!(concat!("mov.u32 {}, ", $register, ";"), out(reg32) value,
                    options(pure, nomem, nostack));
            }
            value
        }
    };
}

#[cfg(sm_90a)]
pub(crate) use special_register;

special_register!(
    /// Index of the thread in its block.
    thread_idx_x, "%tid.x");
special_register!(
    /// Index of the block in the grid.
    block_idx_x, "%ctaid.x");
special_register!(
    /// Blocks of the grid.
    grid_dim_x, "%nctaid.x");
special_register!(
    /// Index of the thread in its warp, 0..32.
    lane, "%laneid");

/// `bar.sync 0`: waits for all threads of the block and orders their shared-memory accesses.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn sync_threads() {
    // SAFETY: the caller brings all threads of the block, as documented.
    unsafe { asm!("bar.sync 0;", options(nostack)) }
}

/// `bar.sync` of barrier `barrier`, 1 to 15: waits for `threads` threads (a multiple of 32) of the block and
/// orders their shared-memory accesses.
///
/// All lanes of a warp must reach it together, and as many warps as `threads` makes.
#[inline(always)]
pub fn sync_some(barrier: u32, threads: u32) {
    // SAFETY: the caller brings the threads, as documented.
    unsafe {
        asm!("bar.sync {}, {};", in(reg32) barrier, in(reg32) threads, options(nostack));
    }
}

/// `value`, with its origin hidden from the compiler: a loop bounded by it is not unrolled.
#[inline(always)]
pub fn opaque(value: u32) -> u32 {
    let hidden: u32;
    // SAFETY: copies a register.
    unsafe {
        asm!("mov.u32 {}, {};", out(reg32) hidden, in(reg32) value, options(pure, nomem, nostack));
    }
    hidden
}

/// `value`, from here on: what is computed from it is not computed ahead, outside a loop around this point,
/// where it would hold registers all the while.
#[inline(always)]
pub fn anchored(value: u32) -> u32 {
    let hidden: u32;
    // SAFETY: copies a register. Not `pure`, so that it stays where it is.
    unsafe {
        asm!("mov.u32 {}, {};", out(reg32) hidden, in(reg32) value, options(nomem, nostack));
    }
    hidden
}

/// [`anchored`] for 64 bits.
#[inline(always)]
pub fn anchored_u64(value: u64) -> u64 {
    let hidden: u64;
    // SAFETY: as above.
    unsafe {
        asm!("mov.u64 {}, {};", out(reg64) hidden, in(reg64) value, options(nomem, nostack));
    }
    hidden
}
