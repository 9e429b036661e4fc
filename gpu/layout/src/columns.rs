//! How the features of a product are cut into columns of tiles.
//!
//! A cluster's tile has `bn` features of each of its blocks. Where three consumers share a tile, each with 64
//! features, one may leave its part out: then the last columns are narrower by as much, so that every
//! multiprocessor gets nearly the same number of features. For 4096 features, 4096 tokens and 132 of them:
//!
//! ```text
//!   features  0   192  384        3072  3200         4096
//!             +----+----+--  --+----+---+---+--  --+---+
//!             | 16 wide columns     | 8 narrow ones    |     by 16 tiles of tokens: 256 and 128 tiles,
//!             +----+----+--  --+----+---+---+--  --+---+     two and one for each multiprocessor
//! ```

use crate::hopper::{ROWS, Shape};
use crate::raster::{self, Raster};

/// The columns of a product's tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    shape: Shape,
    /// How many columns come first that have all features of the shape.
    wide: u32,
}

/// A tile of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// First token.
    pub token: u32,
    /// First feature.
    pub feature: u32,
    /// Features: those of the shape, or fewer where three consumers share them.
    pub features: u32,
}

impl Columns {
    /// `wide` columns of `shape.bn` features, and then narrower ones where the shape has them.
    #[inline(always)]
    pub const fn new(shape: Shape, wide: u32) -> Self {
        Self { shape, wide }
    }

    /// The columns of `n` features that leave the busiest of `workers` (blocks, or clusters) the fewest features of
    /// `tiles_m` tiles of tokens. A shape that does not mix widths has columns of one.
    pub fn even(shape: Shape, tiles_m: u32, n: u32, workers: u32) -> Self {
        let widest = n.div_ceil(shape.bn * shape.cluster);
        if !shape.mixes() {
            return Self::new(shape, widest);
        }
        let (tiles_m, workers) = (tiles_m.max(1) as u64, workers.max(1) as u64);
        let (wide, narrow) = ((shape.bn / ROWS) as u64, (shape.bn / ROWS - 1) as u64);
        // In strips, 64 features of every block of a cluster: all, and each worker's. It takes these in wide tiles and
        // as few narrow ones as will do, and so do all others; if what comes of it is too little, each takes more.
        let strips = n.div_ceil(ROWS * shape.cluster) as u64;
        let mut each = (tiles_m * strips).div_ceil(workers);
        loop {
            let narrow_tiles = (wide - each % wide) % wide;
            if let Some(rest) = each.checked_sub(narrow_tiles * narrow) {
                let columns = |tiles: u64| workers * tiles / tiles_m;
                let (a, b) = (columns(rest / wide), columns(narrow_tiles));
                if a * wide + b * narrow >= strips {
                    return Self::new(shape, a.min(strips.div_ceil(wide)) as u32);
                }
            }
            each += 1;
        }
    }

    /// How many of them are wide at most.
    pub const fn wide(self) -> u32 {
        self.wide
    }

    /// Features of a cluster's narrow tile.
    const fn narrow(self) -> u32 {
        (self.shape.bn - ROWS) * self.shape.cluster
    }

    /// How many there are for `n` features.
    #[inline(always)]
    pub const fn count(self, n: u32) -> u32 {
        let bn = self.shape.bn * self.shape.cluster;
        if !self.shape.mixes() {
            return n.div_ceil(bn);
        }
        let wide = n.div_ceil(bn);
        if wide <= self.wide {
            return wide;
        }
        self.wide + (n - self.wide * bn).div_ceil(self.narrow())
    }

    /// Most wide and narrow tiles of `tiles_m` rows of them that one of `workers` computes, each taking every
    /// `workers`th tile.
    pub const fn share(self, tiles_m: u32, n: u32, workers: u32) -> (u32, u32) {
        let count = self.count(n);
        let first = if self.wide < count { self.wide } else { count };
        let (wide, all) = (first as u64 * tiles_m as u64, count as u64 * tiles_m as u64);
        let wide = wide.div_ceil(workers as u64) as u32;
        (wide, all.div_ceil(workers as u64) as u32 - wide)
    }

