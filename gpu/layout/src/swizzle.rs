//! Where a 16-byte chunk of a tile row lies in shared memory.
//!
//! A row of `chunks` 16-byte chunks (a power of two) stores chunk c at position `c ^ s(row)`. `ldmatrix`
//! reads one chunk of eight consecutive rows at a time; s makes those eight fall into eight different
//! 16-byte bank groups, so neither it nor the row-wise store of a tile conflicts. For rows of 32, 64
//! and 128 bytes this is the 32-, 64- and 128-byte swizzle of Hopper's tensor maps (CUDA driver API,
//! `CUtensorMapSwizzle`), tiles starting at multiples of 1024 bytes.

/// Bytes of a chunk: what one `cp.async` copies and one `ldmatrix` row is.
pub const CHUNK_BYTES: u32 = 16;

/// What `row` exclusive-ors into the chunk index.
#[inline(always)]
pub const fn mask(row: u32, chunks: u32) -> u32 {
    if chunks >= 8 { row & 7 } else { (row / (8 / chunks)) & (chunks - 1) }
}

/// Byte offset of `chunk` of `row` in a tile whose rows are `chunks` chunks long.
#[inline(always)]
pub const fn offset(row: u32, chunk: u32, chunks: u32) -> u32 {
    (row * chunks + (chunk ^ mask(row, chunks))) * CHUNK_BYTES
}

/// The address of chunk `c + by` of a row, given the `address` of chunk c: one operation in place of the
/// whole of [`offset`]. Holds where c and `by` have no bit in common and the row starts at a multiple of
/// its length (c + by is then `c ^ by`, and all of it happens in the bits below that).
#[inline(always)]
pub const fn step(address: u32, by: u32) -> u32 {
    address ^ (by * CHUNK_BYTES)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_tile_is_filled_exactly_once() {
        for chunks in [2, 4, 8, 16] {
            let all: HashSet<u32> =
                (0..64).flat_map(|r| (0..chunks).map(move |c| offset(r, c, chunks))).collect();
            assert_eq!(all.len(), 64 * chunks as usize);
            assert!(all.iter().all(|o| o % CHUNK_BYTES == 0 && *o < 64 * chunks * CHUNK_BYTES));
        }
    }

    #[test]
    fn stepping_is_recomputing() {
        for chunks in [4, 8, 16] {
            for row in 0..32 {
                for (first, by) in
                    [(0, 2), (1, 2), (0, chunks - 2), (1, chunks - 2), (3, chunks / 2)]
                {
                    if first & by == 0 {
                        let base = 1024 * chunks;
                        let stepped = step(base + offset(row, first, chunks), by);
                        assert_eq!(stepped, base + offset(row, first + by, chunks));
                    }
                }
            }
        }
    }

    #[test]
    fn ldmatrix_reads_eight_bank_groups() {
        for chunks in [2, 4, 8, 16] {
            for row in (0..64).step_by(8) {
                for chunk in 0..chunks {
                    let banks: HashSet<u32> =
                        (row..row + 8).map(|r| offset(r, chunk, chunks) % 128).collect();
                    assert_eq!(banks.len(), 8, "{chunks} chunks a row, row {row}, chunk {chunk}");
                }
            }
        }
    }
}
