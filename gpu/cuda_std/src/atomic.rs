//! Atomic additions, relaxed where the name says nothing else (PTX ISA, "atom", "red").
//!
//! The `add_*` forms return nothing, which spares the way back.

use core::arch::asm;

/// Adds to 4 bytes of shared memory.
///
/// # Safety
/// `address` lies in the block's shared memory and is 4-byte aligned.
#[inline(always)]
pub unsafe fn add_shared_u32(address: u32, value: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("red.relaxed.cta.shared.add.u32 [{}], {};", in(reg32) address, in(reg32) value,
            options(nostack));
    }
}

/// Adds to 4 bytes of shared memory and returns what was there.
///
/// # Safety
/// `address` lies in the block's shared memory and is 4-byte aligned.
#[inline(always)]
pub unsafe fn fetch_add_shared_u32(address: u32, value: u32) -> u32 {
    let old: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("atom.relaxed.cta.shared.add.u32 {}, [{}], {};", out(reg32) old, in(reg32) address,
            in(reg32) value, options(nostack));
    }
    old
}

/// Adds to 4 bytes of global memory.
///
/// # Safety
/// `address` is valid for reads and writes and 4-byte aligned.
#[inline(always)]
pub unsafe fn add_global_u32(address: u64, value: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("red.relaxed.gpu.global.add.u32 [{}], {};", in(reg64) address, in(reg32) value,
            options(nostack));
    }
}

/// Adds to 4 bytes of global memory and returns what was there.
///
/// # Safety
/// `address` is valid for reads and writes and 4-byte aligned.
#[inline(always)]
pub unsafe fn fetch_add_global_u32(address: u64, value: u32) -> u32 {
    let old: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("atom.relaxed.gpu.global.add.u32 {}, [{}], {};", out(reg32) old, in(reg64) address,
            in(reg32) value, options(nostack));
    }
    old
}

/// As [`fetch_add_global_u32`], and acquire and release: what this thread has written or seen before
/// is seen by whoever reads a later value of the same word with acquire, and the other way round.
///
/// # Safety
/// `address` is valid for reads and writes and 4-byte aligned.
#[inline(always)]
pub unsafe fn fetch_add_global_acq_rel_u32(address: u64, value: u32) -> u32 {
    let old: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("atom.acq_rel.gpu.global.add.u32 {}, [{}], {};", out(reg32) old, in(reg64) address,
            in(reg32) value, options(nostack));
    }
    old
}
