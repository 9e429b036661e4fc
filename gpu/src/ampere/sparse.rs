//! `sm80_sparse24_*`: 2:4-sparse GEMM on `mma.sp::ordered_metadata.m16n8k32`.
//!
//! The sparse operand can only be A, the instruction's first, so a block computes the transposed tile:
//! W (features) along m16, X (tokens) along n8. Each warp's part is FT m16 by TT n8 tiles:
//!
//! ```text
//!                X: BM tokens                  warp part: 16 FT features x 8 TT tokens
//!            +--------+--------+               +---+---+---+---+
//!   W: BN    | warp 0 | warp 2 |               |   | n8|   |   |
//!  features  +--------+--------+     each:     +---+---+---+---+
//!            | warp 1 | warp 3 |               |m16|   |   |   |
//!            +--------+--------+               +---+---+---+---+
//! ```
//!
//! A stage holds, for BK columns of W: the X tile (BM x BK), the values (BN x BK/2) and the metadata
//! (BN/16 blocks of 32 words per K = 64). A metadata word serves K = 64, two k32 steps by selector.
//!
//! Constraints: BK is a multiple of 64, whole metadata blocks; BN/WARPS_N is a multiple of 16; the rest is
//! asserted by the loader. W is padded by its format to N = 16 and K = 64;
//! rows of a tile past that repeat the last metadata block, because every nibble the hardware sees
//! must be legal, with zero values.

use super::accumulator::{self, Accumulator};
use crate::epilogue::Staging;
use crate::load::TileLoader;
use crate::pipeline::{self, Tiles};
use crate::work::{self, Segment};
use crate::{k_blocks, tile_origin, tiles};
use cuda_std::convert::Convert;
use cuda_std::mma_sp::MmaSp;
use cuda_std::{cp_async, ldmatrix, shared, thread, warp};
use layout::instance::{self, Family};
use layout::packed24::{BLOCK_COLS, BLOCK_ROWS, BLOCK_WORDS};
use layout::params::{ALIGNED_X, GemmParams};
use layout::{fragment, swizzle};

const PADDING: u32 = Family::Sm80Sparse24.staging_padding();
/// Steps of the main loop over K = 64: two k32 steps, each in two halves of the warp's tokens, which
/// keeps only half of B in registers. With all of it, the 64x64 warp tile spilled 17 registers.
const STEPS_OF_64: u32 = 4;
/// Bytes of a metadata block.
const BLOCK_BYTES: u32 = BLOCK_WORDS as u32 * 4;

/// Fragments of one step: A and metadata of a k32 step, B of half of the tokens.
struct Fragments<const FT: usize, const HALF_TT: usize> {
    a: [[u32; 4]; FT],
    b: [[u32; 4]; HALF_TT],
    metadata: [u32; FT],
}

/// The kernel of one instance. The const parameters past STAGES are derived from those before it, and
/// only here because Rust does not compute const parameters.
///
/// # Safety
/// `p` describes valid operands; a block has THREADS threads and the shared memory of the
/// instance.
#[inline(always)]
unsafe fn sparse<
    T: MmaSp<A> + Convert,
    A: Accumulator,
    const BM: u32,
    const BN: u32,
    const BK: u32,
    const HALF_BK: u32,
    const WARPS_N: u32,
    const STAGES: u32,
    const PENDING: u32,
    const THREADS: u32,
    const STEPS: u32,
    const FT: usize,
    const TT: usize,
    const HALF_TT: usize,
    const WARP_M: u32,
    const WARP_N: u32,
    const PARTS: u32,
    const PART_M: u32,
