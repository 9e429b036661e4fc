//! Matrix descriptors of `wgmma`: where a tile lies in shared memory (PTX ISA, "Asynchronous
//! warpgroup-level matrix shared memory layout" and "Matrix descriptor format").
//!
//! A tile consists of 16-byte chunks. In a K-major tile a chunk is eight k of one row (of A) or column
//! (of B); in an MN-major one it is eight rows or columns of one k. With `r` the index within eight and
//! `w` the chunks of the swizzle's span:
//!
//! | layout | chunk (mn, k chunk) resp. (mn chunk, k) at |
//! |---|---|
//! | K-major, no swizzle | `r(mn) * 16 + mn/8 * SBO + kc * LBO` |
//! | K-major, swizzled | `r(mn) * span + mn/8 * SBO + kc%w * 16 + kc/w * LBO` |
//! | MN-major, no swizzle | `mc * SBO + r(k) * 16 + k/8 * LBO` |
//! | MN-major, swizzled | `mc%w * 16 + mc/w * LBO + r(k) * span + k/8 * SBO` |
//!
//! The swizzle is then applied to the address, counted from the descriptor's base offset.

use super::tensor_map::Swizzle;

/// A descriptor taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Shared address of the tile.
    pub(super) start: usize,
    /// "Leading dimension byte offset".
    pub(super) leading: usize,
    /// "Stride dimension byte offset".
    pub(super) stride: usize,
    /// Line at which the swizzle's pattern begins, modulo eight.
    pub(super) base: usize,
    /// The permutation.
    pub(super) swizzle: Swizzle,
}

/// Bits of addresses and offsets that a descriptor can hold.
const MASK: usize = 0x3ffff;

impl Descriptor {
    /// Takes the 64 bits apart.
    pub(super) fn new(bits: u64) -> Self {
        let field = |at: u32| (bits >> at & 0x3fff) as usize * 16;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        Self {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base: (bits >> 49 & 7) as usize,
            swizzle,
        }
    }

    /// Bits that must be zero.
    pub(super) fn reserved(bits: u64) -> u64 {
        bits & !(0x3fff | 0x3fff << 16 | 0x3fff << 32 | 7 << 49 | 3 << 62)
    }

    /// Address of a chunk of a K-major tile: eight k from `8 * chunk` on of row or column `mn`.
    #[inline(always)]
    pub(super) fn k_major(&self, mn: usize, chunk: usize) -> usize {
        let span = self.swizzle.span();
        let along = match self.swizzle {
            Swizzle::None => chunk * self.leading,
            // A sparse product's B is 64 bytes wide: two spans of 32.
            _ => chunk * 16 % span + chunk * 16 / span * self.leading,
        };
        self.place(mn % 8 * span + mn / 8 * self.stride + along)
    }

    /// Address of a chunk of an MN-major tile: eight rows or columns from `8 * chunk` on of one k.
    #[inline(always)]
    pub(super) fn mn_major(&self, chunk: usize, k: usize) -> usize {
        let span = self.swizzle.span();
        let chunks = span / 16;
        match self.swizzle {
            Swizzle::None => self.place(chunk * self.stride + k % 8 * 16 + k / 8 * self.leading),
            _ => self.place(
                chunk % chunks * 16
                    + chunk / chunks * self.leading
                    + k % 8 * span
                    + k / 8 * self.stride,
            ),
        }
    }

    #[inline(always)]
    fn place(&self, offset: usize) -> usize {
        self.swizzle.apply((self.start + offset) & MASK, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        // The descriptors of the main-loop experiment: 128- and 64-byte swizzle, rows of that length.
        let d = Descriptor::new(0x4000_0040_0001_0000 | 0x12345 >> 4);
        assert_eq!(
            d,
            Descriptor {
                start: 0x12340,
                leading: 16,
                stride: 1024,
                base: 0,
                swizzle: Swizzle::B128
            }
        );
        let d = Descriptor::new(0x8000_0020_0001_0000);
        assert_eq!((d.stride, d.swizzle), (512, Swizzle::B64));
        assert_eq!(Descriptor::reserved(0x4000_0040_0001_0000), 0);
        assert_eq!(Descriptor::reserved(1 << 15 | 1 << 52), 1 << 15 | 1 << 52);
    }

    #[test]
    fn swizzled_k_major_rows_are_those_of_the_layout_crate() {
        for (bits, chunks) in [(1u64, 8u32), (2, 4), (3, 2)] {
            let rows = u64::from(chunks) * 16;
            let d = Descriptor::new(bits << 62 | (rows * 8 / 16) << 32 | (4096 >> 4));
            for row in 0..64 {
                for chunk in 0..chunks {
                    let there = 4096 + layout::swizzle::offset(row, chunk, chunks) as usize;
                    assert_eq!(d.k_major(row as usize, chunk as usize), there);
                }
            }
        }
    }

    #[test]
    fn a_step_along_k_moves_the_start_within_the_pattern() {
        let tile = Descriptor::new(1 << 62 | 64 << 32 | (2048 >> 4));
        let step = Descriptor { start: tile.start + 32, ..tile };
        for row in 0..16 {
            assert_eq!(step.k_major(row, 1), tile.k_major(row, 3));
        }
    }

    #[test]
    fn without_swizzle_offsets_are_plain() {
        let d = Descriptor::new((512 >> 4) << 32 | (128 >> 4) << 16);
        assert_eq!(d.k_major(9, 3), 16 + 512 + 3 * 128);
        assert_eq!(d.mn_major(3, 9), 3 * 512 + 16 + 128);
    }

    #[test]
    fn the_base_offset_moves_the_pattern() {
        // A tile that begins at line 3 of a 1024-byte pattern and counts its lines from there.
        let start = 1024 + 3 * 128;
        let d = Descriptor { start, leading: 0, stride: 1024, base: 3, swizzle: Swizzle::B128 };
        for row in 0..5 {
            let there = start + layout::swizzle::offset(row, 2, 8) as usize;
            assert_eq!(d.k_major(row as usize, 2), there);
        }
    }
}
