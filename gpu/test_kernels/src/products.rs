//! `wgmma`: one product of a warpgroup, 64 x N with K = 64, written as f32, row by row.
//!
//! Operands are put into shared memory by plain stores, in the layout that a tensor map with the swizzle
//! would leave; A in registers comes straight from global memory.

use crate::THREADS;
use core::array::from_fn;
use cuda_std::wgmma::{self, Wgmma};
use cuda_std::{fence, global, kernel, shared, thread};
use layout::descriptor::{Swizzle, k_major, offset};
use layout::fragment;
use layout::packed24::{Bf16, F16};

/// Rows of A.
const ROWS: u32 = 64;
/// 16-byte chunks of a dense row, K = 64, and of the values of a sparse one.
const CHUNKS: u32 = 8;
const VALUE_CHUNKS: u32 = CHUNKS / 2;
/// Chunks that one product takes of A.
const STEP: u32 = 2;

/// Copies an operand of `rows` rows of `chunks` chunks into shared memory, by all threads.
///
/// # Safety
/// The operand is readable at `from`, and writable at `to`, which is a multiple of 1024.
#[inline(always)]
unsafe fn place(to: u32, from: u64, swizzle: Swizzle, rows: u32, chunks: u32) {
    let mut i = thread::thread_idx_x();
    while i < rows * chunks {
        let there = to + offset(swizzle, rows, i / chunks, i % chunks);
        // SAFETY: a chunk of the operand.
        unsafe { shared::store_v4(there, global::load_v4(from + i as u64 * 16)) };
        i += THREADS;
    }
}

/// The lane's part of the warp's 16x16 values of A from column `16 * step` on.
///
/// # Safety
/// A of 64 rows of `chunks` chunks is readable at `from`.
#[inline(always)]
unsafe fn part(from: u64, chunks: u32, step: u32) -> [u32; 4] {
    let (warp, lane) = (thread::thread_idx_x() / 32, thread::lane());
    from_fn(|i| {
        let (row, column) = fragment::a(lane, 2 * i as u32);
        let at = (warp * 16 + row) * chunks * 16 + (step * 16 + column) * 2;
        // SAFETY: inside A.
        unsafe { global::load_u32(from + at as u64) }
    })
}

/// Writes D, N = 2R columns.
///
/// # Safety
/// `out` has room for it.
#[inline(always)]
unsafe fn write<const R: usize>(out: u64, d: &[f32; R]) {
    let (warp, lane) = (thread::thread_idx_x() / 32, thread::lane());
    for (i, value) in d.iter().enumerate() {
        let (row, column) = fragment::accumulator(lane, i as u32 % 4);
        let at = (warp * 16 + row) * 2 * R as u32 + i as u32 / 4 * 8 + column;
        // SAFETY: inside D.
        unsafe { global::store_u32(out + at as u64 * 4, value.to_bits()) };
    }
}

/// `out[64][N] = a[64][64] . b[N][64]^T`. The first product must not see what D held before.
///
/// # Safety
/// The operands are readable and `out` writable; a block has `8 + N / 8` KiB of shared memory.
#[inline(always)]
unsafe fn dense<T: Wgmma<R>, const R: usize, const REGISTERS: bool>(
    swizzle: Swizzle,
    a: u64,
    b: u64,
    out: u64,
) {
    let columns = 2 * R as u32;
    let a_tile = shared::base();
    let b_tile = a_tile + ROWS * CHUNKS * 16;
    let mut d = [1.0; R];
    // SAFETY: as the caller vouches; all threads make one warpgroup.
    unsafe {
        if !REGISTERS {
            place(a_tile, a, swizzle, ROWS, CHUNKS);
        }
        place(b_tile, b, swizzle, columns, CHUNKS);
        fence::proxy_async_shared();
        thread::sync_threads();

        let parts: [[u32; 4]; 4] =
            from_fn(|step| if REGISTERS { part(a, CHUNKS, step as u32) } else { [0; 4] });
        wgmma::pin(&mut d);
        wgmma::fence();
        for step in 0..4 {
            let from_a = k_major(swizzle, ROWS, a_tile, step * STEP);
            let from_b = k_major(swizzle, columns, b_tile, step * STEP);
            let part = &parts[step as usize];
            match (REGISTERS, step) {
                (false, 0) => T::mma::<0>(&mut d, from_a, from_b),
                (false, _) => T::mma::<1>(&mut d, from_a, from_b),
                (true, 0) => T::mma_registers::<0>(&mut d, part, from_b),
                (true, _) => T::mma_registers::<1>(&mut d, part, from_b),
            }
        }
        wgmma::commit_group();
        wgmma::wait_group::<0>();
        parts.as_flattened().iter().for_each(|&register| wgmma::keep(register));
        wgmma::pin(&mut d);
        write(out, &d);
    }
}

