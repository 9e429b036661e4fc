//! The producer: one thread that starts the copies of every stage.
//!
//! Blocks of a cluster have the same tokens, so each loads one part of the X tile into all of them; W is a block's
//! own. What a box has outside its tensor arrives as zeros.

use super::ring::Ring;
use crate::work::Segments;
use cuda_std::{mbarrier, tma};
use layout::hopper::{Shape, X_COLUMNS};
use layout::params::{GemmParams, MAP_W, MAP_X, TENSOR_MAP_BYTES};
use layout::tiled24;

/// Fills the stages of all of the block's segments.
///
/// # Safety
/// One thread of the block calls it; `p` describes valid operands, `maps` is the address of their tensor maps.
#[inline(always)]
pub unsafe fn produce(
    shape: Shape,
    p: &GemmParams,
    maps: u64,
    mut ring: Ring,
    mut segments: Segments<'_>,
    rank: u32,
    origin: impl Fn(u32) -> (u32, u32),
) {
    let map = |place: usize| maps + (place * TENSOR_MAP_BYTES) as u64;
    let column_blocks = tiled24::column_blocks(p.k);
    let last_row_block = tiled24::row_blocks(p.n) - 1;
    // SAFETY: the maps are the caller's; a stage is empty when it is filled, and has the room.
    unsafe {
        tma::prefetch_map(map(MAP_X));
        if !shape.sparse {
            tma::prefetch_map(map(MAP_W));
        }
        while let Some(segment) = segments.next() {
            let (m0, n0) = origin(segment.tile);
            for block in segment.first..segment.last {
                ring.wait_empty();
                let (stage, full) = (ring.stage(), ring.full());
                mbarrier::arrive_expect_tx(full, shape.filled_bytes());
                let k = block * shape.bk;
                let part = shape.bm / shape.cluster;
                for i in 0..shape.bk / X_COLUMNS {
                    let to = stage + (i * shape.bm + rank * part) * X_COLUMNS * 2;
                    let (x, y) = ((k + i * X_COLUMNS) as i32, (m0 + rank * part) as i32);
                    if shape.cluster == 1 {
                        tma::load_2d(to, map(MAP_X), x, y, full);
                    } else {
                        let all = (1 << shape.cluster) - 1;
                        tma::load_2d_multicast(to, map(MAP_X), x, y, full, all);
                    }
                }
                let to = stage + shape.x_bytes();
                if shape.sparse {
                    let bytes = shape.w_row_bytes();
                    for i in 0..shape.bn / tiled24::ROWS {
                        // Past the end of W the last rows are copied again: nobody stores what they make.
                        let row_block = (n0 / tiled24::ROWS + i).min(last_row_block);
                        let column_block = block * (shape.bk / tiled24::COLUMNS);
                        let from = tiled24::block(row_block, column_block, column_blocks);
                        tma::load(to + i * bytes, p.w + from, bytes, full);
                    }
                } else {
                    for i in 0..shape.bk / X_COLUMNS {
                        let to = to + i * shape.bn * X_COLUMNS * 2;
                        let x = (k + i * X_COLUMNS) as i32;
                        tma::load_2d(to, map(MAP_W), x, n0 as i32, full);
                    }
                }
                ring.advance();
            }
        }
    }
}
