//! Packed24 in the order in which the Hopper kernels take it: a second layout of the same values and metadata words.
//!
//! W is cut into blocks of 64 rows and 64 columns. A block is one piece of memory: its values as `wgmma` takes them
//! from shared memory (rows of 64 bytes, 64-byte swizzle), and behind them its metadata, four blocks of 32 words.
//!
//! ```text
//!   | values: row 0: 4 chunks | row 1 | ... | row 63 | metadata: rows 0..15 | 16..31 | 32..47 | 48..63 |
//!   0                                             4096                                          4608
//! ```
//!
//! So the 64 rows of an instruction are one copy of consecutive bytes in each stage. By tensor maps from Packed24
//! itself it was a row of 64 bytes at a time, and the copy engine takes as long over 64 bytes as over 128.
//!
//! Blocks of the same rows follow each other; rows are padded to 64, columns to 128, which is two blocks, with zero
//! values and [`PADDING`].

use crate::packed24::{BLOCK_COLS, BLOCK_ROWS, PAD_NIBBLE};
use crate::swizzle;

/// Rows of a block.
pub const ROWS: u32 = 64;
/// Columns of W in a block.
pub const COLUMNS: u32 = BLOCK_COLS as u32;
/// 16-byte chunks of values in a row of a block.
pub const CHUNKS: u32 = COLUMNS / 16;
/// Bytes of values in a block.
pub const VALUE_BYTES: u32 = ROWS * CHUNKS * swizzle::CHUNK_BYTES;
/// Bytes of metadata of 16 rows of a block.
pub const METADATA_BYTES: u32 = 128;
/// Bytes of a block.
pub const BLOCK_BYTES: u32 = VALUE_BYTES + ROWS / BLOCK_ROWS as u32 * METADATA_BYTES;
/// A metadata word of padding.
pub const PADDING: u32 = PAD_NIBBLE as u32 * 0x1111_1111;

/// Blocks along the rows of W[n, k].
#[inline(always)]
pub const fn row_blocks(n: u32) -> u32 {
    n.div_ceil(ROWS)
}

/// Blocks along the columns: an even number.
#[inline(always)]
pub const fn column_blocks(k: u32) -> u32 {
    k.div_ceil(2 * COLUMNS) * 2
}

/// Byte offset of the block at these places.
#[inline(always)]
pub const fn block(row_block: u32, column_block: u32, column_blocks: u32) -> u64 {
    (row_block as u64 * column_blocks as u64 + column_block as u64) * BLOCK_BYTES as u64
}

/// Byte offset in a block of 16-byte chunk `chunk` of the values of row `row`.
#[inline(always)]
pub const fn values(row: u32, chunk: u32) -> u32 {
    swizzle::offset(row, chunk, CHUNKS)
}

/// Byte offset in a block of the metadata of rows 16 `sixteen`...
#[inline(always)]
pub const fn metadata(sixteen: u32) -> u32 {
    VALUE_BYTES + sixteen * METADATA_BYTES
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_block_is_filled_exactly_once() {
        let values = (0..ROWS).flat_map(|row| (0..CHUNKS).map(move |chunk| values(row, chunk)));
        let words = (0..4).flat_map(|i| (0..8).map(move |chunk| metadata(i) + 16 * chunk));
        let all: HashSet<u32> = values.chain(words).collect();
        assert_eq!(all.len() as u32 * swizzle::CHUNK_BYTES, BLOCK_BYTES);
        assert!(all.iter().all(|at| at % 16 == 0 && *at < BLOCK_BYTES));
    }

    #[test]
    fn blocks_follow_each_other() {
        assert_eq!((row_blocks(65), column_blocks(1), column_blocks(129)), (2, 2, 4));
        assert_eq!(block(1, 3, 4), 7 * BLOCK_BYTES as u64);
        // Descriptors of the swizzle want multiples of 512.
        assert_eq!(BLOCK_BYTES % 512, 0);
        assert_eq!(PADDING, 0x4444_4444);
    }
}
