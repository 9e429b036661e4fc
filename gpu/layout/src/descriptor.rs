//! Matrix descriptors of `wgmma`: how 64 bits tell where a K-major operand lies in shared memory (PTX
//! ISA, "Asynchronous warpgroup-level matrix shared memory layout", "Matrix descriptor format").
//!
//! An operand of `rows` rows (of A, or columns of B) consists of 16-byte chunks of eight 16-bit
//! elements along K. With a swizzle its rows are cut into blocks as wide as the swizzle's span; a block
//! is `[rows][span]`, which is what a tensor map with that swizzle and a box of that width writes.
//! Without one, chunk c of all rows comes before chunk c + 1 of any.
//!
//! ```text
//!   swizzled, span of 4 chunks               not swizzled
//!   row 0:  c0 c1 c2 c3 | block 1:           c0 of rows 0..7     c1 of rows 0..7
//!   row 1:  c0 c1 c2 c3 |  c4 c5 c6 c7       c0 of rows 8..15    c1 of rows 8..15
//!   ...     (permuted)  |  ...               ...
//! ```
//!
//! One product takes 32 bytes of a row of a dense operand (K = 16), or of the values of a sparse one
//! (K = 32); the other operand of a sparse product gives 64 bytes. Tiles start at multiples of 1024.

use crate::swizzle;

/// How the 16-byte chunks of a tile are permuted, against bank conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

impl Swizzle {
    /// Chunks of a block's row; one without a swizzle.
    #[inline(always)]
    pub const fn chunks(self) -> u32 {
        match self {
            Self::None => 1,
            Self::B32 => 2,
            Self::B64 => 4,
            Self::B128 => 8,
        }
    }

    /// The two highest bits of a descriptor.
    const fn code(self) -> u64 {
        match self {
            Self::None => 0,
            Self::B128 => 1,
            Self::B64 => 2,
            Self::B32 => 3,
        }
    }
}

/// Byte offset of `chunk` of `row` in an operand of `rows` rows.
#[inline(always)]
pub const fn offset(swizzle: Swizzle, rows: u32, row: u32, chunk: u32) -> u32 {
    let chunks = swizzle.chunks();
    let block = chunk / chunks * rows * chunks * swizzle::CHUNK_BYTES;
    match swizzle {
        Swizzle::None => block + row * swizzle::CHUNK_BYTES,
        _ => block + swizzle::offset(row, chunk % chunks, chunks),
    }
}

/// The descriptor of an operand of `rows` rows (a multiple of 8) at the shared address `tile`, from
/// `chunk` on, which is even, and for the 64-byte rows of a sparse product's B a multiple of four or
/// whatever else leaves them in one block.
#[inline(always)]
pub const fn k_major(swizzle: Swizzle, rows: u32, tile: u32, chunk: u32) -> u64 {
    let chunks = swizzle.chunks();
    // The permutation depends on address bits that a step within a row does not touch, so a step
    // moves the start as if there were none.
    let start = tile + step(swizzle, rows, chunk) as u32 * swizzle::CHUNK_BYTES;
    // Between rows 8i and 8i + 8, and (read without a swizzle alone) between chunks.
    let stride = 8 * chunks * swizzle::CHUNK_BYTES;
    let leading = match swizzle {
        Swizzle::None => rows * swizzle::CHUNK_BYTES,
        _ => swizzle::CHUNK_BYTES,
    };
    field(start) | field(leading) << 16 | field(stride) << 32 | swizzle.code() << 62
}

/// What to add to the descriptor of an operand of `rows` rows from chunk 0 on, for one from `chunk` on: the
/// constant part of [`k_major`].
#[inline(always)]
pub const fn step(swizzle: Swizzle, rows: u32, chunk: u32) -> u64 {
    let chunks = swizzle.chunks();
    (chunk / chunks * rows * chunks + chunk % chunks) as u64
}

/// An address or a distance as a descriptor holds it: 18 bits without the lowest four.
const fn field(bytes: u32) -> u64 {
    ((bytes & 0x3ffff) >> 4) as u64
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    #[test]
    fn descriptors_that_an_h200_has_proven() {
        // The main-loop experiment: 128- and 64-byte swizzle.
        assert_eq!(k_major(Swizzle::B128, 64, 0, 0), 0x4000_0040_0001_0000);
        assert_eq!(k_major(Swizzle::B64, 64, 0, 0), 0x8000_0020_0001_0000);
        // Steps along K of 32 bytes, and of a block of 64 rows of 128 bytes.
        assert_eq!(k_major(Swizzle::B128, 64, 1024, 2), 0x4000_0040_0001_0042);
        assert_eq!(k_major(Swizzle::B128, 64, 1024, 8), 0x4000_0040_0001_0240);
        // The Packed24 check: eight columns without a swizzle, chunks 128 bytes apart.
        assert_eq!(k_major(Swizzle::None, 8, 512, 4), (512 + 4 * 128) >> 4 | 8 << 16 | 8 << 32);
    }

    #[test]
    fn addresses_beyond_the_field_are_cut() {
        assert_eq!(k_major(Swizzle::B128, 8, 0x100_0400, 0) & 0x3fff, 0x40);
    }

    #[test]
    fn an_operand_is_filled_exactly_once() {
        for swizzle in ALL {
            let all: HashSet<u32> = (0..64)
                .flat_map(|row| (0..8).map(move |chunk| offset(swizzle, 64, row, chunk)))
                .collect();
            assert_eq!(all.len(), 64 * 8, "{swizzle:?}");
            assert!(all.iter().all(|o| o % 16 == 0 && *o < 64 * 128));
        }
    }

    /// What the hardware does with a descriptor, from the PTX ISA's description.
    fn address(descriptor: u64, row: u32, chunk: u32) -> u32 {
        let field = |at: u32| ((descriptor >> at & 0x3fff) * 16) as u32;
        let (start, leading, stride) = (field(0), field(16), field(32));
        let (span, mask) = match descriptor >> 62 {
            0 => return start + row % 8 * 16 + row / 8 * stride + chunk * leading,
            1 => (128, 7),
            2 => (64, 3),
            _ => (32, 1),
        };
        let plain = start + row % 8 * span + row / 8 * stride + chunk * 16;
        plain ^ ((plain >> 7 & mask) << 4)
    }

    #[test]
    fn descriptors_lead_to_the_offsets() {
        for swizzle in ALL {
            for chunk in (0..8).step_by(2) {
                let descriptor = k_major(swizzle, 64, 4096, chunk);
                let stepped = k_major(swizzle, 64, 4096, 0) + step(swizzle, 64, chunk);
                assert_eq!(stepped, descriptor, "{swizzle:?}");
                for row in 0..64 {
                    for next in 0..2 {
                        let there = 4096 + offset(swizzle, 64, row, chunk + next);
                        assert_eq!(address(descriptor, row, next), there, "{swizzle:?}");
                    }
                }
            }
        }
    }
}
