//! In which order thread blocks visit the tiles of Y.
//!
//! Blocks that run at the same time should share rows of X and of W, so that both stay in L2: tiles
//! are visited in bands of `band` feature tiles, token tiles slowest inside a band.

/// The `(token tile, feature tile)` of linear block `index`; `index < tiles_m * tiles_n`.
#[inline(always)]
pub const fn tile(index: u32, tiles_m: u32, tiles_n: u32, band: u32) -> (u32, u32) {
    let per_band = per_band(tiles_m, band);
    let b = index / per_band;
    let rest = index - b * per_band;
    let left = tiles_n - b * band;
    let width = if left < band { left } else { band };
    // A remainder would be another division.
    let row = rest / width;
    (row, b * band + rest - row * width)
}

/// Tiles of a band; where they pass 2^32, there is one band.
#[inline(always)]
const fn per_band(tiles_m: u32, band: u32) -> u32 {
    band.saturating_mul(tiles_m)
}

/// An order of which the host has prepared the division by the tiles of a band: on a device it is the longest part of
/// finding a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raster {
    /// Rows of token tiles.
    pub tiles_m: u32,
    /// Feature tiles of a band: a power of two.
    pub band: u32,
    /// Of the tiles of a band.
    pub bands: Divisor,
}

impl Raster {
    /// Bands of `band` feature tiles, a power of two, and `tiles_m` rows of token tiles, at least 1.
    pub const fn new(tiles_m: u32, band: u32) -> Self {
        debug_assert!(band.is_power_of_two() && tiles_m > 0);
        Self { tiles_m, band, bands: Divisor::new(per_band(tiles_m, band)) }
    }

    /// As the function [`tile`]; `index` is below 2^31.
    #[inline(always)]
    pub const fn tile(self, index: u32, tiles_n: u32) -> (u32, u32) {
        let Self { tiles_m, band, bands } = self;
        let b = bands.divide(index);
        let rest = index - b * per_band(tiles_m, band);
        let left = tiles_n - b * band;
        if left >= band {
            let row = rest >> band.trailing_zeros();
            return (row, b * band + rest - row * band);
        }
        let row = match rest.checked_div(left) {
            Some(row) => row,
            None => 0,
        };
        (row, b * band + rest - row * left)
    }
}

/// A divisor, as a factor and a shift (Granlund and Montgomery 1994, "Division by Invariant Integers using
/// Multiplication").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Divisor {
    /// What a number is multiplied by.
    pub factor: u32,
    /// By how many bits the product is shifted down then.
    pub shift: u32,
}

impl Divisor {
    /// That of `divisor`, at least 1.
    pub const fn new(divisor: u32) -> Self {
        // The least power of two from the divisor on has this many bits below its one.
        let bits = 32 - (divisor - 1).leading_zeros();
        let factor = ((1u64 << (31 + bits)) / divisor as u64 + 1) as u32;
        Self { factor, shift: 31 + bits }
    }

    /// `n` divided by it, rounded down; `n` is below 2^31.
    #[inline(always)]
    pub const fn divide(self, n: u32) -> u32 {
        ((n as u64 * self.factor as u64) >> self.shift) as u32
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_tile_once() {
        for (m, n) in [(1, 1), (1, 17), (17, 1), (5, 7), (8, 16), (13, 9)] {
            for band in [1, 4, 8] {
                let all: HashSet<_> = (0..m * n).map(|i| tile(i, m, n, band)).collect();
                assert_eq!(all.len(), (m * n) as usize);
                let raster = Raster::new(m, band);
                assert!((0..m * n).all(|i| raster.tile(i, n) == tile(i, m, n, band)));
                assert!(all.iter().all(|&(tm, tn)| tm < m && tn < n));
            }
        }
    }

    #[test]
    fn large_grids_do_not_wrap() {
        let (m, n) = (1 << 16, 1 << 15);
        assert_eq!(tile(m * n - 1, m, n, 8), (m - 1, n - 1));
    }

    #[test]
    fn divisors_divide() {
        const MOST: u32 = i32::MAX as u32;
        for d in (1..2000).chain([4095, 4096, 4097, 65535, 1 << 30, MOST, 1 << 31, u32::MAX]) {
            let divisor = Divisor::new(d);
            let near = |n: u32| [n.saturating_sub(1), n, n.saturating_add(1)];
            let multiples = (0..1000).map(|i| (MOST / 1000 * i / d).saturating_mul(d));
            for n in multiples.flat_map(near).chain([MOST - 1, MOST]).filter(|&n| n <= MOST) {
                assert_eq!(divisor.divide(n), n / d, "{n} / {d}");
            }
        }
    }
}
