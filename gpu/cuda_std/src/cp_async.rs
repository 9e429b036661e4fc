//! Asynchronous copies from global to shared memory (PTX ISA, "cp.async", sm_80).

use core::arch::asm;

/// Starts a copy of 16 bytes. It bypasses L1 and fetches 128 bytes into L2.
///
/// # Safety
/// `destination` lies in shared memory, `source` in global memory, both 16-byte aligned, with 16
/// readable bytes at `source`; nothing reads `destination` before a wait and a barrier.
#[inline(always)]
pub unsafe fn copy_16(destination: u32, source: u64) {
    // SAFETY: the caller vouches for both addresses.
    unsafe {
        asm!("cp.async.cg.shared.global.L2::128B [{}], [{}], 16;", in(reg32) destination,
            in(reg64) source, options(nostack));
    }
}

/// As [`copy_16`], but only the first `valid` (0..=16) bytes are read and the rest are zeros.
///
/// # Safety
/// As for [`copy_16`], with `valid` readable bytes.
#[inline(always)]
pub unsafe fn copy_16_zfill(destination: u32, source: u64, valid: u32) {
    // SAFETY: the caller vouches for both addresses.
    unsafe {
        asm!("cp.async.cg.shared.global.L2::128B [{}], [{}], 16, {};", in(reg32) destination,
            in(reg64) source, in(reg32) valid, options(nostack));
    }
}

/// As [`copy_16`] where `active`, else nothing: a predicate, not a branch.
///
/// # Safety
/// As for [`copy_16`] where active.
#[inline(always)]
pub unsafe fn copy_16_if(destination: u32, source: u64, active: bool) {
    // SAFETY: the caller vouches for both addresses.
    unsafe {
        asm!("{{ .reg .pred p; setp.ne.u32 p, {}, 0;",
            "@p cp.async.cg.shared.global.L2::128B [{}], [{}], 16; }}",
            in(reg32) active as u32, in(reg32) destination, in(reg64) source, options(nostack));
    }
}

/// Closes the thread's current group of copies.
#[inline(always)]
pub fn commit_group() {
    // SAFETY: affects the bookkeeping of the thread's copies alone.
    unsafe { asm!("cp.async.commit_group;", options(nostack)) }
}

/// Waits until at most `PENDING` of the thread's newest groups are under way. The data is visible to
/// other threads after a barrier.
#[inline(always)]
pub fn wait_group<const PENDING: u32>() {
    // SAFETY: waits for the thread's own copies.
    unsafe { asm!("cp.async.wait_group {};", const PENDING, options(nostack)) }
}
