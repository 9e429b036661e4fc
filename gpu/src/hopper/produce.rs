//! The producer: one thread that starts the copies of every stage.
//!
//! Blocks of a cluster have the same tokens, so each loads one part of the X tile into all of them; W and its
//! metadata are a block's own. What a box has outside its tensor arrives as zeros.

use super::ring::Ring;
use crate::work::Segments;
use cuda_std::{mbarrier, tma};
use layout::hopper::{Shape, X_COLUMNS};
use layout::packed24::BLOCK_ROWS;
use layout::params::{MAP_METADATA, MAP_W, MAP_X, TENSOR_MAP_BYTES};

/// Fills the stages of all of the block's segments.
///
/// # Safety
/// One thread of the block calls it; `maps` is the address of the tensor maps of `HopperParams`.
#[inline(always)]
pub unsafe fn produce(
    shape: Shape,
    maps: u64,
    mut ring: Ring,
    mut segments: Segments<'_>,
    rank: u32,
    origin: impl Fn(u32) -> (u32, u32),
) {
    let map = |place: usize| maps + (place * TENSOR_MAP_BYTES) as u64;
    // SAFETY: the maps are the caller's; a stage is empty when it is filled, and has the room.
    unsafe {
        tma::prefetch_map(map(MAP_X));
        tma::prefetch_map(map(MAP_W));
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
                let mut to = stage + shape.x_bytes();
                let k_w = if shape.sparse { k / 2 } else { k };
                let box_columns = shape.w_columns();
                for i in 0..shape.w_span() / (2 * box_columns) {
                    let x = (k_w + i * box_columns) as i32;
                    tma::load_2d(to, map(MAP_W), x, n0 as i32, full);
                    to += shape.bn * box_columns * 2;
                }
                if shape.sparse {
                    let x = (block * shape.metadata_columns()) as i32;
                    let y = (n0 / BLOCK_ROWS as u32) as i32;
                    tma::load_2d(to, map(MAP_METADATA), x, y, full);
                }
                ring.advance();
            }
        }
    }
}
