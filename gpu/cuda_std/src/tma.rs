//! Copies of consecutive bytes, and of boxes that tensor maps describe (PTX ISA, "cp.async.bulk" and
//! "cp.async.bulk.tensor", sm_90).
//!
//! A tensor map is 128 bytes that the host's driver has encoded, in global memory at a multiple of 64;
//! [`acquire_map`] comes before its first use. One thread starts a copy for the whole block. `x` is the
//! coordinate in the innermost dimension. What lies outside the tensor is loaded as zeros (or NaN, as
//! the map says) and not stored. Addresses in shared memory are multiples of 128, with a swizzle
//! of 32, 64 or 128 bytes multiples of 256, 512 or 1024.

use core::arch::asm;

/// Makes the tensor map that the host has written usable by this thread's copies.
///
/// # Safety
/// `map` is the global address of a tensor map.
#[inline(always)]
pub unsafe fn acquire_map(map: u64) {
    // SAFETY: the caller vouches for the address, which as a generic address is the same.
    unsafe {
        asm!("fence.proxy.tensormap::generic.acquire.sys [{}], 128;", in(reg64) map,
            options(nostack));
    }
}

/// Fetches a tensor map into the cache.
///
/// # Safety
/// `map` is the global address of a tensor map.
#[inline(always)]
pub unsafe fn prefetch_map(map: u64) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("prefetch.tensormap [{}];", in(reg64) map, options(nostack)) }
}

/// A cache policy for what is read or written once: the first to leave L2 (PTX ISA, "createpolicy").
#[inline(always)]
pub fn evict_first() -> u64 {
    let policy: u64;
    // SAFETY: makes a number.
    unsafe {
        asm!("createpolicy.fractional.L2::evict_first.b64 {};", out(reg64) policy,
            options(pure, nomem, nostack));
    }
    policy
}

/// Starts to load `bytes` consecutive bytes from `source`, which count towards `barrier` (PTX ISA,
/// "cp.async.bulk").
///
/// # Safety
/// `source` is the global address of so many readable bytes, `destination` is room for them in the block's shared
/// memory that nothing uses until the barrier's phase has ended, all three multiples of 16; `barrier` is an
/// initialised barrier of the block whose phase expects the bytes.
#[inline(always)]
pub unsafe fn load(destination: u32, source: u64, bytes: u32, barrier: u32) {
    // SAFETY: the caller vouches for memory, room and barrier.
    unsafe {
        asm!(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{}], [{}], {}, [{}];",
            in(reg32) destination, in(reg64) source, in(reg32) bytes, in(reg32) barrier,
            options(nostack),
        );
    }
}

/// Starts to load the box at (x, y). Its bytes, those outside the tensor included, count towards
/// `barrier`.
///
/// # Safety
/// `map` describes readable memory; `destination` is room for the box in the block's shared memory that
/// nothing uses until the barrier's phase has ended; `barrier` is an initialised barrier of the block
/// whose phase expects the bytes.
#[inline(always)]
pub unsafe fn load_2d(destination: u32, map: u64, x: i32, y: i32, barrier: u32) {
    // SAFETY: the caller vouches for map, room and barrier.
    unsafe {
        asm!(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes \
             [{}], [{}, {{{}, {}}}], [{}];",
            in(reg32) destination, in(reg64) map, in(reg32) x, in(reg32) y, in(reg32) barrier,
            options(nostack),
        );
    }
}

/// [`load`] under a cache policy.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub unsafe fn load_with(destination: u32, source: u64, bytes: u32, barrier: u32, policy: u64) {
    // SAFETY: the caller vouches for memory, room and barrier.
    unsafe {
        asm!(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint \
             [{}], [{}], {}, [{}], {};",
            in(reg32) destination, in(reg64) source, in(reg32) bytes, in(reg32) barrier,
            in(reg64) policy,
            options(nostack),
        );
    }
}

/// [`load_2d`] under a cache policy.
///
/// # Safety
/// As for [`load_2d`].
#[inline(always)]
pub unsafe fn load_2d_with(destination: u32, map: u64, x: i32, y: i32, barrier: u32, policy: u64) {
    // SAFETY: the caller vouches for map, room and barrier.
    unsafe {
        asm!(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint \
             [{}], [{}, {{{}, {}}}], [{}], {};",
            in(reg32) destination, in(reg64) map, in(reg32) x, in(reg32) y, in(reg32) barrier,
            in(reg64) policy,
            options(nostack),
        );
    }
}

/// [`load_2d`] into all blocks of the cluster whose bit is set in `blocks`: the same offset in the shared
/// memory of each, and the barrier at the same offset in each.
///
/// # Safety
/// As for [`load_2d`], in every block named, none of which has ended.
#[inline(always)]
pub unsafe fn load_2d_multicast(
    destination: u32,
    map: u64,
    x: i32,
    y: i32,
    barrier: u32,
    blocks: u16,
) {
    // SAFETY: the caller vouches for map, room and barriers.
    unsafe {
        asm!(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes\
             .multicast::cluster [{}], [{}, {{{}, {}}}], [{}], {};",
            in(reg32) destination, in(reg64) map, in(reg32) x, in(reg32) y, in(reg32) barrier,
            in(reg16) blocks, options(nostack),
        );
    }
}

/// Starts to store the box at (x, y), as part of the thread's current group of bulk stores. What was
/// written to `source` needs `fence::proxy_async_shared` and a barrier before. Neither coordinate may be
/// negative: an H200 loads such boxes, but answers a store of one with an illegal instruction.
///
/// # Safety
/// `map` describes writable memory; `source` holds a box in the block's shared memory that nothing
/// writes until a wait has seen it read.
#[inline(always)]
pub unsafe fn store_2d(map: u64, x: i32, y: i32, source: u32) {
    // SAFETY: the caller vouches for map and box.
    unsafe {
        asm!(
            "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [{}, {{{}, {}}}], [{}];",
            in(reg64) map, in(reg32) x, in(reg32) y, in(reg32) source, options(nostack),
        );
    }
}

/// Closes the thread's current group of bulk stores.
#[inline(always)]
pub fn commit_group() {
    // SAFETY: affects the bookkeeping of the thread's stores alone.
    unsafe { asm!("cp.async.bulk.commit_group;", options(nostack)) }
}

/// Waits until at most `PENDING` of the thread's newest groups have not been written.
#[inline(always)]
pub fn wait_group<const PENDING: u32>() {
    // SAFETY: waits for the thread's own stores.
    unsafe { asm!("cp.async.bulk.wait_group {};", const PENDING, options(nostack)) }
}

/// Waits until at most `PENDING` of the thread's newest groups still have to be read from shared memory,
/// which may then be written again.
#[inline(always)]
pub fn wait_group_read<const PENDING: u32>() {
    // SAFETY: waits for the thread's own stores.
    unsafe { asm!("cp.async.bulk.wait_group.read {};", const PENDING, options(nostack)) }
}
