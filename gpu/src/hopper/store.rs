//! Boxes of Y, of 64 features each, on their way from registers to memory: the activation is applied in the type of Y,
//! `stmatrix` transposes them into shared memory, and a tensor map stores them while the consumer goes on.
//!
//! A consumer has room for some in a staging area of its own. When it has multiplied all of its tiles, a stage of the
//! pipeline has room for the rest: nobody waits for the box before then.

use super::consume::Consumer;
use super::ring::Ring;
use crate::epilogue::with_activation;
use core::array::from_fn;
use core::cell::Cell;
use cuda_std::convert::Convert;
use cuda_std::{fence, shared, stmatrix, thread, tma};
use layout::params::{GemmParams, MAP_Y, map};
use layout::swizzle;

/// An instruction's accumulators in the type of Y, in pairs of tokens: the first R / 2, which Rust does not compute.
pub type Packed<const R: usize> = [u32; R];

/// A consumer's boxes, of which `PENDING` + 1 have room in its staging area.
pub struct Boxes<'a, const PENDING: u32> {
    consumer: Consumer,
    p: &'a GemmParams,
    maps: u64,
    /// How many have been staged, at least of the present tile.
    staged: Cell<u32>,
    /// Where they are staged when the consumer needs no stage any more: that stage's offset.
    drained: Cell<Option<u32>>,
}

impl<'a, const PENDING: u32> Boxes<'a, PENDING> {
    /// Those of `consumer`, with Y's tensor map among those at `maps`.
    #[inline(always)]
    pub fn new(consumer: Consumer, p: &'a GemmParams, maps: u64) -> Self {
        Self { consumer, p, maps, staged: Cell::new(0), drained: Cell::new(None) }
    }

    /// The activation of `z`, and the first `parts` boxes of the 2R tokens from `token0` on.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// Parameters and tensor map describe valid operands.
    #[inline(always)]
    pub unsafe fn store<T: Convert, const R: usize>(
        &self,
        z: &[f32; R],
        parts: u32,
        token0: u32,
        feature: u32,
    ) {
        let packed = self.pack::<T, R>(z);
        for part in 0..parts {
            // SAFETY: as the caller vouches.
            unsafe { self.store_packed::<T, R>(&packed, part, token0, feature) }
        }
    }

    /// `z` in the type of Y: as much as has to be kept until its boxes are stored.
    #[inline(always)]
    pub fn pack<T: Convert, const R: usize>(&self, z: &[f32; R]) -> Packed<R> {
        let mut packed = [0; R];
        for i in 0..R / 2 {
            packed[i] = T::narrow(z[2 * i], z[2 * i + 1]);
        }
        // Here, not where they are stored: half of the registers are free from now on.
        packed.map(thread::anchored)
    }

    /// The activation of box `part` of what has been packed, and the box.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(always)]
    pub unsafe fn store_packed<T: Convert, const R: usize>(
        &self,
        packed: &Packed<R>,
        part: u32,
        token0: u32,
        feature: u32,
    ) {
        let first = self.consumer.shape.box_words(part);
        let pairs = #[inline(always)]
        |i: u32| {
            let z: [u32; 4] = from_fn(|j| packed[first + i as usize * 2 + j]);
            with_activation(
                self.p.activation,
                #[inline(always)]
                |activation| z.map(|z| activation.approximate_pair::<T::Pairs>(z)),
            )
        };
        // SAFETY: as the caller vouches.
        unsafe { self.stage(pairs, part, token0, feature) }
    }

    /// Stages a box, the one of part `part` of the tokens from `token0` on, and starts its store. `pairs(i)` are the
    /// pairs of its tokens from 8i on, 16 of them.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(always)]
    unsafe fn stage(&self, pairs: impl Fn(u32) -> [u32; 4], part: u32, token0: u32, feature: u32) {
        let Self { consumer, p, .. } = self;
        let shape = consumer.shape;
        let map = map(self.maps, MAP_Y);
        // Addresses that depend on it are found here: the main loop has no registers to keep them in.
        let thread = thread::anchored(consumer.thread);
        let (warp, lane) = (thread / 32, thread % 32);
        // Where the boxes of a tile fill the area evenly, each part always has the same place.
        let staged =
            if shape.parts().is_multiple_of(PENDING + 1) { part } else { self.staged.get() };
        self.staged.set(staged + 1);
        let at = if let Some(stage) = self.drained.get() {
            stage + part * shape.box_bytes()
        } else {
            if consumer.leads() {
                tma::wait_group_read::<PENDING>();
            }
            consumer.sync();
            shape.staging_at(consumer.place) + staged % (PENDING + 1) * shape.box_bytes()
        };
        let at = shared::base() + at;
        let mut i = 0;
        while i < shape.box_tokens() / 8 {
            // A lane points at a row, 8 features of a token, of one of the four matrices.
            let row = i * 8 + lane / 16 * 8 + lane % 8;
            let chunk = 2 * warp + lane / 8 % 2;
            // SAFETY: the row lies in the box, which the last store from it has read.
            unsafe { stmatrix::x4_trans(at + swizzle::offset(row, chunk, 8), pairs(i)) };
            i += 2;
        }
        fence::proxy_async_shared();
        consumer.sync();
        let token = token0 + part * shape.box_tokens();
        if consumer.leads() {
            if token < p.m && feature < p.n {
                // SAFETY: the box is complete, and begins inside of Y.
                unsafe { tma::store_2d(map, feature as i32, token as i32, at) };
            }
            tma::commit_group();
        }
    }

    /// Waits until nobody reads a stage any more, the oldest for the first consumer and the next for the second. From
    /// then on a box of each part is staged there.
    ///
    /// All threads of the warpgroup must reach it together, and stage no more than one instruction's boxes after it.
    ///
    /// # Safety
    /// `ring` is behind the last stage of the block.
    #[inline(always)]
    pub unsafe fn drain(&self, mut ring: Ring) {
        ring.skip(self.consumer.place);
        // SAFETY: as the caller vouches; nobody fills it again.
        unsafe { ring.wait_empty() };
        self.drained.set(Some(ring.stage_offset()));
    }

    /// Waits until what is stored from shared memory, which the block must outlive, has been read.
    #[inline(always)]
    pub fn stored(&self) {
        if self.consumer.thread == 0 {
            tma::wait_group_read::<0>();
        }
    }
}
