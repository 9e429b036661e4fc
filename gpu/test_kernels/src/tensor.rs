//! Copies by tensor maps. What a load has left in shared memory is written out as it lies there.

use crate::{THREADS, dump, make_barrier, wait};
use cuda_std::{cluster, fence, global, kernel, mbarrier, shared, thread, tma};

/// What is in shared memory before a load: every byte of the box must replace it.
const FILL: [u32; 4] = [0xA5A5_A5A5; 4];

/// Fills `bytes` of shared memory, and lets the async proxy write there.
///
/// All threads of the block must reach it together.
///
/// # Safety
/// The bytes at `shared` are writable, 16-byte aligned and a multiple of 16.
#[inline(always)]
unsafe fn prepare(shared: u32, bytes: u32) {
    let mut at = thread::thread_idx_x() * 16;
    while at < bytes {
        // SAFETY: inside the range.
        unsafe { shared::store_v4(shared + at, FILL) };
        at += THREADS * 16;
    }
    fence::proxy_async_shared();
    thread::sync_threads();
}

/// Loads the box at (x, y) and writes its `bytes` to `out`.
///
/// # Safety
/// `map` is the address of a map whose boxes have `bytes`, which is the size of `out`; a block has
/// 8 bytes more of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn tensor_copy(map: u64, out: u64, x: i32, y: i32, bytes: u32) {
    let (tile, barrier) = (shared::base(), shared::base() + bytes);
    // SAFETY: tile and barrier lie side by side in shared memory.
    unsafe {
        make_barrier(barrier, 1);
        prepare(tile, bytes);
        if thread::thread_idx_x() == 0 {
            tma::acquire_map(map);
            tma::prefetch_map(map);
            mbarrier::arrive_expect_tx(barrier, bytes);
            tma::load_2d(tile, map, x, y, barrier);
        }
        wait(barrier, 0);
        dump(tile, out, bytes);
    }
}

/// Stages of [`tensor_ring`].
const STAGES: u32 = 3;
/// Bytes of a box of [`tensor_ring`].
const BOX: u32 = 1024;

/// Writes the boxes at (0, 0), (0, 8), (0, 16), ... to `out`, `rounds` of them, through a ring that the
/// first thread fills and warps 1 to 3 empty.
///
/// # Safety
/// `map` is the address of a map whose boxes have 8 rows and 1024 bytes; `out` has room for `rounds` of
/// them; a block has `3 * 1024 + 48` bytes of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn tensor_ring(map: u64, out: u64, rounds: u32) {
    let t = thread::thread_idx_x();
    let tile = |stage: u32| shared::base() + stage * BOX;
    let full = |stage: u32| shared::base() + STAGES * BOX + stage * 2 * mbarrier::BYTES;
    let empty = |stage: u32| full(stage) + mbarrier::BYTES;
    // SAFETY: stages and barriers lie side by side in shared memory, rounds inside the buffer.
    unsafe {
        if t == 0 {
            for stage in 0..STAGES {
                mbarrier::init(full(stage), 1);
                mbarrier::init(empty(stage), THREADS / 32 - 1);
            }
            mbarrier::fence_init();
            tma::acquire_map(map);
        }
        thread::sync_threads();
        if t > 0 && t < 32 {
            return;
        }
        let (mut round, mut stage, mut parity) = (0, 0, 0);
        while round < rounds {
            if t == 0 {
                wait(empty(stage), parity ^ 1);
                mbarrier::arrive_expect_tx(full(stage), BOX);
                tma::load_2d(tile(stage), map, 0, (round * 8) as i32, full(stage));
            } else {
                wait(full(stage), parity);
                let mut at = (t - 32) * 16;
                while at < BOX {
                    let there = out + (round * BOX + at) as u64;
                    global::store_v4(there, shared::load_v4(tile(stage) + at));
                    at += (THREADS - 32) * 16;
                }
                cuda_std::warp::sync_warp();
                if thread::lane() == 0 {
                    mbarrier::arrive(empty(stage));
                }
            }
            (round, stage) = (round + 1, stage + 1);
            if stage == STAGES {
                (stage, parity) = (0, parity ^ 1);
            }
        }
    }
}

/// Two blocks of a cluster load a box of 8 rows each, at (0, 8 * rank), into both; each writes its two
/// boxes to `out[rank]`, once it knows by an arrival from its peer that the peer has them too.
///
/// # Safety
/// `map` is the address of a map whose boxes have 8 rows and 1024 bytes; `out` has room for four of
/// them; a block has `2 * 1024 + 16` bytes of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn tensor_multicast(map: u64, out: u64) {
    let (t, rank) = (thread::thread_idx_x(), cluster::rank());
    let tile = shared::base();
    let (full, peer_has) = (tile + 2 * BOX, tile + 2 * BOX + mbarrier::BYTES);
    // SAFETY: boxes and barriers lie side by side in shared memory; blocks end after the last `sync`.
    unsafe {
        prepare(tile, 2 * BOX);
        if t == 0 {
            mbarrier::init(full, 1);
            mbarrier::init(peer_has, 1);
            mbarrier::fence_init();
            mbarrier::arrive_expect_tx(full, 2 * BOX);
        }
        cluster::sync();
        // Opaque: asm! is not convergent to rustc, so knowing that this is the condition from above it
        // gives each of its branches a copy of the barrier between, which the warp then does not reach
        // together.
        if thread::opaque(t) == 0 {
            tma::acquire_map(map);
            tma::load_2d_multicast(tile + rank * BOX, map, 0, (rank * 8) as i32, full, 0b11);
        }
        wait(full, 0);
        if t == 0 {
            mbarrier::arrive_cluster(cluster::map_shared(peer_has, rank ^ 1));
        }
        wait(peer_has, 0);
        dump(tile, out + (rank * 2 * BOX) as u64, 2 * BOX);
        cluster::sync();
    }
}

/// Puts the `bytes` of `from` into shared memory as they are and stores them as the box at (x, y).
///
/// # Safety
/// `map` is the address of a map whose boxes have `bytes`, the size of `from`.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn tensor_store(map: u64, from: u64, x: i32, y: i32, bytes: u32) {
    let tile = shared::base();
    let mut at = thread::thread_idx_x() * 16;
    while at < bytes {
        // SAFETY: inside the box.
        unsafe { shared::store_v4(tile + at, global::load_v4(from + at as u64)) };
        at += THREADS * 16;
    }
    fence::proxy_async_shared();
    thread::sync_threads();
    if thread::thread_idx_x() == 0 {
        // SAFETY: the box is complete, and stays as it is until the block ends.
        unsafe {
            tma::acquire_map(map);
            tma::store_2d(map, x, y, tile);
        }
        tma::commit_group();
        tma::wait_group_read::<0>();
        tma::wait_group::<0>();
    }
}
