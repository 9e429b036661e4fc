//! `compress24_*`: prunes W to 2:4 and packs it to Packed24, in one pass.
//!
//! A warp packs one block of 16 rows and 64 columns, the unit of the metadata. Lane 4g + j holds the
//! 16 columns 16j.. of rows g and g + 8, so its eight nibbles are exactly its metadata word, and its
//! values are two 16-byte stores:
//!
//! ```text
//!            columns 0..15  16..31  32..47  48..63
//!   row g      lane 4g      4g+1    4g+2    4g+3      a row of the block is 128 contiguous bytes
//!   row g+8    lane 4g      4g+1    4g+2    4g+3
//! ```
//!
//! The grid is linear, one warp per block of W; blocks of a row are neighbours. Rows and columns past
//! W count as zeros, which gives the padding of the format.

use core::array::from_fn;
use cuda_std::{global, kernel, thread};
use layout::packed24::{BLOCK_COLS, BLOCK_ROWS, BLOCK_WORDS, Bf16, F16, Float16, select};
use layout::params::{ALIGNED_W, COMPRESS_WARPS, CompressParams};

/// Columns of W that a lane packs in each of its two rows.
const LANE_COLS: u32 = 16;

/// Packs the warp's block.
///
/// # Safety
/// `p` describes valid operands.
#[inline(always)]
unsafe fn compress<T: Float16>(p: &CompressParams) {
    let t = thread::thread_idx_x();
    let k_blocks = p.k.div_ceil(BLOCK_COLS as u32);
    let row_blocks = p.n.div_ceil(BLOCK_ROWS as u32);
    let block = thread::block_idx_x() as u64 * COMPRESS_WARPS as u64 + (t / 32) as u64;
    if block >= row_blocks as u64 * k_blocks as u64 {
        return;
    }
    let (row_block, k_block) = ((block / k_blocks as u64) as u32, (block % k_blocks as u64) as u32);
    let lane = thread::lane();
    let column = k_block * BLOCK_COLS as u32 + lane % 4 * LANE_COLS;
    let mut word = 0;
    for half in 0..2 {
        let row = row_block * BLOCK_ROWS as u32 + lane / 4 + 8 * half;
        // SAFETY: `load_row` reads inside W; the store's 16 bytes are the lane's in the values, whose
        // rows are padded to 16 and 64 columns.
        unsafe {
            let elements = load_row(p, row, column);
            let mut values = [0u32; 4];
            for q in 0..4 {
                let pair = |i: usize| elements[2 * q + i];
                let (nibble, [low, high]) = select::<T>([
                    pair(0) as u16,
                    (pair(0) >> 16) as u16,
                    pair(1) as u16,
                    (pair(1) >> 16) as u16,
                ]);
                values[q] = low as u32 | (high as u32) << 16;
                word |= (nibble as u32) << (16 * half + 4 * q as u32);
            }
            let index = row as u64 * (k_blocks as u64 * 32) + (column / 2) as u64;
            global::store_v4(p.values + index * 2, values);
        }
    }
    let index = block * BLOCK_WORDS as u64 + lane as u64;
    // SAFETY: the word is the lane's in the metadata.
    unsafe { global::store_u32(p.metadata + index * 4, word) }
}

/// W[row, column..column + 16], two elements a register, zeros past W.
///
/// # Safety
/// `p` describes a readable W.
#[inline(always)]
unsafe fn load_row(p: &CompressParams, row: u32, column: u32) -> [u32; 8] {
    if row >= p.n {
        return [0; 8];
    }
    let address = p.w + (row as u64 * p.ldw + column as u64) * 2;
    let left = p.k.saturating_sub(column);
    // SAFETY: row < n, and elements below `left` lie inside the row.
    unsafe {
        if left >= LANE_COLS && p.aligned & ALIGNED_W != 0 {
            let a = global::load_streaming_v4(address);
            let b = global::load_streaming_v4(address + 16);
            from_fn(|i| if i < 4 { a[i % 4] } else { b[i % 4] })
        } else {
            let one = |i: usize| {
                if (i as u32) < left { global::load_u16(address + 2 * i as u64) as u32 } else { 0 }
            };
            from_fn(|i| one(2 * i) | one(2 * i + 1) << 16)
        }
    }
}

macro_rules! kernels {
    ($($name:ident $type:ident),*) => {$(
        /// Prunes and packs W of the type in its name.
        ///
        /// # Safety
        /// `p` describes valid operands; a block has `32 * COMPRESS_WARPS` threads.
        #[kernel(launch_bounds(32 * COMPRESS_WARPS))]
        pub unsafe fn $name(p: CompressParams) {
            // SAFETY: as the caller vouches.
            unsafe { compress::<$type>(&p) }
        }
    )*};
}

kernels!(compress24_f16 F16, compress24_bf16 Bf16);
