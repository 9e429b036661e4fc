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
//! Constraints: BK is 64, one metadata block, so that a word is loaded once a stage; BN/WARPS_N is a
//! multiple of 16; the rest is asserted by the loader. W is padded by its format to N = 16 and K = 64;
//! rows of a tile past that repeat the last metadata block, because every nibble the hardware sees
//! must be legal, with zero values.

use crate::epilogue::Staging;
use crate::load::TileLoader;
use crate::pipeline::{self, Tiles};
use crate::work::{self, Segment};
use crate::{k_blocks, tile_origin, tiles};
use cuda_std::convert::Convert;
use cuda_std::mma_sp::MmaSp;
use cuda_std::{cp_async, ldmatrix, shared, thread};
use layout::instance::Family;
use layout::packed24::{BLOCK_ROWS, BLOCK_WORDS};
use layout::params::{ALIGNED_X, GemmParams};
use layout::{fragment, swizzle};

const PADDING: u32 = Family::Sm80Sparse24.staging_padding();
/// Steps of the main loop over K = 64: two k32 steps, each in two halves of the warp's tokens, which
/// keeps only half of B in registers. With all of it, the 64x64 warp tile spilled 17 registers.
const STEPS: u32 = 4;
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
    T: MmaSp + Convert,
    const BM: u32,
    const BN: u32,
    const BK: u32,
    const HALF_BK: u32,
    const WARPS_N: u32,
    const STAGES: u32,
    const PENDING: u32,
    const THREADS: u32,
    const FT: usize,
    const TT: usize,
    const HALF_TT: usize,
    const WARP_M: u32,
    const WARP_N: u32,
