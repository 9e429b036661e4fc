//! `sm80_dense_*`: dense GEMM on `mma.sync.m16n8k16`.
//!
//! A block computes a BM x BN tile of Y; each of its WARPS_M x WARPS_N warps a part of MT m16 by NT n8
//! accumulator tiles. X is operand A (row-major), W operand B (column-major, since K is contiguous):
//!
//! ```text
//!                W: BN features                warp part: 16 MT tokens x 8 NT features
//!            +--------+--------+               +---+---+---+---+
//!   X: BM    | warp 0 | warp 1 |               |   | n8|   |   |
//!   tokens   +--------+--------+     each:     +---+---+---+---+
//!            | warp 2 | warp 3 |               |m16|   |   |   |
//!            +--------+--------+               +---+---+---+---+
//! ```
//!
//! Constraints: BK is 32 or a multiple of 64 with at least two k16 steps; NT is even, since one
//! `ldmatrix.x4` loads B for two n8 tiles; the rest is asserted by the loader.

use super::accumulator::{self, Accumulator};
use crate::epilogue::Staging;
use crate::load::TileLoader;
use crate::pipeline::{self, Tiles};
use crate::work::{self, Segment};
use crate::{k_blocks, tile_origin, tiles};
use cuda_std::convert::Convert;
use cuda_std::mma::Mma;
use cuda_std::{ldmatrix, shared, thread, warp};
use layout::instance::{self, Family};
use layout::params::{ALIGNED_W, ALIGNED_X, GemmParams};
use layout::{fragment, swizzle};

const PADDING: u32 = Family::Sm80Dense.staging_padding();

/// Fragments of one k16 step.
struct Fragments<const MT: usize, const NT: usize> {
    a: [[u32; 4]; MT],
    b: [[u32; 2]; NT],
}

/// The kernel of one instance. The const parameters past STAGES are derived from those before it, and
/// only here because Rust does not compute const parameters.
///
/// # Safety
/// `p` describes valid operands; a block has THREADS threads and the shared memory of the
/// instance.
#[inline(always)]
unsafe fn dense<
    T: Mma<A> + Convert,
    A: Accumulator,
    const BM: u32,
    const BN: u32,
    const BK: u32,
    const WARPS_N: u32,
    const STAGES: u32,
    const PENDING: u32,
    const THREADS: u32,
    const STEPS: u32,
    const MT: usize,
    const NT: usize,
    const WARP_M: u32,
    const WARP_N: u32,
    const PARTS: u32,
    const PART_M: u32,
