//! `layout`: the arithmetic that device, host and reference must agree on, written once.
//!
//! `no_std`, no dependencies, no knowledge of devices. Every layout of the project is defined here
//! and nowhere else.
//!
//! | module | what it defines |
//! |---|---|
//! | [`packed24`] | the 2:4 format: value and metadata positions, legal nibbles, the pruning rule |
//! | [`swizzle`] | where a 16-byte chunk of a tile row lies in shared memory |
//! | [`descriptor`] | what 64 bits tell `wgmma` of an operand in shared memory |
//! | [`fragment`] | which matrix element a lane's register holds in `mma` and `mma.sp` |
//! | [`hopper`] | threads and shared memory of a block of the Hopper kernels |
//! | [`columns`] | how the features of a product are cut into tiles of these |
//! | [`tiled24`] | Packed24 in the order of the Hopper kernels' copies |
//! | [`raster`] | in which order thread blocks visit the tiles of Y |
//! | [`activation`] | ReLU, GELU (both forms) and SiLU, one definition for every number type |
//! | [`approximation`] | how the kernels evaluate them in f32, and how far off that may be |
//! | [`pair`] | how they do on pairs of 16-bit floats, and the same |
//! | [`params`] | the kernel parameter blocks, as both sides see them |
//! | [`instance`] | the list of GEMM kernel instances: entry name, tile, warps, stages |
#![no_std]

pub mod activation;
pub mod approximation;
pub mod columns;
pub mod descriptor;
pub mod fragment;
pub mod hopper;
pub mod instance;
pub mod packed24;
pub mod pair;
pub mod params;
pub mod raster;
pub mod swizzle;
pub mod tiled24;