>(
    p: &GemmParams,
) {
    const { assert!(BK == 64 && HALF_BK == 32 && TT == 2 * HALF_TT) };
    let each = #[inline(always)]
    |segment: &Segment| {
        let (x_chunks, w_chunks) = const { (BK / 8, HALF_BK / 8) };
        let stage_bytes = const { Family::Sm80Sparse24.stage_bytes(BM, BN, BK) };
        let values_at = const { BM * BK * 2 };
        let metadata_at = values_at + const { BN * HALF_BK * 2 };
        let (m0, n0) = tile_origin(p, segment.tile, BM, BN);
        let base = shared::base();
        let n_padded = p.n.next_multiple_of(BLOCK_ROWS as u32);
        let k_blocks = p.k.div_ceil(BK);
        let x_aligned = p.aligned & ALIGNED_X != 0;
        let x_tiles = TileLoader::<BM, BK, THREADS, 0>::new(p.x, p.ldx, m0, p.m, p.k, x_aligned);
        let w_tiles = TileLoader::<BN, HALF_BK, THREADS, 0>::new(
            p.w,
            p.ldw,
            n0,
            n_padded,
            k_blocks * HALF_BK,
            true,
        );
        // Thread t < BN/2 copies chunk t % 8 of the tile's metadata block t / 8.
        let t = thread::thread_idx_x();
        let row_block = (n0 / BLOCK_ROWS as u32 + t / 8).min(n_padded / BLOCK_ROWS as u32 - 1);
        let metadata = p.metadata
            + row_block as u64 * k_blocks as u64 * BLOCK_BYTES as u64
            + (t % 8 * 16) as u64;

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
            base + metadata_at + warp_n * (WARP_N / BLOCK_ROWS as u32) * BLOCK_BYTES + lane * 4;
        let copy_metadata = |block: u32, stage: u32, active: bool| {
            let source = metadata + block as u64 * BLOCK_BYTES as u64;
            // SAFETY: the slot is free (pipeline::run); the metadata block exists by construction of
            // `row_block` and block < k_blocks.
            unsafe {
                cp_async::copy_16_if(stage + metadata_at + t * 16, source, active && t < BN / 2)
            }
        };

        let mut acc = [[[0f32; 4]; TT]; FT];
        pipeline::run::<_, STAGES, STEPS, PENDING>(
            &Tiles::new(segment, p.k, BK, x_aligned),
            Fragments { a: [[0; 4]; FT], b: [[0; 4]; HALF_TT], metadata: [0; FT] },
            #[inline(always)]
            |block, slot| {
                let stage = base + slot * stage_bytes;
                // SAFETY: the slot is free (pipeline::run) and inside the instance's shared memory.
                unsafe {
                    x_tiles.copy_any(stage, block * BK);
                    w_tiles.copy_any(stage + values_at, block * HALF_BK);
                }
                copy_metadata(block, stage, true);
            },
            |block, slot, step, active| {
                let stage = base + slot * stage_bytes;
                // SAFETY: as above; where active, X is aligned and K fills the block.
                unsafe {
                    x_tiles.copy_part(stage, block * BK, step, STEPS, active);
                    w_tiles.copy_part(stage + values_at, block * HALF_BK, step, STEPS, active);
                }
                if step == 0 {
                    copy_metadata(block, stage, active);
                }
            },
            |slot, step, previous| {
                let stage = slot * stage_bytes;
                let (k_step, half) = (step / 2, step % 2);
                let b_at = swizzle::step(b_at + stage, k_step * 4);
                let mut f =
                    Fragments { a: previous.a, b: [[0; 4]; HALF_TT], metadata: previous.metadata };
                // SAFETY: the addresses are those of chunks and words of the slot; all lanes are here.
                unsafe {
                    for i in 0..FT {
                        if step == 0 {
                            f.metadata[i] =
                                shared::load_u32(metadata_base + stage + i as u32 * BLOCK_BYTES);
                        }
                        if half == 0 {
                            let a_at = swizzle::step(a_at + stage, k_step * 2);
                            f.a[i] = ldmatrix::x4(a_at + i as u32 * 16 * HALF_BK * 2);
                        }
                    }
                    for j in 0..HALF_TT {
                        let row = (half * HALF_TT as u32 + j as u32) * 8;
                        f.b[j] = ldmatrix::x4(b_at + row * BK * 2);
                    }
                }
                f
            },
            |f: &Fragments<FT, HALF_TT>, step| {
                for i in 0..FT {
                    for j in 0..HALF_TT {
                        let d = &mut acc[i][(step % 2) as usize * HALF_TT + j];
                        if step / 2 == 0 {
                            T::mma_sp::<0>(d, &f.a[i], &f.b[j], f.metadata[i]);
                        } else {
                            T::mma_sp::<1>(d, &f.a[i], &f.b[j], f.metadata[i]);
                        }
                    }
                }
            },
        );

        let flat = acc.as_flattened_mut().as_flattened_mut();
        // SAFETY: the host gives a workspace where its schedule shares tiles; shared memory is free.
        if !unsafe { segment.complete::<THREADS>(p, flat, BM * BN * 4, base) } {
            return;
        }
        // The accumulator's rows are features: it is transposed on its way to the staging area.
        let staging = Staging::<WARP_M, WARP_N, PADDING>::new(base, warp);
        for i in 0..FT {
            for j in 0..TT {
                for r in 0..4 {
                    let (feature, token) = fragment::accumulator(lane, r);
                    // SAFETY: the element lies in the warp's staging area, which is free.
                    unsafe {
                        let at = staging.at(j as u32 * 8 + token, i as u32 * 16 + feature);
                        shared::store_f32(at, acc[i][j][r as usize]);
                    }
                }
            }
        }
        // SAFETY: staged above by all lanes; `p` is valid.
        unsafe { staging.store::<T>(p, m0 + warp_m * WARP_M, n0 + warp_n * WARP_N) }
    };
    work::for_each(p, tiles(p, BM, BN), k_blocks(p, BK), each);
}

macro_rules! instance {
    ($type:ty, $bm:literal, $bn:literal, $bk:literal, $wm:literal, $wn:literal,
        $stages:literal) => {
        sparse::<
            $type,
            $bm,
            $bn,
            $bk,
            { $bk / 2 },
            $wn,
            $stages,
            { $stages - 2 },
            { $wm * $wn * 32 },
            { $bn / $wn / 16 },
            { $bm / $wm / 8 },
            { $bm / $wm / 16 },
            { $bm / $wm },
            { $bn / $wn },
        >
    };
}

layout::sm80_sparse24_instances!(define_kernels);
