//! `wmma_dense_*`: the classic dense GEMM on `wmma.m16n16k16`.
//!
//! A block computes a BM x BN tile of Y with WARPS_M x WARPS_N warps, each MT x NT accumulators of
//! 16x16. X is operand A (row-major), W operand B (column-major, since K is contiguous):
//!
//! ```text
//!                W: BN features
//!            +--------+--------+--------+--------+
//!   X: BM    | warp 0 | warp 1 | warp 2 | warp 3 |     each warp: 16 MT tokens x 16 NT features
//!   tokens   +--------+--------+--------+--------+
//!            | warp 4 | warp 5 | warp 6 | warp 7 |
//!            +--------+--------+--------+--------+
//! ```
//!
//! wmma.load takes a base address and a stride, so rows cannot be swizzled; they are padded by 16 bytes
//! instead. Constraints: wmma wants 32-byte aligned tiles, which BK a multiple of 16 and the padding
//! give, since a tile starts at a multiple of 16 rows.

use crate::epilogue::Staging;
use crate::load::TileLoader;
use crate::pipeline::{self, Tiles};
use crate::work::{self, Segment};
use crate::{k_blocks, tile_origin, tiles};
use cuda_std::convert::Convert;
use cuda_std::wmma::{Wmma, store_d};
use cuda_std::{shared, thread};
use layout::instance::{Family, WMMA_ROW_PADDING};
use layout::params::{ALIGNED_W, ALIGNED_X, GemmParams};

const PADDING: u32 = Family::WmmaDense.staging_padding();
const ROW_PADDING_BYTES: u32 = WMMA_ROW_PADDING * 2;

/// Fragments of one k16 step.
struct Fragments<const MT: usize, const NT: usize> {
    a: [[u32; 8]; MT],
    b: [[u32; 8]; NT],
}

/// The kernel of one instance. The const parameters past STAGES are derived from those before it, and
/// only here because Rust does not compute const parameters.
///
/// # Safety
/// `p` describes valid operands; a block has THREADS threads and the shared memory of the
/// instance.
#[inline(always)]
unsafe fn dense<
    T: Wmma + Convert,
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
>(
    p: &GemmParams,
) {
    let each = #[inline(always)]
    |segment: &Segment| {
        let row = const { BK + WMMA_ROW_PADDING };
        let stage_bytes = const { Family::WmmaDense.stage_bytes(BM, BN, BK) };
        let (m0, n0) = tile_origin(p, segment.tile, BM, BN);
        let base = shared::base();
        let x_aligned = p.aligned & ALIGNED_X != 0;
        let w_aligned = p.aligned & ALIGNED_W != 0;
        let x_tiles = TileLoader::<BM, BK, THREADS, ROW_PADDING_BYTES>::new(
            p.x, p.ldx, m0, p.m, p.k, x_aligned,
        );
        let w_tiles = TileLoader::<BN, BK, THREADS, ROW_PADDING_BYTES>::new(
            p.w, p.ldw, n0, p.n, p.k, w_aligned,
        );
        let tiles = Tiles::new(segment, p.k, BK, x_aligned && w_aligned);
        let ahead = tiles.first_ahead::<STAGES>() * BK;

        let warp = thread::thread_idx_x() / 32;
        let (warp_m, warp_n) = (warp / WARPS_N, warp % WARPS_N);
        let a_base = base + warp_m * WARP_M * row * 2;
        let b_base = base + (BM + warp_n * WARP_N) * row * 2;

        let mut acc = [[[0f32; 8]; NT]; MT];
        pipeline::run::<_, _, STAGES, STEPS, PENDING>(
            &tiles,
            (x_tiles.pointers(ahead, base), w_tiles.pointers(ahead, base + BM * row * 2)),
            Fragments { a: [[0; 8]; MT], b: [[0; 8]; NT] },
            #[inline(always)]
            |block, slot| {
                let stage = base + slot * stage_bytes;
                // SAFETY: the slot is free (pipeline::run) and inside the instance's shared memory.
                unsafe {
                    x_tiles.copy_any(stage, block * BK);
                    w_tiles.copy_any(stage + BM * row * 2, block * BK);
                }
            },
            #[inline(always)]
            |(x, w), turn, slot, step| {
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
            |slot, step, _| {
                let at = slot * stage_bytes + step * 32;
                let mut f = Fragments { a: [[0; 8]; MT], b: [[0; 8]; NT] };
                // SAFETY: the rows are those of the slot's tiles; all lanes are here.
                unsafe {
                    for i in 0..MT {
                        f.a[i] = T::load_a(a_base + at + i as u32 * 16 * row * 2, row);
                    }
                    for j in 0..NT {
                        f.b[j] = T::load_b(b_base + at + j as u32 * 16 * row * 2, row);
                    }
                }
                f
            },
            |f: &Fragments<MT, NT>, _| {
                for i in 0..MT {
                    for j in 0..NT {
                        T::mma(&mut acc[i][j], &f.a[i], &f.b[j]);
                    }
                }
            },
        );

        let mut sums = [[[0f32; 8]; NT]; MT];
        let from = acc.as_flattened().as_flattened().as_chunks().0;
        let to = sums.as_flattened_mut().as_flattened_mut().as_chunks_mut().0;
        let same = |four: [f32; 4]| four;
        // SAFETY: the host gives a workspace where its schedule shares tiles; shared memory is free.
        if !unsafe { segment.complete::<_, THREADS>(p, from, same, to, BM * BN * 4, base) } {
            return;
        }
        let staging = Staging::<WARP_M, WARP_N, PADDING>::new(base, warp);
        for i in 0..MT {
            for j in 0..NT {
                // SAFETY: the 16x16 tile lies in the warp's staging area, which is free.
                unsafe {
                    let at = staging.at(i as u32 * 16, j as u32 * 16);
                    store_d(at, Staging::<WARP_M, WARP_N, PADDING>::PITCH, &sums[i][j]);
                }
            }
        }
        // SAFETY: staged above by all lanes; `p` is valid.
        unsafe { staging.store::<T>(p, m0 + warp_m * WARP_M, n0 + warp_n * WARP_N) }
    };
    work::for_each(p, tiles(p, BM, BN), k_blocks(p, BK), each);
}

macro_rules! instance {
    ($type:ty, F32, $bm:literal, $bn:literal, $bk:literal, $wm:literal, $wn:literal,
        $stages:literal) => {
        dense::<
            $type,
            $bm,
            $bn,
            $bk,
            $wn,
            $stages,
            { $stages - 2 },
            { $wm * $wn * 32 },
            { $bk / 16 },
            { $bm / $wm / 16 },
            { $bn / $wn / 16 },
            { $bm / $wm },
            { $bn / $wn },
        >
    };
}

layout::wmma_dense_instances!(define_kernels);