/// `out[64][N] = a[64][64] . b[N][64]^T`, `a` 2:4 sparse and packed: `values[64][32]` and the words of
/// four Packed24 blocks. D is zero at first.
///
/// # Safety
/// The operands are readable and `out` writable; a block has `4 + N / 8` KiB of shared memory.
#[inline(always)]
unsafe fn sparse<T: Wgmma<R>, const R: usize, const REGISTERS: bool>(
    values: u64,
    metadata: u64,
    b: u64,
    out: u64,
) {
    let columns = 2 * R as u32;
    let a_tile = shared::base();
    let b_tile = a_tile + ROWS * VALUE_CHUNKS * 16;
    let mut d = [0.0; R];
    // SAFETY: as the caller vouches; all threads make one warpgroup.
    unsafe {
        if !REGISTERS {
            place(a_tile, values, Swizzle::B64, ROWS, VALUE_CHUNKS);
        }
        place(b_tile, b, Swizzle::B128, columns, CHUNKS);
        fence::proxy_async_shared();
        thread::sync_threads();

        // The word of lane l of warp w is word l of block w: one word serves both products.
        let word = global::load_u32(metadata + thread::thread_idx_x() as u64 * 4);
        let parts: [[u32; 4]; 2] =
            from_fn(
                |step| if REGISTERS { part(values, VALUE_CHUNKS, step as u32) } else { [0; 4] },
            );
        let from_a = |step: u32| k_major(Swizzle::B64, ROWS, a_tile, step * STEP);
        let from_b = |step: u32| k_major(Swizzle::B128, columns, b_tile, step * 2 * STEP);
        wgmma::pin(&mut d);
        wgmma::fence();
        if REGISTERS {
            T::mma_sparse_registers::<0, 1>(&mut d, &parts[0], from_b(0), word);
            T::mma_sparse_registers::<1, 1>(&mut d, &parts[1], from_b(1), word);
        } else {
            T::mma_sparse::<0, 1>(&mut d, from_a(0), from_b(0), word);
            T::mma_sparse::<1, 1>(&mut d, from_a(1), from_b(1), word);
        }
        wgmma::commit_group();
        wgmma::wait_group::<0>();
        wgmma::keep(word);
        parts.as_flattened().iter().for_each(|&register| wgmma::keep(register));
        wgmma::pin(&mut d);
        write(out, &d);
    }
}

/// Dense kernels: name, type, accumulators, whether A is in registers, swizzle.
macro_rules! dense_kernels {
    ($($name:ident $type:ident $r:literal $registers:literal $swizzle:ident;)*) => {$(
        /// A dense product; the name says type, N and where A is.
        ///
        /// # Safety
        /// As for `dense`.
        #[kernel(launch_bounds(THREADS))]
        pub unsafe fn $name(a: u64, b: u64, out: u64) {
            // SAFETY: as the caller vouches.
            unsafe { dense::<$type, $r, $registers>(Swizzle::$swizzle, a, b, out) }
        }
    )*};
}

dense_kernels! {
    wgmma_f16_n8_shared F16 4 false B128;
    wgmma_f16_n64_shared F16 32 false B128;
    wgmma_f16_n256_shared F16 128 false B128;
    wgmma_f16_n8_registers F16 4 true B128;
    wgmma_f16_n64_registers F16 32 true B128;
    wgmma_f16_n256_registers F16 128 true B128;
    wgmma_bf16_n64_shared Bf16 32 false B128;
    wgmma_bf16_n64_registers Bf16 32 true B128;
    wgmma_f16_n64_swizzle_none F16 32 false None;
    wgmma_f16_n64_swizzle_32 F16 32 false B32;
    wgmma_f16_n64_swizzle_64 F16 32 false B64;
}

/// Sparse kernels: name, type, accumulators, whether A is in registers.
macro_rules! sparse_kernels {
    ($($name:ident $type:ident $r:literal $registers:literal;)*) => {$(
        /// A sparse product; the name says type, N and where A is.
        ///
        /// # Safety
        /// As for `sparse`.
        #[kernel(launch_bounds(THREADS))]
        pub unsafe fn $name(values: u64, metadata: u64, b: u64, out: u64) {
            // SAFETY: as the caller vouches.
            unsafe { sparse::<$type, $r, $registers>(values, metadata, b, out) }
        }
    )*};
}

sparse_kernels! {
    wgmma_sp_f16_n8_shared F16 4 false;
    wgmma_sp_f16_n64_shared F16 32 false;
    wgmma_sp_f16_n256_shared F16 128 false;
    wgmma_sp_f16_n8_registers F16 4 true;
    wgmma_sp_f16_n64_registers F16 32 true;
    wgmma_sp_f16_n256_registers F16 128 true;
    wgmma_sp_bf16_n64_shared Bf16 32 false;
    wgmma_sp_bf16_n64_registers Bf16 32 true;
}
