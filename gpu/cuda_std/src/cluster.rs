//! Clusters of blocks (PTX ISA, "barrier.cluster", "mapa", sm_90).

use core::arch::asm;

use crate::thread::special_register;

special_register!(
    /// Index of the block in its cluster.
    rank, "%cluster_ctarank");
special_register!(
    /// Blocks of the cluster.
    size, "%cluster_nctarank");

/// Arrives at the cluster's barrier; what the thread has written before is visible after [`wait`].
///
/// All lanes of the warp must reach it together, and all warps of the cluster must call it.
#[inline(always)]
pub fn arrive() {
    // SAFETY: the caller brings the warp's lanes, as documented.
    unsafe { asm!("barrier.cluster.arrive.release.aligned;", options(nostack)) }
}

/// Waits until all threads of the cluster have arrived.
///
/// All lanes of the warp must reach it together, each after one [`arrive`].
#[inline(always)]
pub fn wait() {
    // SAFETY: the caller brings the warp's lanes, as documented.
    unsafe { asm!("barrier.cluster.wait.acquire.aligned;", options(nostack)) }
}

/// Waits for all threads of the cluster and orders their shared-memory accesses. Also to be called
/// before a block ends whose shared memory its peers may still use.
///
/// All threads of the cluster must reach it together.
#[inline(always)]
pub fn sync() {
    arrive();
    wait();
}

/// Stores 16 bytes in the shared memory of a block of the cluster.
///
/// # Safety
/// `address` is one of [`map_shared`], 16-byte aligned, in a block that has begun and has not ended.
#[inline(always)]
pub unsafe fn store_f32x4(address: u32, v: [f32; 4]) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("st.shared::cluster.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg32) address, in(reg32) v[0],
            in(reg32) v[1], in(reg32) v[2], in(reg32) v[3], options(nostack));
    }
}

/// The `shared::cluster` address at which block `rank` of the cluster has what this block has at
/// `address`.
#[inline(always)]
pub fn map_shared(address: u32, rank: u32) -> u32 {
    let mapped: u32;
    // SAFETY: computes an address.
    unsafe {
        asm!("mapa.shared::cluster.u32 {}, {}, {};", out(reg32) mapped, in(reg32) address,
            in(reg32) rank, options(pure, nomem, nostack));
    }
    mapped
}
