//! Barriers in shared memory that count arrivals and bytes (PTX ISA, "mbarrier", sm_90).
//!
//! A phase of a barrier ends when as many threads have arrived as it was initialised for, and all bytes
//! expected have come. Phases are told apart by parity: the first has 0. A wait for the parity of the
//! phase BEFORE the current one returns at once, so whoever waits first for something to be free starts
//! with parity 1.

use core::arch::asm;

/// Bytes of a barrier, and its alignment.
pub const BYTES: u32 = 8;

/// Makes 8 bytes a barrier whose phases take `arrivals` (1 to 2^20 - 1) arrivals.
///
/// Other threads, the async proxy and other blocks of the cluster may use it after [`fence_init`] by
/// this thread and a barrier of the block or cluster.
///
/// # Safety
/// `barrier` lies in the block's shared memory, is 8-byte aligned, and holds no live barrier.
#[inline(always)]
pub unsafe fn init(barrier: u32, arrivals: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("mbarrier.init.shared::cta.b64 [{}], {};", in(reg32) barrier, in(reg32) arrivals,
            options(nostack));
    }
}

/// Makes the barriers that this thread has initialised known to the cluster and to the async proxy.
#[inline(always)]
pub fn fence_init() {
    // SAFETY: orders memory accesses.
    unsafe { asm!("fence.mbarrier_init.release.cluster;", options(nostack)) }
}

/// Arrives; what the thread has written before is visible to those who wait.
///
/// # Safety
/// `barrier` is an initialised barrier of the block.
#[inline(always)]
pub unsafe fn arrive(barrier: u32) {
    // SAFETY: the caller vouches for the barrier.
    unsafe { asm!("mbarrier.arrive.shared::cta.b64 _, [{}];", in(reg32) barrier, options(nostack)) }
}

/// Lets the phase also wait for `bytes` from bulk copies, and arrives.
///
/// # Safety
/// `barrier` is an initialised barrier of the block; the bytes expected in a phase, by all threads,
/// stay below 2^20.
#[inline(always)]
pub unsafe fn arrive_expect_tx(barrier: u32, bytes: u32) {
    // SAFETY: the caller vouches for the barrier.
    unsafe {
        asm!("mbarrier.arrive.expect_tx.shared::cta.b64 _, [{}], {};", in(reg32) barrier,
            in(reg32) bytes, options(nostack));
    }
}

/// Arrives at a barrier of any block of the cluster, which `cluster::map_shared` has found.
///
/// The semantics are the default ones on purpose: an explicit `.release.cluster` halved the rate of a
/// main loop.
///
/// # Safety
/// `barrier` is the `shared::cluster` address of an initialised barrier of a block that has not ended.
#[inline(always)]
pub unsafe fn arrive_cluster(barrier: u32) {
    // SAFETY: the caller vouches for the barrier.
    unsafe {
        asm!("mbarrier.arrive.shared::cluster.b64 _, [{}];", in(reg32) barrier, options(nostack))
    }
}

/// Waits a while for the phase of this parity, and tells whether it has ended.
///
/// # Safety
/// `barrier` is an initialised barrier of the block.
#[inline(always)]
pub unsafe fn try_wait(barrier: u32, parity: u32) -> bool {
    let ended: u32;
    // SAFETY: the caller vouches for the barrier.
    unsafe {
        asm!(
            "{{",
            ".reg .pred ended;",
            "mbarrier.try_wait.parity.shared::cta.b64 ended, [{}], {};",
            "selp.b32 {}, 1, 0, ended;",
            "}}",
            in(reg32) barrier, in(reg32) parity, out(reg32) ended, options(nostack),
        );
    }
    ended != 0
}

/// Waits until the phase of this parity has ended.
///
/// # Safety
/// `barrier` is an initialised barrier of the block.
#[inline(always)]
pub unsafe fn wait(barrier: u32, parity: u32) {
    // SAFETY: as the caller vouches.
    while unsafe { !try_wait(barrier, parity) } {}
}
