//! In which order thread blocks visit the tiles of Y.
//!
//! Blocks that run at the same time should share rows of X and of W, so that both stay in L2: tiles
//! are visited in bands of `band` feature tiles, token tiles slowest inside a band.

/// The `(token tile, feature tile)` of linear block `index`; `index < tiles_m * tiles_n`.
#[inline(always)]
pub const fn tile(index: u32, tiles_m: u32, tiles_n: u32, band: u32) -> (u32, u32) {
    // Tiles of a band; where they pass 2^32, there is one band.
    let per_band = band.saturating_mul(tiles_m);
    let b = index / per_band;
    let rest = index - b * per_band;
    let left = tiles_n - b * band;
    let width = if left < band { left } else { band };
    // A remainder would be another division.
    let row = rest / width;
    (row, b * band + rest - row * width)
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
                assert!(all.iter().all(|&(tm, tn)| tm < m && tn < n));
            }
        }
    }

    #[test]
    fn large_grids_do_not_wrap() {
        let (m, n) = (1 << 16, 1 << 15);
        assert_eq!(tile(m * n - 1, m, n, 8), (m - 1, n - 1));
    }
}
