//! Two blocks of a cluster that share the K of a tile.
//!
//! Each multiplies half of K. Then nobody needs the stages any more, and each sends the sums of half of the tokens
//! there, to the other block, where they are added to its own: a block finishes the tokens that are left to it.
//!
//! ```text
//!   block 0: first half of K     tokens 0.. | tokens bm/2.. ---+      sums + received: tokens 0..
//!                                     ^                        |
//!   block 1: second half of K    tokens 0.. | tokens bm/2..    +->    received + sums: tokens bm/2..
//! ```
//!
//! The order of a sum of two does not matter, so the bits of Y are always the same.

use super::consume::Consumer;
use super::ring::Ring;
use super::store::Boxes;
use super::tiles::Tiles;
use crate::work::Segments;
use cuda_std::convert::Convert;
use cuda_std::wgmma::Wgmma;
use cuda_std::{cluster, shared};
use layout::columns::Tile;
use layout::hopper::WARPGROUP;

impl<O: Fn(u32) -> Tile> Tiles<'_, O> {
    /// The one tile of the block, which Y's tensor map stores.
    ///
    /// All threads of the warpgroup must reach it together, and the block's others must call `cluster::sync` twice.
    ///
    /// # Safety
    /// The producer fills the stages of the segment; the operands are valid.
    #[inline(always)]
    pub unsafe fn sliced<
        T: Wgmma<R> + Convert,
        const R: usize,
        const WORDS: usize,
        const PENDING: u32,
    >(
        self,
        mut ring: Ring,
        mut segments: Segments<'_>,
    ) {
        let Self { p, maps, consumer, .. } = self;
        let boxes = Boxes::<PENDING>::new(consumer, p, maps);
        let Some(segment) = segments.next() else { return };
        let (token0, feature0, _) = self.place(segment.tile);
        // SAFETY: as the caller vouches; a tile is the cluster's only one, so all stages are free after the products.
        unsafe {
            let [bias] = consumer.bias::<T, 1>(p, feature0);
            let blocks = segment.last - segment.first;
            let mut acc = [0.0; R];
            // One K-block cannot be shared.
            if blocks > 0 {
                [acc] = consumer.multiply::<T, 1, R, WORDS, 1>(
                    &mut ring,
                    [acc],
                    blocks,
                    |_| {},
                    |_, _| {},
                    || {},
                    &mut || {},
                );
            }
            let rank = cluster::rank();
            cluster::sync();
            consumer.send_half(&mut acc, rank);
            cluster::sync();
            consumer.add_half(&mut acc);
            consumer.scale_if_needed::<T, R>(p, &mut acc, bias);
            let token0 = token0 + rank * (consumer.shape.bm / 2);
            let parts = consumer.shape.parts() / 2;
            boxes.store::<T, R>(&acc, parts, token0, feature0);
        }
        boxes.stored();
    }
}

impl Consumer {
    /// Where the thread's sums lie that a block has received: four neighbouring ones, and the next 4 `WARPGROUP`
    /// further.
    #[inline(always)]
    fn received<const R: usize>(&self) -> u32 {
        shared::base() + self.place * (R as u32 / 2 * WARPGROUP * 4) + self.thread * 16
    }

    /// Leaves block `rank` the sums of its half of the tokens, as the first R / 2, and sends the others to the other
    /// block.
    ///
    /// # Safety
    /// Stages are neither filled nor read any more, in both blocks.
    #[inline(always)]
    unsafe fn send_half<const R: usize>(&self, acc: &mut [f32; R], rank: u32) {
        let to = cluster::map_shared(self.received::<R>(), rank ^ 1);
        for i in (0..R / 2).step_by(4) {
            let mut four = [0.0; 4];
            for (j, send) in four.iter_mut().enumerate() {
                let (low, high) = (acc[i + j], acc[R / 2 + i + j]);
                (acc[i + j], *send) = if rank == 0 { (low, high) } else { (high, low) };
            }
            // SAFETY: as the caller vouches.
            unsafe { cluster::store_f32x4(to + i as u32 * (WARPGROUP * 4), four) }
        }
    }

    /// Adds what the other block has sent.
    ///
    /// # Safety
    /// It has been sent.
    #[inline(always)]
    unsafe fn add_half<const R: usize>(&self, acc: &mut [f32; R]) {
        let from = self.received::<R>();
        for i in (0..R / 2).step_by(4) {
            // SAFETY: as the caller vouches.
            let four = unsafe { shared::load_f32x4(from + i as u32 * (WARPGROUP * 4)) };
            for j in 0..4 {
                acc[i + j] += four[j];
            }
        }
    }
}
