//! The kernel parameter blocks, as host and device both see them.
//!
//! Each kernel takes one block by value. Addresses are device addresses in 64 bits, 0 where an
//! operand is absent; strides are in elements and may exceed the row length.

use crate::raster::Divisor;

/// The error of evaluating an activation at z, in units of 2^-24 of |z|: see
/// [`approximation`](crate::approximation).
pub const ACTIVATION_ROUNDINGS: u32 = 8;

/// Roundings of f32 that an epilogue may add to the error of a dot product, in units of 2^-24 of the
/// summands' magnitude: two products and two sums of `alpha * acc + beta * C + bias`, and the activation. A
/// row scale, and the product of gate and value, are one more each.
pub const EPILOGUE_ROUNDINGS: u32 = 4 + ACTIVATION_ROUNDINGS;

/// What the elements of Y are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Output {
    /// The type of X and W, and so are those of C.
    Input = 0,
    /// f32, and so are those of C.
    F32 = 1,
    /// int8: the nearest integer, ties to even, saturated to -128..=127, and 0 for NaN. C is of the type
    /// of X and W.
    Int8 = 2,
}

/// `Y[m,n] = act(alpha * X[m,k] . W[n,k]^T + beta * C[m,n] + bias[n])`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GemmParams {
    /// X, `[m, k]` with row stride `ldx`.
    pub x: u64,
    /// W, `[n, k]` with row stride `ldw`; sparse kernels: the Packed24 values, 16-byte aligned.
    pub w: u64,
    /// Packed24 metadata words, 16-byte aligned; dense kernels: 0.
    pub metadata: u64,
    /// C, `[m, n]` with row stride `ldc`, in the type that `output` says, or 0 (then beta is 0).
    pub c: u64,
    /// bias, `[n]` in the input type, or 0.
    pub bias: u64,
    /// Y, `[m, n]` (`[m, n/2]` where `gated`) with row stride `ldy`.
    pub y: u64,
    /// Factors of the rows of Y before they are rounded to int8, `[m]` in f32, or 0.
    pub row_scale: u64,
    /// Partial tiles in f32, see [`partial_slot`]; 0 where no tile is shared.
    pub workspace: u64,
    /// [`COUNTERS`] words that are 0 before and after a launch; 0 where no tile is shared.
    pub counters: u64,
    /// Elements from one row of X to the next.
    pub ldx: u64,
    /// Elements from one row of W to the next; sparse kernels: `k_padded / 2`.
    pub ldw: u64,
    /// Elements from one row of C to the next.
    pub ldc: u64,
    /// Elements from one row of Y to the next.
    pub ldy: u64,
    /// Tokens.
    pub m: u32,
    /// Output features.
    pub n: u32,
    /// Input features.
    pub k: u32,
    /// Whole tiles that each block computes: block b of G those numbered `b`, `b + G`, ...
    pub waves: u32,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// An [`Activation`](crate::activation::Activation) as its number.
    pub activation: u32,
    /// An [`Output`] as its number.
    pub output: u32,
    /// Which operands a kernel may touch 16 bytes at a time: the `ALIGNED_*` bits.
    pub aligned: u32,
    /// Whether features 2j and 2j + 1 are a gate and its value: `y[j] = act(z[2j]) * z[2j + 1]`.
    pub gated: u32,
    /// Of the tiles that are left then, units of work (one tile, one K-block) of each block.
    pub units: u32,
    /// Feature tiles visited before the next row of token tiles, see `layout::raster`.
    pub band: u32,
}

/// Bytes of a tensor map.
pub const TENSOR_MAP_BYTES: usize = 128;

