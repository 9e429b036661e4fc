//! Kernels without tensor cores or asynchronous copies, for every architecture.

use crate::THREADS;
use cuda_std::{atomic, global, kernel, shared, shuffle, thread};

/// Rows and columns of a tile of [`transpose`].
const TILE: u32 = 32;
/// Words from one row of the tile to the next: one more than its columns, against bank conflicts.
const PITCH: u32 = TILE + 1;
/// Counters of [`histogram`].
const BINS: u32 = 64;

/// `sum[i] = a[i] + b[i]` for i < len; f32, one element a thread.
///
/// # Safety
/// The buffers have `len` elements.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn vector_add(a: u64, b: u64, sum: u64, len: u32) {
    let i = thread::block_idx_x() * THREADS + thread::thread_idx_x();
    if i < len {
        let at = i as u64 * 4;
        // SAFETY: i is inside the buffers.
        unsafe {
            let value = global::load_f32(a + at) + global::load_f32(b + at);
            global::store_u32(sum + at, value.to_bits());
        }
    }
}

/// `to[c][r] = from[r][c]`, 32-bit elements, a block per tile of 32x32, tiles ordered row by row.
///
/// # Safety
/// Both buffers have `rows * columns` elements; a block has `32 * 33` words of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn transpose(from: u64, to: u64, rows: u32, columns: u32) {
    let tiles = columns.div_ceil(TILE);
    let (row, column) =
        (thread::block_idx_x() / tiles * TILE, thread::block_idx_x() % tiles * TILE);
    let (x, y) = (thread::thread_idx_x() % TILE, thread::thread_idx_x() / TILE);
    let tile = |y: u32, x: u32| shared::base() + (y * PITCH + x) * 4;
    let mut i = y;
    while i < TILE {
        if row + i < rows && column + x < columns {
            let at = ((row + i) * columns + column + x) as u64 * 4;
            // SAFETY: inside the matrix and the tile.
            unsafe { shared::store_u32(tile(i, x), global::load_u32(from + at)) };
        }
        i += THREADS / TILE;
    }
    thread::sync_threads();
    let mut i = y;
    while i < TILE {
        if column + i < columns && row + x < rows {
            let at = ((column + i) * rows + row + x) as u64 * 4;
            // SAFETY: inside the matrix; the element of the tile was written above.
            unsafe { global::store_u32(to + at, shared::load_u32(tile(x, i))) };
        }
        i += THREADS / TILE;
    }
}

/// `sums[block]` = sum of the block's `each` elements of `from`, modulo 2^32.
///
/// # Safety
/// `from` has `each` elements per block, `sums` one; a block has a word of shared memory per warp.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn block_reduce(from: u64, sums: u64, each: u32) {
    const WARPS: u32 = THREADS / 32;
    let (t, block) = (thread::thread_idx_x(), thread::block_idx_x() as u64);
    let mut sum = 0u32;
    let mut i = t;
    while i < each {
        // SAFETY: inside the block's elements.
        sum = sum
            .wrapping_add(unsafe { global::load_u32(from + (block * each as u64 + i as u64) * 4) });
        i += THREADS;
    }
    for bits in [16, 8, 4, 2, 1] {
        sum = sum.wrapping_add(shuffle::butterfly(sum, bits));
    }
    let base = shared::base();
    if t.is_multiple_of(32) {
        // SAFETY: the warp's word.
        unsafe { shared::store_u32(base + t / 32 * 4, sum) };
    }
    thread::sync_threads();
    // SAFETY: a warp's word, written before the barrier.
    let mut total = unsafe { shared::load_u32(base + t % WARPS * 4) };
    for distance in [2, 1] {
        total = total.wrapping_add(shuffle::down(total, distance));
    }
    if t == 0 {
        // SAFETY: the block's sum.
        unsafe { global::store_u32(sums + block * 4, total) };
    }
}

/// `counts[v % 64] += 1` for every v of `from`: first in shared memory, then in global.
///
/// # Safety
/// `from` has `len` elements, `counts` 64; a block has 64 words of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn histogram(from: u64, counts: u64, len: u32) {
    let t = thread::thread_idx_x();
    let bin = |i: u32| shared::base() + i * 4;
    if t < BINS {
        // SAFETY: one of the counters.
        unsafe { shared::store_u32(bin(t), 0) };
    }
    thread::sync_threads();
    let mut i = thread::block_idx_x() * THREADS + t;
    while i < len {
        // SAFETY: inside the buffer; one of the counters.
        unsafe { atomic::add_shared_u32(bin(global::load_u32(from + i as u64 * 4) % BINS), 1) };
        i += thread::grid_dim_x() * THREADS;
    }
    thread::sync_threads();
    if t < BINS {
        // SAFETY: counters, in shared and in global memory.
        unsafe { atomic::add_global_u32(counts + t as u64 * 4, shared::load_u32(bin(t))) };
    }
}

/// `places[i] = i` for as many i as the grid has threads: each thread takes a place of its own, of its
/// block by counting in shared memory, of the grid by counting in `next`, which is 0 at first.
///
/// # Safety
/// `places` has an element per thread of the grid; a block has two words of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn take_places(next: u64, places: u64) {
    let t = thread::thread_idx_x();
    let (count, first) = (shared::base(), shared::base() + 4);
    // SAFETY: the two words, and the thread's element.
    unsafe {
        if t == 0 {
            shared::store_u32(count, 0);
        }
        thread::sync_threads();
        let place = atomic::fetch_add_shared_u32(count, 1);
        if t == 0 {
            shared::store_u32(first, atomic::fetch_add_global_u32(next, THREADS));
        }
        thread::sync_threads();
        let place = shared::load_u32(first) + place;
        global::store_u32(places + place as u64 * 4, place);
    }
}
