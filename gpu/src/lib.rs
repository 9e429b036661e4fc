//! `gpu`: SparseFlow's kernels, compiled to PTX for nvptx64 by `host/cuda_builder`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`wmma`] | `wmma_dense_*`: the classic dense GEMM, wmma from padded shared memory |
//! | [`ampere::dense`] | `sm80_dense_*`: mma.sync from swizzled shared memory |
//! | [`ampere::sparse`] | `sm80_sparse24_*`: mma.sp over Packed24 |
//! | [`ampere::accumulator`] | what the sm80 kernels sum in: f32, or f16 (`*_acc16`) |
//! | `hopper::kernels` | `sm90_dense_*`, `sm90_sparse24_*`: wgmma and wgmma.sp, for sm_90a alone |
//! | `hopper::{ring, produce, consume}` | their stages, the producer, the consumers |
//! | `hopper::{tiles, slices}` | a consumer's way through its tiles, and through one that two blocks share |
//! | `hopper::{finish, store}` | what it does with a tile that it has multiplied; the boxes of Y that it stores |
//! | [`compress`] | `compress24_*`: prune and pack W in one pass |
//! | `tile24` | Packed24 into the order of the Hopper kernels, for sm_90a alone |
//! | [`work`] | which tiles and K-blocks a thread block computes; sums over several blocks |
//! | [`load`] | tiles of an operand, from global to shared memory, edges included |
//! | [`pipeline`] | the multistage cp.async main loop of the three GEMMs |
//! | [`epilogue`] | alpha, beta*C, bias, activation, gating and the store of Y, of all GEMMs |
//! | [`row`] | a lane's part of a row of C or Y: loads, and the formats of Y |
//!
//! A GEMM kernel takes `layout::params::GemmParams` and is launched with a linear grid, whose blocks take
//! tiles of Y in the order of `layout::raster`. Tile shapes are listed in `layout::instance`.
#![no_std]
#![cfg(target_arch = "nvptx64")]
// stmt_expr_attributes: closures that must be inlined, or what they capture goes to local memory.
#![feature(abi_ptx, asm_experimental_arch, stmt_expr_attributes)]

/// Turns a list of instances (`layout::instance`) into entries: f16 and bf16 of each line, or the one of a
/// line that sums in f16. The module defines before it `instance!`, which names the generic kernel with an
/// instance's types and constants.
#[cfg(not(sm_90a))]
macro_rules! define_kernels {
    ($family:ident $($f16:ident $bf16:ident [$bm:literal, $bn:literal, $bk:literal]
        [$wm:literal, $wn:literal] $stages:literal $min_blocks:literal;)*) => {$(
        define_kernels!(@one $f16 F16 F32 $bm $bn $bk $wm $wn $stages $min_blocks);
        define_kernels!(@one $bf16 Bf16 F32 $bm $bn $bk $wm $wn $stages $min_blocks);
    )*};
    ($family:ident $($acc16:ident [$bm:literal, $bn:literal, $bk:literal]
        [$wm:literal, $wn:literal] $stages:literal $min_blocks:literal;)*) => {$(
        define_kernels!(@one $acc16 F16 F16 $bm $bn $bk $wm $wn $stages $min_blocks);
    )*};
    (@one $name:ident $type:ident $accumulator:ident $bm:literal $bn:literal $bk:literal
        $wm:literal $wn:literal $stages:literal $min_blocks:literal) => {
        /// An instance of the module's kernel; its name says types and tile.
        ///
        /// # Safety
        /// `p` describes valid operands and, with the grid, a schedule that covers Y; threads and shared
        /// memory of a block are those of the instance.
        #[::cuda_std::kernel(launch_bounds($wm * $wn * 32, $min_blocks))]
        pub unsafe fn $name(p: GemmParams) {
            // SAFETY: as the caller vouches.
            unsafe {
                instance!(::layout::packed24::$type, $accumulator, $bm, $bn, $bk, $wm, $wn, $stages)(&p)
            }
        }
    };
}

#[cfg(not(sm_90a))]
pub mod ampere {
    //! Kernels for sm_80 and everything after it.
    pub mod accumulator;
    pub mod dense;
    pub mod sparse;
}
#[cfg(sm_90a)]
pub mod hopper {
    //! Kernels for sm_90a.
    pub mod consume;
    pub mod finish;
    pub mod kernels;
    pub mod produce;
    pub mod ring;
    pub mod slices;
    pub mod store;
    pub mod tiles;
}
#[cfg(not(sm_90a))]
pub mod compress;
pub mod epilogue;
#[cfg(not(sm_90a))]
pub mod load;
#[cfg(not(sm_90a))]
pub mod pipeline;
pub mod row;
#[cfg(sm_90a)]
pub mod tile24;
#[cfg(not(sm_90a))]
pub mod wmma;
pub mod work;

use layout::params::GemmParams;
#[cfg(not(sm_90a))]
use layout::raster;

/// First token and first feature of a tile.
#[cfg(not(sm_90a))]
#[inline(always)]
fn tile_origin(p: &GemmParams, tile: u32, bm: u32, bn: u32) -> (u32, u32) {
    let (tm, tn) = raster::tile(tile, p.m.div_ceil(bm), p.n.div_ceil(bn), p.band);
    (tm * bm, tn * bn)
}

/// Tiles of Y.
#[cfg(not(sm_90a))]
#[inline(always)]
fn tiles(p: &GemmParams, bm: u32, bn: u32) -> u32 {
    p.m.div_ceil(bm) * p.n.div_ceil(bn)
}

/// K-blocks of a tile. At least one, so that Y is written where K is 0.
#[inline(always)]
fn k_blocks(p: &GemmParams, bk: u32) -> u32 {
    p.k.div_ceil(bk).max(1)
}