>(
    p: &GemmParams,
) {
    const {
        assert!(BK % 64 == 0 && HALF_BK == BK / 2 && TT == 2 * HALF_TT);
        assert!(STEPS == BK / 64 * STEPS_OF_64);
    };
    let each = #[inline(always)]
    |segment: &Segment| {
        let (x_chunks, w_chunks) = const { (BK / 8, HALF_BK / 8) };
        let stage_bytes = const { Family::Sm80Sparse24.stage_bytes(BM, BN, BK) };
        let values_at = const { BM * BK * 2 };
        let metadata_at = values_at + const { BN * HALF_BK * 2 };
        let (m0, n0) = tile_origin(p, segment.tile, BM, BN);
        let base = shared::base();
        let n_padded = p.n.next_multiple_of(BLOCK_ROWS as u32);
        // Columns are padded to 64: with a larger BK, the last K-block has fewer metadata blocks.
        let k_words = p.k.div_ceil(BLOCK_COLS as u32);
        let x_aligned = p.aligned & ALIGNED_X != 0;
        let x_tiles = #[inline(always)]
        || TileLoader::<BM, BK, THREADS, 0>::new(p.x, p.ldx, m0, p.m, p.k, x_aligned);
        let values = k_words * (BLOCK_COLS as u32 / 2);
        let w_tiles =
            #[inline(always)]
            || TileLoader::<BN, HALF_BK, THREADS, 0>::new(p.w, p.ldw, n0, n_padded, values, true);
        // The tile's metadata is BN/16 rows of BK/8 chunks, of which a thread copies one at most. Past the
        // end of W the last ones are copied again: zero values take any legal metadata.
        let t = thread::thread_idx_x();
        let row_chunks = const { BK / 8 };
        let copies_metadata = t < const { BN / BLOCK_ROWS as u32 * (BK / 8) };
        let metadata = |block: u32| {
            let row = n0 / BLOCK_ROWS as u32 + t / row_chunks;
            let row = row.min(n_padded / BLOCK_ROWS as u32 - 1);
            let word = (block * (BK / 64) + t % row_chunks / 8).min(k_words - 1);
            let index = row as u64 * k_words as u64 + word as u64;
            p.metadata + index * BLOCK_BYTES as u64 + (t % 8 * 16) as u64
        };
        let k_tiles = Tiles::new(segment, p.k, BK, x_aligned);
        let ahead = k_tiles.first_ahead::<STAGES>();

        let (warp, lane) = (t / 32, thread::lane());
        let (warp_m, warp_n) = (warp / WARPS_N, warp % WARPS_N);
        let (a_row, a_chunk) = fragment::ldmatrix_a(lane);
        let (b_row, b_chunk) = fragment::ldmatrix_b32(lane);
        // A lane's first chunk in the tiles of slot 0. Tiles, and rows of a warp part, start at multiples
        // of 8 rows, so the swizzle depends on the lane alone, and a k-step's chunks are found by
        // flipping bits of the address (`swizzle::step`) instead of computing it.
        let a_at = base
            + values_at
            + warp_n * WARP_N * HALF_BK * 2
            + swizzle::offset(a_row, a_chunk, w_chunks);
        let b_at = base + warp_m * WARP_M * BK * 2 + swizzle::offset(b_row, b_chunk, x_chunks);
        let metadata_base =
            base + metadata_at + warp_n * (WARP_N / BLOCK_ROWS as u32) * row_chunks * 16 + lane * 4;

        let mut acc = [[A::ZERO; TT]; FT];
        let nothing = Fragments { a: [[0; 4]; FT], b: [[0; 4]; HALF_TT], metadata: [0; FT] };
        let fragments = #[inline(always)]
        |slot, step, previous: &Fragments<FT, HALF_TT>| {
            let stage = slot * stage_bytes;
            let (word, k_step, half) = (step / STEPS_OF_64, step / 2, step % 2);
            let b_at = swizzle::step(b_at, k_step * 4) + stage;
            let mut f =
                Fragments { a: previous.a, b: [[0; 4]; HALF_TT], metadata: previous.metadata };
            // SAFETY: the addresses are those of chunks and words of the slot; all lanes are here.
            unsafe {
                for i in 0..FT {
                    if step % STEPS_OF_64 == 0 {
                        let block = i as u32 * row_chunks * 16 + word * BLOCK_BYTES;
                        f.metadata[i] = shared::load_u32(metadata_base + stage + block);
                    }
                    if half == 0 {
                        let a_at = swizzle::step(a_at, k_step * 2) + stage;
                        f.a[i] = ldmatrix::x4(a_at + i as u32 * 16 * HALF_BK * 2);
                    }
                }
                for j in 0..HALF_TT {
                    let row = (half * HALF_TT as u32 + j as u32) * 8;
                    f.b[j] = ldmatrix::x4(b_at + row * BK * 2);
                }
            }
            f
        };
        let mma = #[inline(always)]
        |f: &Fragments<FT, HALF_TT>, step: u32| {
            for i in 0..FT {
                for j in 0..HALF_TT {
                    let d = &mut acc[i][(step % 2) as usize * HALF_TT + j];
                    if step / 2 % 2 == 0 {
                        T::mma_sp::<0>(d, &f.a[i], &f.b[j], f.metadata[i]);
                    } else {
                        T::mma_sp::<1>(d, &f.a[i], &f.b[j], f.metadata[i]);
                    }
                }
            }
        };
        pipeline::run::<_, _, STAGES, STEPS, PENDING>(
            &k_tiles,
            (
                x_tiles().pointers(ahead * BK, base),
                w_tiles().pointers(ahead * HALF_BK, base + values_at),
                metadata(ahead),
            ),
            nothing,
            #[inline(always)]
            |block, slot| {
                let stage = base + slot * stage_bytes;
                // SAFETY: the slot is free (pipeline::run) and inside the shared memory; the metadata
                // block exists.
                unsafe {
                    x_tiles().copy_any(stage, block * BK);
                    w_tiles().copy_any(stage + values_at, block * HALF_BK);
                    let to = stage + metadata_at + t * 16;
                    cp_async::copy_16_if(to, metadata(block), copies_metadata);
                }
            },
            #[inline(always)]
            |(x, w, metadata), turn, slot, step| {
                let stage = slot * stage_bytes;
                // None in the last step, which ends in the barrier.
                if step + 1 == STEPS {
                    return;
                }
                let part = (step, STEPS - 1);
                // SAFETY: as above; X is aligned and K fills the block.
                unsafe {
                    x.copy_part(turn, stage, part);
                    w.copy_part(turn, stage, part);
                    if step == 0 {
                        let from = metadata + (turn * (BK / 64) * BLOCK_BYTES) as u64;
                        let to = base + stage + metadata_at + t * 16;
                        cp_async::copy_16_if(to, from, copies_metadata);
                    }
                }
            },
            #[inline(always)]
            |(x, w, metadata)| {
                x.advance(STAGES);
                w.advance(STAGES);
                *metadata += (STAGES * (BK / 64) * BLOCK_BYTES) as u64;
            },
            fragments,
            mma,
        );

        let mut sums = [[[0f32; 4]; TT]; FT];
        let (from, to) = (acc.as_flattened(), sums.as_flattened_mut());
        // SAFETY: the host gives a workspace where its schedule shares tiles; shared memory is free.
        let complete =
            unsafe { segment.complete::<A, THREADS>(p, from, A::widen, to, BM * BN * 4, base) };
        if !complete {
            return;
        }
        // The accumulator's rows are features: it is transposed on its way to the staging area.
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
            let tiles = const { PART_M as usize / 8 };
            for i in 0..FT {
                for j in 0..tiles {
                    for r in 0..4 {
                        let (feature, token) = fragment::accumulator(lane, r);
                        // SAFETY: the element lies in the warp's staging area, which is free.
                        unsafe {
                            let at = staging.at(j as u32 * 8 + token, i as u32 * 16 + feature);
                            shared::store_f32(at, sums[i][j][r as usize]);
                        }
                    }
                }
            }
            // SAFETY: staged above by all lanes; `p` is valid.
            unsafe { staging.store_with::<T>(p, token0, feature0, bias) }
            // The next part's place among the registers is constant, and what is done with is not kept.
            for i in 0..FT {
                for j in tiles..TT {
                    sums[i][j - tiles] = sums[i][j];
                }
            }
        }
    };
    work::for_each(p, tiles(p, BM, BN), k_blocks(p, BK), each);
}

macro_rules! instance {
    ($type:ty, $accumulator:ident, $bm:literal, $bn:literal, $bk:literal, $wm:literal, $wn:literal,
        $stages:literal) => {
        sparse::<
            $type,
            accumulator::$accumulator,
            $bm,
            $bn,
            $bk,
            { $bk / 2 },
            $wn,
            $stages,
            { $stages - 2 },
            { $wm * $wn * 32 },
            { $bk / 16 },
            { $bn / $wn / 16 },
            { $bm / $wm / 8 },
            { $bm / $wm / 16 },
            { $bm / $wm },
            { $bn / $wn },
            { instance::Accumulator::$accumulator.staging_parts() },
            { $bm / $wm / instance::Accumulator::$accumulator.staging_parts() },
        >
    };
}

layout::sm80_sparse24_instances!(define_kernels);
layout::sm80_sparse24_acc16_instances!(define_kernels);
