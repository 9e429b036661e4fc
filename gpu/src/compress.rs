//! `compress24_*`: prunes W to 2:4 and packs it to Packed24, in one pass.
//!
//! A warp packs one block of 16 rows and 64 columns, the unit of the metadata. Lane l reads chunk l % 8 (8
//! columns, 16 bytes) of rows l / 8, + 4, + 8, + 12, so that each of its four loads is a whole row of the
//! block to every eight lanes:
//!
//! ```text
//!              chunk 0   1   2   3   4   5   6   7
//!   row 0      lane  0   1   2   3   4   5   6   7      then rows 4, 8, 12
//!   row 1            8   9  10  11  12  13  14  15           rows 5, 9, 13
//!   ...
//! ```
//!
//! A chunk has two nibbles. Two neighbouring lanes make half a metadata word of them, and the halves of
//! rows r and r + 8 are both the lane's own. (With a lane's 32 bytes of a row read by two loads, each
//! load took half of every 32-byte sector, and W passed through L2 twice.)
//!
//! The grid is linear, one warp per block of W; blocks of a row are neighbours. Rows and columns past
//! W count as zeros, which gives the padding of the format.

use core::array::from_fn;
use cuda_std::{global, kernel, permute, shuffle, thread};
use layout::packed24::{
    BLOCK_COLS, BLOCK_ROWS, BLOCK_WORDS, Bf16, F16, Float16, kept, nibble, positive_zeros,
};
use layout::params::{ALIGNED_W, COMPRESS_WARPS, CompressParams};

/// Columns of W in a lane's chunk.
const CHUNK_COLS: u32 = 8;
/// Rows of the block that a lane has a chunk of, and the distance between them.
const LANE_ROWS: usize = 4;
const ROW_STEP: u32 = 4;

/// Packs the warp's block.
///
/// All lanes of the warp must reach it together.
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
    let (row, chunk) = (row_block * BLOCK_ROWS as u32 + lane / 8, lane % 8);
    let column = k_block * BLOCK_COLS as u32 + chunk * CHUNK_COLS;
    // SAFETY: as the caller vouches.
    let chunks = unsafe { load_chunks(p, row, column) };
    // Where the lane's values begin, and bytes from one of its rows to the next.
    let pitch = k_blocks as u64 * BLOCK_COLS as u64;
    let step = ROW_STEP as u64 * pitch;
    let values_at = p.values + row as u64 * pitch + column as u64;
    // The chunk's two nibbles, in each row.
    let mut bytes = [0; LANE_ROWS];
    for i in 0..LANE_ROWS {
        let mut values = [0u32; 2];
        for q in 0..2 {
            let (low, high) = (chunks[i][2 * q], chunks[i][2 * q + 1]);
            let (lo, hi) = kept::<T>([low, high]);
            // Element e of the group is its bytes 2e and 2e + 1.
            let selector = 0x1010 + 0x22 * lo + 0x2200 * hi;
            values[q] = positive_zeros(permute::bytes(low, high, selector));
            bytes[i] |= (nibble(lo, hi) as u32) << (4 * q);
        }
        // SAFETY: the 8 bytes are the lane's in the values, whose rows are padded to 16 and 64 columns.
        unsafe { global::store_v2(values_at + i as u64 * step, values) }
    }
    // Rows g and g + 8 of word 4g + j: this lane's chunk is the first or second of the word's two. Both are
    // exchanged before the branch, or the compiler would move one into it, where half of the lanes are
    // missing.
    let own: [u32; 2] = from_fn(|i| bytes[i] | bytes[i + 2] << 16);
    let other = own.map(|own| shuffle::butterfly(own, 1));
    if chunk % 2 == 0 {
        for i in 0..2 {
            let word = lane / 8 * 4 + i as u32 * 16 + chunk / 2;
            let index = block * BLOCK_WORDS as u64 + word as u64;
            // SAFETY: the word is the lane's in the metadata.
            unsafe { global::store_u32(p.metadata + index * 4, own[i] | other[i] << 8) }
        }
    }
}

/// W[row + `ROW_STEP` * i, column..column + 8] for i = 0..4, two elements a register, zeros past W.
///
/// # Safety
/// `p` describes a readable W.
#[inline(always)]
unsafe fn load_chunks(p: &CompressParams, row: u32, column: u32) -> [[u32; 4]; LANE_ROWS] {
    let left = p.k.saturating_sub(column);
    let start = p.w + (row as u64 * p.ldw + column as u64) * 2;
    let address = |i: usize| start + i as u64 * ROW_STEP as u64 * p.ldw * 2;
    // One test for all rows, so that their loads are in flight together.
    let last = row + ROW_STEP * (LANE_ROWS as u32 - 1);
    if last < p.n && left >= CHUNK_COLS && p.aligned & ALIGNED_W != 0 {
        // SAFETY: the rows and columns lie inside W.
        return from_fn(|i| unsafe { global::load_streaming_v4(address(i)) });
    }
    from_fn(|i| {
        let left = if row + ROW_STEP * (i as u32) < p.n { left } else { 0 };
        let one = |j: usize| {
            if (j as u32) < left {
                // SAFETY: the row lies inside W, and elements below `left` inside the row.
                unsafe { global::load_u16(address(i) + 2 * j as u64) as u32 }
            } else {
                0
            }
        };
        from_fn(|j| one(2 * j) | one(2 * j + 1) << 16)
    })
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