    /// Tile `index` of the block of rank `rank` in its cluster, of a product with `n` features, in the order of
    /// `raster`: wide columns before narrow ones.
    #[inline(always)]
    pub const fn tile(self, index: u32, raster: Raster, n: u32, rank: u32) -> Tile {
        let Self { shape, wide } = self;
        let count = self.count(n);
        if !shape.mixes() {
            // Consumers that run ahead have no register left for the divisor.
            let (row, column) = match shape.lead() {
                0 => raster.tile(index, count),
                _ => raster::tile(index, raster.tiles_m, count, raster.band),
            };
            let feature = (column * shape.cluster + rank) * shape.bn;
            return Tile { token: row * shape.bm, feature, features: shape.bn };
        }
        let first = if wide < count { wide } else { count };
        let (row, feature, features) = if index < first * raster.tiles_m {
            let (row, column) = raster.tile(index, first);
            (row, (column * shape.cluster + rank) * shape.bn, shape.bn)
        } else {
            let rest = index - first * raster.tiles_m;
            let (row, column) = raster.tile(rest, count - first);
            let features = shape.bn - ROWS;
            let feature = first * shape.bn * shape.cluster;
            (row, feature + (column * shape.cluster + rank) * features, features)
        };
        // Consumers that would have no feature of W are left out, too.
        let left = n.saturating_sub(feature).next_multiple_of(ROWS);
        let features = if left < features { left } else { features };
        Tile { token: row * shape.bm, feature, features }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const MIXING: Shape = Shape {
        sparse: true,
        bm: 256,
        bn: 192,
        bk: 64,
        stages: 4,
        cluster: 1,
        slices: 1,
        ping_pong: false,
    };

    /// Features of each worker.
    fn shares(shape: Shape, tiles_m: u32, n: u32, workers: u32) -> Vec<u32> {
        let columns = Columns::even(shape, tiles_m, n, workers);
        let mut shares = std::vec![0; workers as usize];
        for index in 0..columns.count(n) * tiles_m {
            let tile = columns.tile(index, Raster::new(tiles_m, 8), n, 0);
            shares[(index % workers) as usize] += tile.features;
        }
        shares
    }

    #[test]
    fn every_feature_once() {
        for cluster in [1, 2] {
            for (bn, bm) in [(192, 256), (128, 256)] {
                let shape = Shape { bn, bm, cluster, ..MIXING };
                for (m, n) in
                    [(1, 1), (4096, 4096), (256, 64), (300, 14336), (1024, 1000), (77, 640)]
                {
                    let tiles_m = m / bm + 1;
                    let columns = Columns::even(shape, tiles_m, n, 132 / cluster);
                    let mut seen = std::vec![0; (tiles_m * n) as usize];
                    for index in 0..columns.count(n) * tiles_m {
                        for rank in 0..cluster {
                            let raster = Raster::new(tiles_m, 8);
                            let tile = columns.tile(index, raster, n, rank);
                            let end = (tile.feature + tile.features).min(n);
                            for feature in tile.feature..end {
                                seen[(tile.token / bm * n + feature) as usize] += 1;
                            }
                        }
                    }
                    assert!(seen.iter().all(|&times| times == 1), "{m}x{n}, {shape:?}");
                }
            }
        }
    }

    #[test]
    fn work_is_even() {
        let most = |tiles_m, n| {
            let most = shares(MIXING, tiles_m, n, 132).into_iter().max().unwrap();
            let (wide, narrow) = Columns::even(MIXING, tiles_m, n, 132).share(tiles_m, n, 132);
            assert!(most <= wide * 192 + narrow * 128);
            most
        };
        // 16 wide columns and 8 narrow ones; 66 and 13; 33 and 63.
        assert_eq!(most(16, 4096), 2 * 192 + 128);
        assert_eq!(most(16, 14336), 8 * 192 + 2 * 128);
        assert_eq!(most(4, 14336), 192 + 2 * 128);
        assert_eq!(most(1, 14336), 128);
        assert_eq!(most(1, 64), 64);
    }

    #[test]
    fn shapes_of_two_consumers_have_one_width() {
        let shape = Shape { bn: 128, ..MIXING };
        let columns = Columns::even(shape, 3, 300, 132);
        assert_eq!((columns.wide(), columns.count(300)), (3, 3));
        let tile = columns.tile(8, Raster::new(3, 8), 300, 0);
        assert_eq!(tile, Tile { token: 512, feature: 256, features: 128 });
    }

    #[test]
    fn huge_products_do_not_wrap() {
        let columns = Columns::even(MIXING, 1 << 23, i32::MAX as u32, 132);
        assert!(columns.count(i32::MAX as u32) >= i32::MAX as u32 / 192);
    }
}