/// What the Hopper kernels take: tensor maps (128 opaque bytes each, encoded by the driver), and the product.
/// The block is passed by value, at an address that is a multiple of 64.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HopperParams {
    /// X; a dense W; Y (unused unless [`ALIGNED_STORE`]).
    pub maps: [[u64; TENSOR_MAP_BYTES / 8]; 3],
    /// Columns of tiles that have all features of the shape, see `layout::columns`.
    pub wide: u32,
    /// Zero.
    pub reserved: u32,
    /// The tiles of a band, see `layout::raster`.
    pub bands: Divisor,
    /// The product. A sparse W is in the order of `layout::tiled24`.
    pub gemm: GemmParams,
}

/// Places of [`HopperParams::maps`].
pub const MAP_X: usize = 0;
/// A dense W.
pub const MAP_W: usize = 1;
/// Y.
pub const MAP_Y: usize = 2;

/// Address of the map at `place` of those at `maps`.
#[inline(always)]
pub const fn map(maps: u64, place: usize) -> u64 {
    maps + (place * TENSOR_MAP_BYTES) as u64
}

/// Words of [`GemmParams::counters`], one for each tile that is shared between blocks.
pub const COUNTERS: u32 = 1 << 16;

/// Where in the workspace, counted in tiles of BM x BN f32, block `block` leaves a partial sum. Its run
/// of units touches at most two tiles in part: the one it begins in, and the one it ends in.
pub const fn partial_slot(block: u32, begins_tile: bool) -> u32 {
    2 * block + begins_tile as u32
}

/// Bit of [`GemmParams::aligned`]: address and row stride of X are multiples of 16 bytes.
pub const ALIGNED_X: u32 = 1;
/// Bit of [`GemmParams::aligned`]: the same of W.
pub const ALIGNED_W: u32 = 2;
/// Bit of [`GemmParams::aligned`]: addresses and row strides of Y, C and bias are multiples of 4 elements.
pub const ALIGNED_EPILOGUE: u32 = 4;
/// Bit of [`GemmParams::aligned`]: Y has the type of X, address and row stride that are multiples of 16 bytes,
/// and nothing but alpha, bias and activation comes before it is stored.
pub const ALIGNED_STORE: u32 = 8;
/// Bit of [`GemmParams::aligned`]: besides [`ALIGNED_STORE`], no tile is shared, and each has at least
/// `Shape::overlapping_blocks` K-blocks, so that a Hopper kernel may finish one behind the products of the next.
pub const OVERLAPPED: u32 = 16;
/// Bit of [`GemmParams::aligned`]: alpha is 1, so that a Hopper kernel may begin sums with the bias, and leaves them as
/// they are where there is none.
pub const UNIT_ALPHA: u32 = 32;
/// Bit of [`GemmParams::aligned`]: there is a bias. Unlike its address it is compiled into a Hopper kernel.
pub const BIASED: u32 = 64;

/// Prunes and packs `W[n,k]` to Packed24.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CompressParams {
    /// W, `[n, k]` with row stride `ldw`.
    pub w: u64,
    /// Packed24 values out, 16-byte aligned.
    pub values: u64,
    /// Packed24 metadata words out, 16-byte aligned.
    pub metadata: u64,
    /// Elements from one row of W to the next.
    pub ldw: u64,
    /// Rows of W.
    pub n: u32,
    /// Columns of W.
    pub k: u32,
    /// [`ALIGNED_W`] or 0.
    pub aligned: u32,
    /// Zero.
    pub reserved: u32,
}

/// Brings W[n, k] from Packed24 to `layout::tiled24`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TileParams {
    /// Packed24 values, 16-byte aligned.
    pub values: u64,
    /// Packed24 metadata words, 16-byte aligned.
    pub metadata: u64,
    /// Blocks out, 16-byte aligned.
    pub tiles: u64,
    /// Rows of W.
    pub n: u32,
    /// Columns of W.
    pub k: u32,
}

/// Threads of a block of `tile24`: three chunks each.
pub const TILE_THREADS: u32 = 96;

/// Warps of a compress block; each packs one 16x64 block of W at a time.
pub const COMPRESS_WARPS: u32 = 8;
