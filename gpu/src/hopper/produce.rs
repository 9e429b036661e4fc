//! The producer: one thread that starts the copies of every stage. It does nothing else, or it is one of three
//! consumers' and fills a stage behind the products of another.
//!
//! Blocks of a cluster have the same tokens, so each loads one part of the X tile into all of them; W is a block's
//! own. What a box has outside its tensor arrives as zeros.

use super::ring::Ring;
use crate::work::Segments;
use cuda_std::{mbarrier, thread, tma};
use layout::columns::Tile;
use layout::hopper::{Shape, X_COLUMNS};
use layout::params::{GemmParams, MAP_W, MAP_X, map};
use layout::tiled24;

/// What the producer knows, and the stage that it fills next.
pub struct Producer<'a, F> {
    /// The block's shape.
    pub shape: Shape,
    /// The product.
    pub p: &'a GemmParams,
    /// Address of the tensor maps.
    pub maps: u64,
    /// Which of its cluster the block is.
    pub rank: u32,
    /// A tile, by its number.
    pub tile: F,
    /// The stage.
    pub ring: Ring,
    /// Whether W is read once, and leaves L2 first; only where `Shape::streams`.
    pub streams: bool,
}

/// A tile's operands, from some K-block on.
#[derive(Clone, Copy)]
struct Source {
    tile: Tile,
    block: u32,
    /// Where a sparse W is.
    w: u64,
}

/// Some K-blocks of a tile, up to `last`.
pub struct Run {
    source: Source,
    last: u32,
}

/// What one stage after another is filled with: the K-blocks of every `step`th tile.
pub struct Walk {
    source: Source,
    index: u32,
    step: u32,
    tiles: u32,
    k_blocks: u32,
}

impl<F: Fn(u32) -> Tile> Producer<'_, F> {
    /// What the stages of the next of `segments` are filled with: found here, and not where it is first used.
    #[inline(always)]
    pub fn run(&self, segments: &mut Segments<'_>) -> Option<Run> {
        let segment = segments.next()?;
        let Source { tile, block, w } = self.source(segment.tile, segment.first);
        let Tile { token, feature, features } = tile;
        let (token, feature) = (thread::anchored(token), thread::anchored(feature));
        let tile = Tile { token, feature, features };
        let source = Source { tile, block, w: thread::anchored_u64(w) };
        Some(Run { source, last: segment.last })
    }

    /// Fills the stages of `run`, the first, and of the rest of `segments`.
    ///
    /// # Safety
    /// One thread of the block calls it; `p` describes valid operands, `maps` is the address of their tensor maps.
    #[inline(always)]
    pub unsafe fn all(mut self, mut segments: Segments<'_>, mut run: Option<Run>) {
        while let Some(Run { mut source, last }) = run {
            while source.block < last {
                // SAFETY: as the caller vouches.
                unsafe { self.fill(&mut source) }
            }
            run = self.run(&mut segments);
        }
    }

    /// All K-blocks, `k_blocks` of each, of tiles `first`, `first` + `step`, ... of `tiles`.
    #[inline(always)]
    pub fn walk(&self, first: u32, step: u32, tiles: u32, k_blocks: u32) -> Walk {
        Walk { source: self.source(first, 0), index: first, step, tiles, k_blocks }
    }

    /// Fills the next stage when it is empty, if there is anything left to fill it with.
    ///
    /// # Safety
    /// As for [`Self::all`].
    #[inline(always)]
    pub unsafe fn next(&mut self, walk: &mut Walk) {
        if walk.source.block == walk.k_blocks {
            walk.index += walk.step;
            if walk.index < walk.tiles {
                walk.source = self.source(walk.index, 0);
            }
        }
        if walk.index < walk.tiles {
            // SAFETY: as the caller vouches.
            unsafe { self.fill(&mut walk.source) }
        }
    }

    /// The operands of tile `index` from K-block `block` on.
    #[inline(always)]
    fn source(&self, index: u32, block: u32) -> Source {
        let tile = (self.tile)(index);
        // Past the end of W the last rows are copied again: nobody stores what they make.
        let row_block = (tile.feature / tiled24::ROWS).min(tiled24::row_blocks(self.p.n) - 1);
        let column_block = block * (self.shape.bk / tiled24::COLUMNS);
        let columns = tiled24::column_blocks(self.p.k);
        let w = self.p.w + tiled24::block(row_block, column_block, columns);
        Source { tile, block, w }
    }

    /// Fills the stage from `source`, and leaves both at the next one.
    ///
    /// # Safety
    /// As for [`Self::all`].
    #[inline(always)]
    unsafe fn fill(&mut self, source: &mut Source) {
        let Self { shape, p, rank, ring, streams, .. } = *self;
        let Source { tile, block, w } = *source;
        let (map_x, map_w) = (map(self.maps, MAP_X), map(self.maps, MAP_W));
        // SAFETY: the maps are the caller's; the stage is empty when it is filled, and has the room.
        unsafe {
            ring.wait_empty();
            let (stage, full) = (ring.stage(), ring.full());
            mbarrier::arrive_expect_tx(full, shape.filled_bytes(tile.features));
            let k = block * shape.bk;
            let part = shape.bm / shape.cluster;
            for i in 0..shape.bk / X_COLUMNS {
                let to = stage + (i * shape.bm + rank * part) * X_COLUMNS * 2;
                let (x, y) = ((k + i * X_COLUMNS) as i32, (tile.token + rank * part) as i32);
                if shape.cluster == 1 {
                    tma::load_2d(to, map_x, x, y, full);
                } else {
                    let all = (1 << shape.cluster) - 1;
                    tma::load_2d_multicast(to, map_x, x, y, full, all);
                }
            }
            let to = stage + shape.x_bytes();
            if shape.sparse {
                let bytes = shape.w_row_bytes();
                let pitch = tiled24::block(1, 0, tiled24::column_blocks(p.k));
                let last = tiled24::row_blocks(p.n) - 1;
                for i in 0..shape.bn / tiled24::ROWS {
                    if i * tiled24::ROWS < tile.features {
                        // The same.
                        let further = i.min(last.saturating_sub(tile.feature / tiled24::ROWS));
                        let (to, from) = (to + i * bytes, w + further as u64 * pitch);
                        if streams {
                            tma::load_with(to, from, bytes, full, tma::evict_first());
                        } else {
                            tma::load(to, from, bytes, full);
                        }
                    }
                }
            } else {
                for i in 0..shape.bk / X_COLUMNS {
                    let to = to + i * shape.bn * X_COLUMNS * 2;
                    let x = (k + i * X_COLUMNS) as i32;
                    for first in (0..shape.bn).step_by(shape.w_box() as usize) {
                        if first < tile.features {
                            let (to, y) = (to + first * X_COLUMNS * 2, tile.feature + first);
                            if streams {
                                let policy = tma::evict_first();
                                tma::load_2d_with(to, map_w, x, y as i32, full, policy);
                            } else {
                                tma::load_2d(to, map_w, x, y as i32, full);
                            }
                        }
                    }
                }
            }
        }
        source.block += 1;
        source.w += shape.w_row_bytes() as u64;
        self.ring.advance();
    }
}

/// Gets the tensor maps that the operands of `shape` are loaded by, those at `maps`.
///
/// # Safety
/// They are tensor maps.
#[inline(always)]
pub unsafe fn prefetch(shape: Shape, maps: u64) {
    // SAFETY: the maps are the caller's.
    unsafe {
        tma::prefetch_map(map(maps, MAP_X));
        if !shape.sparse {
            tma::prefetch_map(map(maps, MAP_W));
        }
    }
}