>(
    p: &GemmParams,
) {
    let each = #[inline(always)]
    |segment: &Segment| {
        let chunks = const { BK / 8 };
        let stage_bytes = const { Family::Sm80Dense.stage_bytes(BM, BN, BK) };
        let (m0, n0) = tile_origin(p, segment.tile, BM, BN);
        let base = shared::base();
        let (x_aligned, w_aligned) = (p.aligned & ALIGNED_X != 0, p.aligned & ALIGNED_W != 0);
        let x_tiles = #[inline(always)]
        || TileLoader::<BM, BK, THREADS, 0>::new(p.x, p.ldx, m0, p.m, p.k, x_aligned);
        let w_tiles = #[inline(always)]
        || TileLoader::<BN, BK, THREADS, 0>::new(p.w, p.ldw, n0, p.n, p.k, w_aligned);
        let k_tiles = Tiles::new(segment, p.k, BK, x_aligned && w_aligned);
        let ahead = k_tiles.first_ahead::<STAGES>() * BK;
        let (x_at, w_at) = (base, base + BM * BK * 2);

        let t = thread::thread_idx_x();
        let (warp, lane) = (t / 32, thread::lane());
        let (warp_m, warp_n) = (warp / WARPS_N, warp % WARPS_N);
        let (a_row, a_chunk) = fragment::ldmatrix_a(lane);
        let (b_row, b_chunk) = fragment::ldmatrix_b16(lane);
        // A lane's first chunk in the tiles of slot 0. Tiles, and rows of a warp part, start at multiples
        // of 8 rows, so the swizzle depends on the lane alone, and a k-step's chunks are found by
        // flipping bits of the address (`swizzle::step`) instead of computing it.
        let a_at = x_at + warp_m * WARP_M * BK * 2 + swizzle::offset(a_row, a_chunk, chunks);
        let b_at = w_at + warp_n * WARP_N * BK * 2 + swizzle::offset(b_row, b_chunk, chunks);

        let mut acc = [[A::ZERO; NT]; MT];
        let nothing = Fragments { a: [[0; 4]; MT], b: [[0; 2]; NT] };
        let fragments = #[inline(always)]
        |slot, step, _: &_| {
            let a_at = swizzle::step(a_at, step * 2) + slot * stage_bytes;
            let b_at = swizzle::step(b_at, step * 2) + slot * stage_bytes;
            let mut f = Fragments { a: [[0; 4]; MT], b: [[0; 2]; NT] };
            // SAFETY: the addresses are those of chunks of the slot's tiles; all lanes are here.
            unsafe {
                for i in 0..MT {
                    f.a[i] = ldmatrix::x4(a_at + i as u32 * 16 * BK * 2);
                }
                for j in 0..NT / 2 {
                    let [r0, r1, r2, r3] = ldmatrix::x4(b_at + j as u32 * 16 * BK * 2);
                    f.b[2 * j] = [r0, r1];
                    f.b[2 * j + 1] = [r2, r3];
                }
            }
            f
        };
        let mma = #[inline(always)]
        |f: &Fragments<MT, NT>, _| {
            for i in 0..MT {
                for j in 0..NT {
                    T::mma(&mut acc[i][j], &f.a[i], &f.b[j]);
                }
            }
        };
        pipeline::run::<_, _, STAGES, STEPS, PENDING>(
            &k_tiles,
            (x_tiles().pointers(ahead, x_at), w_tiles().pointers(ahead, w_at)),
            nothing,
            #[inline(always)]
            |block, slot| {
                // SAFETY: the slot is free (pipeline::run) and inside the shared memory.
                unsafe {
                    x_tiles().copy_any(x_at + slot * stage_bytes, block * BK);
                    w_tiles().copy_any(w_at + slot * stage_bytes, block * BK);
                }
            },
            #[inline(always)]
            |(x, w), turn, slot, step| {
                // All at once: an `ldmatrix` under way would hold up each copy behind it.
                if step == 0 {
                    // SAFETY: as above; the operands are aligned and K fills the block.
                    unsafe {
                        x.copy_part(turn, slot * stage_bytes, (0, 1));
                        w.copy_part(turn, slot * stage_bytes, (0, 1));
                    }
                }
            },
            #[inline(always)]
            |(x, w)| {
                x.advance(STAGES);
                w.advance(STAGES);
            },
            fragments,
            mma,
        );

        let mut sums = [[[0f32; 4]; NT]; MT];
        let (from, to) = (acc.as_flattened(), sums.as_flattened_mut());
        // SAFETY: the host gives a workspace where its schedule shares tiles; shared memory is free.
        let complete =
            unsafe { segment.complete::<A, THREADS>(p, from, A::widen, to, BM * BN * 4, base) };
        if !complete {
            return;
        }
        let staging = Staging::<PART_M, WARP_N, PADDING>::new(base, warp);
        // A loop that is not unrolled: the code of the epilogue exists once.
        for part in 0..if PARTS == 1 { 1 } else { thread::opaque(PARTS) } {
            if part > 0 {
                warp::sync_warp();
            }
            let token0 = m0 + warp_m * WARP_M + part * PART_M;
            let feature0 = n0 + warp_n * WARP_N;
            // SAFETY: `p` is valid.
            let bias = unsafe { staging.bias::<T>(p, feature0) };
            let tiles = const { PART_M as usize / 16 };
            for i in 0..tiles {
                for j in 0..NT {
                    for half in 0..2 {
                        let (row, column) = fragment::accumulator(lane, 2 * half);
                        let at = 2 * half as usize;
                        let [c0, c1] = [sums[i][j][at], sums[i][j][at + 1]];
                        // SAFETY: the element lies in the warp's staging area, which is free.
                        unsafe {
                            let at = staging.at(i as u32 * 16 + row, j as u32 * 8 + column);
                            shared::store_f32x2(at, c0, c1);
                        }
                    }
                }
            }
            // SAFETY: staged above by all lanes; `p` is valid.
            unsafe { staging.store_with::<T>(p, token0, feature0, bias) }
            // The next part's place among the registers is constant, and what is done with is not kept.
            for i in tiles..MT {
                sums[i - tiles] = sums[i];
            }
        }
    };
    work::for_each(p, tiles(p, BM, BN), k_blocks(p, BK), each);
}

macro_rules! instance {
    ($type:ty, $accumulator:ident, $bm:literal, $bn:literal, $bk:literal, $wm:literal, $wn:literal,
        $stages:literal) => {
        dense::<
            $type,
            accumulator::$accumulator,
            $bm,
            $bn,
            $bk,
            $wn,
            $stages,
            { $stages - 2 },
            { $wm * $wn * 32 },
            { $bk / 16 },
            { $bm / $wm / 16 },
            { $bn / $wn / 8 },
            { $bm / $wm },
            { $bn / $wn },
            { instance::Accumulator::$accumulator.staging_parts() },
            { $bm / $wm / instance::Accumulator::$accumulator.staging_parts() },
        >
    };
}

layout::sm80_dense_instances!(define_kernels);
layout::sm80_dense_acc16_instances!(define_kernels);
