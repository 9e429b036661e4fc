//! A consumer warpgroup: multiplies the stages of a segment.
//!
//! W is operand A, so that it may be sparse, and X is operand B: the accumulators are of Y^T. Products run on
//! while the next stage is waited for, one group behind: its stage is given back when it has ended, and its
//! metadata registers, which the hardware reads until then, are not touched before. So there are two sets of
//! these, for even and odd stages.

use super::ring::Ring;
use core::ops::Range;
use cuda_std::{cluster, mbarrier, shared, thread, warp, wgmma, wgmma::Wgmma};
use layout::descriptor::{self, Swizzle};
use layout::hopper::{ROWS, Shape, WARPGROUP, X_COLUMNS};
use layout::tiled24;

/// Accumulators of a thread: of each instruction of a product of 64 features.
pub type Accumulators<const S: usize, const R: usize> = [[f32; R]; S];
/// Metadata words of a stage: per instruction, per K = 64.
type Metadata<const S: usize, const WORDS: usize> = [[u32; WORDS]; S];

/// What a consumer knows of itself.
#[derive(Clone, Copy)]
pub struct Consumer {
    /// The block's shape.
    pub shape: Shape,
    /// Which of the block's consumers it is.
    pub place: u32,
    /// Which of its team it is: the features that it computes.
    pub member: u32,
    /// Index of the thread in the warpgroup.
    pub thread: u32,
    /// Descriptors of its operands in the first stage, without the half that is the same in all.
    x: u32,
    w: u32,
    /// Where the thread's metadata is in the first stage.
    metadata: u32,
}

/// What descriptors count in: bytes.
const UNIT: u32 = 16;

impl Consumer {
    /// Consumer `place` of the block, `member` of its team, as thread `thread` of the warpgroup.
    #[inline(always)]
    pub fn new(shape: Shape, place: u32, member: u32, thread: u32) -> Self {
        let (x_tile, w_tile) = (shared::base(), shared::base() + shape.x_bytes());
        let x = descriptor::k_major(Swizzle::B128, shape.bm, x_tile, 0) as u32;
        let first = member * shape.subtiles() * ROWS;
        if !shape.sparse {
            let w = w_tile + first * X_COLUMNS * 2;
            let w = descriptor::k_major(Swizzle::B128, shape.bn, w, 0) as u32;
            return Self { shape, place, member, thread, x, w, metadata: 0 };
        }
        let block = w_tile + shape.w_bytes(first);
        let w = descriptor::k_major(Swizzle::B64, ROWS, block, 0) as u32;
        // 16 rows belong to a warp, a word to a lane.
        let metadata = block + tiled24::metadata(thread / 32) + thread % 32 * 4;
        Self { shape, place, member, thread, x, w, metadata }
    }

    /// Adds the products of the `blocks` stages from `ring` on to `acc`, and leaves the ring behind the last. Calls
    /// `before` each stage, with the number of stages left; `behind` when its products have been started, with the
    /// stage's number and, before it, what this is modulo `Shape::unrolled`, which the compiler knows; `started` when the
    /// last have been; and `given` each time it has given a stage back.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// The producer fills these stages.
    #[inline(always)]
    pub unsafe fn multiply<
        T: Wgmma<R>,
        const S: usize,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
    >(
        &self,
        ring: &mut Ring,
        mut acc: Accumulators<S, R>,
        blocks: u32,
        before: impl Fn(u32),
        mut behind: impl FnMut(u32, u32),
        started: impl FnOnce(),
        given: &mut impl FnMut(),
    ) -> Accumulators<S, R> {
        let (mut even, mut odd) = ([[0; WORDS]; S], [[0; WORDS]; S]);
        let mut previous = 0;
        let mut left = blocks;
        // SAFETY: as the caller vouches.
        unsafe {
            loop {
                before(left);
                self.stage::<T, S, R, WORDS, CLUSTER>(
                    ring,
                    &mut acc,
                    &mut even,
                    &odd,
                    &mut previous,
                    #[inline(always)]
                    || behind(0, blocks - left),
                    given,
                );
                left -= 1;
                if left == 0 {
                    break;
                }
                // Without metadata one stage is as another.
                if self.shape.unrolled() == 1 {
                    continue;
                }
                before(left);
                self.stage::<T, S, R, WORDS, CLUSTER>(
                    ring,
                    &mut acc,
                    &mut odd,
                    &even,
                    &mut previous,
                    #[inline(always)]
                    || behind(1, blocks - left),
                    given,
                );
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            started();
            wgmma::wait_group::<0>();
            keep(&even);
            keep(&odd);
            for acc in &mut acc {
                wgmma::pin(acc);
            }
            self.release::<CLUSTER>(previous);
            given();
        }
        acc
    }

    /// The same, the first instruction running ahead of the second by `LEAD` stages at both ends. Calls `before`
    /// behind the first products, and `finish` with the first instruction's accumulators behind the last ones;
    /// returns the second's.
    ///
    /// ```text
    ///   tensor cores   ... 0, 1 | 0        | 1        | 0        | 1      | 0, 1 ...
    ///   registers                          | finish 0 | before   |
    ///                           |     end of a tile   | begin of the next |
    /// ```
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// The producer fills these stages, at least 2 `LEAD`; S is 2.
    #[inline(always)]
    pub unsafe fn multiply_ahead<
        T: Wgmma<R>,
        const S: usize,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
        const LEAD: usize,
    >(
        &self,
        ring: &mut Ring,
        blocks: u32,
        before: impl FnOnce(),
        finish: impl FnOnce(&mut [f32; R]),
    ) -> [f32; R] {
        let mut acc = [[0.0; R]; S];
        let mut ahead = [[[0; WORDS]; S]; LEAD];
        // SAFETY: as the caller vouches.
        unsafe {
            let mut behind = *ring;
            // Zero before the fence of the first products.
            wgmma::pin(&mut acc[0]);
            for metadata in &mut ahead {
                *metadata = self.metadata(ring);
                self.products::<T, S, R, WORDS>(ring, &mut acc, metadata, 0..1);
                ring.advance();
            }
            wgmma::commit_group();
            before();
            wgmma::pin(&mut acc[S - 1]);
            let mut previous = 0;
            for metadata in &ahead {
                self.products::<T, S, R, WORDS>(&behind, &mut acc, metadata, 1..S);
                wgmma::commit_group();
                wgmma::wait_group::<1>();
                self.release::<CLUSTER>(previous);
                previous = behind.empty();
                behind.advance();
            }

            let (mut even, mut odd) = ([[0; WORDS]; S], ahead[LEAD - 1]);
            let mut left = blocks - 2 * LEAD as u32;
            while left > 0 {
                self.stage::<T, S, R, WORDS, CLUSTER>(
                    ring,
                    &mut acc,
                    &mut even,
                    &odd,
                    &mut previous,
                    || {},
                    &mut || {},
                );
                left -= 1;
                if left == 0 {
                    break;
                }
                self.stage::<T, S, R, WORDS, CLUSTER>(
                    ring,
                    &mut acc,
                    &mut odd,
                    &even,
                    &mut previous,
                    || {},
                    &mut || {},
                );
                left -= 1;
            }

            let first = *ring;
            for metadata in &mut ahead {
                *metadata = self.metadata(ring);
                self.products::<T, S, R, WORDS>(ring, &mut acc, metadata, 0..1);
                wgmma::commit_group();
                wgmma::wait_group::<1>();
                keep(&even);
                keep(&odd);
                self.release::<CLUSTER>(previous);
                previous = 0;
                ring.advance();
            }
            let mut behind = first;
            for metadata in &ahead {
                self.products::<T, S, R, WORDS>(&behind, &mut acc, metadata, 1..S);
                behind.advance();
            }
            wgmma::commit_group();
            wgmma::wait_group::<1>();
            wgmma::pin(&mut acc[0]);
            finish(&mut acc[0]);
            wgmma::wait_group::<0>();
            let mut behind = first;
            for metadata in &ahead {
                keep(metadata);
                self.release::<CLUSTER>(behind.empty());
                behind.advance();
            }
            wgmma::pin(&mut acc[S - 1]);
        }
        acc[S - 1]
    }

    /// Leaves the `blocks` stages from `ring` on to the others of its team, and calls `given` for each.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    pub unsafe fn pass<const CLUSTER: u32>(
        &self,
        ring: &mut Ring,
        blocks: u32,
        given: &mut impl FnMut(),
    ) {
        for _ in 0..blocks {
            // SAFETY: as the caller vouches; nothing is read from the stage.
            unsafe {
                ring.wait_full();
                self.release::<CLUSTER>(ring.empty());
            }
            given();
            ring.advance();
        }
    }

    /// Starts the products of the ring's stage with `metadata`, calls `behind`, and gives the stage before back, whose
    /// metadata is `other` and whose barrier `previous`, or 0, when those of it have ended; then it calls `given`.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn stage<
        T: Wgmma<R>,
        const S: usize,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
    >(
        &self,
        ring: &mut Ring,
        acc: &mut Accumulators<S, R>,
        metadata: &mut Metadata<S, WORDS>,
        other: &Metadata<S, WORDS>,
        previous: &mut u32,
        behind: impl FnOnce(),
        given: &mut impl FnMut(),
    ) {
        // SAFETY: as the caller vouches; `previous` is a stage whose products have ended.
        unsafe {
            *metadata = self.metadata(ring);
            self.products::<T, S, R, WORDS>(ring, acc, metadata, 0..S);
            wgmma::commit_group();
            behind();
            wgmma::wait_group::<1>();
            keep(other);
            self.release::<CLUSTER>(*previous);
            if *previous != 0 {
                given();
            }
        }
        *previous = ring.empty();
        ring.advance();
    }

    /// Waits for the stage, and loads the thread's metadata.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn metadata<const S: usize, const WORDS: usize>(
        &self,
        ring: &Ring,
    ) -> Metadata<S, WORDS> {
        let shape = self.shape;
        let mut metadata = [[0; WORDS]; S];
        // SAFETY: the words lie in the stage, which is full.
        unsafe {
            ring.wait_full();
            if !shape.sparse {
                return metadata;
            }
            for s in 0..S {
                let at = ring.stage_offset() + self.metadata + shape.w_bytes(s as u32 * ROWS);
                for i in 0..WORDS {
                    metadata[s][i] = shared::load_u32(at + i as u32 * tiled24::BLOCK_BYTES);
                }
            }
        }
        metadata
    }

    /// Starts the products of a stage for `subtiles`, some of the consumer's instructions.
    ///
    /// # Safety
    /// The stage is full.
    #[inline(always)]
    unsafe fn products<T: Wgmma<R>, const S: usize, const R: usize, const WORDS: usize>(
        &self,
        ring: &Ring,
        acc: &mut Accumulators<S, R>,
        metadata: &Metadata<S, WORDS>,
        subtiles: Range<usize>,
    ) {
        let shape = self.shape;
        let stage = ring.stage_offset() / UNIT;
        let whole = |low: u32, swizzle| {
            low as u64 | descriptor::k_major(swizzle, 0, 0, 0) & 0xffff_ffff_0000_0000
        };
        let x_at = |chunk| {
            let chunk = descriptor::step(Swizzle::B128, shape.bm, chunk) as u32;
            whole(self.x + stage + chunk, Swizzle::B128)
        };
        wgmma::fence();
        // SAFETY: the descriptors lead into the stage; the metadata is legal.
        unsafe {
            if shape.sparse {
                let w_at = |s: usize, i: usize, half: u32| {
                    let at = shape.w_bytes(s as u32 * ROWS) + i as u32 * tiled24::BLOCK_BYTES;
                    whole(self.w + stage + at / UNIT + half * 2, Swizzle::B64)
                };
                // Two products to K = 64: 32 bytes of a row of values, 64 bytes of X.
                for i in 0..WORDS {
                    for s in subtiles.clone() {
                        let x = x_at(i as u32 * 8);
                        T::mma_sparse::<0, 1>(&mut acc[s], w_at(s, i, 0), x, metadata[s][i]);
                    }
                    for s in subtiles.clone() {
                        let x = x_at(i as u32 * 8 + 4);
                        T::mma_sparse::<1, 1>(&mut acc[s], w_at(s, i, 1), x, metadata[s][i]);
                    }
                }
            } else {
                for chunk in (0..shape.bk / 8).step_by(2) {
                    for s in subtiles.clone() {
                        let rows = s as u32 * ROWS * X_COLUMNS * 2 / UNIT;
                        let chunk_w = descriptor::step(Swizzle::B128, shape.bn, chunk) as u32;
                        let w = whole(self.w + stage + rows + chunk_w, Swizzle::B128);
                        T::mma::<1>(&mut acc[s], w, x_at(chunk));
                    }
                }
            }
        }
    }

    /// Gives a stage back to the producers of all blocks of the cluster, by its barrier; 0 is none.
    ///
    /// All lanes of the warp must reach it together.
    ///
    /// # Safety
    /// The products of the stage have ended.
    #[inline(always)]
    unsafe fn release<const CLUSTER: u32>(&self, empty: u32) {
        let lane = thread::lane();
        if empty == 0 {
            return;
        }
        // All lanes have read metadata, and some of them arrive.
        if self.shape.sparse {
            warp::sync_warp();
        }
        // SAFETY: the barriers have been made, and no block ends before all have.
        unsafe {
            if CLUSTER == 1 {
                if lane == 0 {
                    mbarrier::arrive(empty);
                }
            } else if lane < CLUSTER {
                mbarrier::arrive_cluster(cluster::map_shared(empty, lane));
            }
        }
    }

    /// Whether the thread starts the consumer's stores. The compiler cannot know that two answers are the same: it
    /// would give the thread a path of its own from one to the next, through barriers that need its whole warp.
    #[inline(always)]
    pub fn leads(&self) -> bool {
        thread::anchored(self.thread) == 0
    }

    /// Waits for all threads of the warpgroup.
    ///
    /// All threads of the warpgroup must reach it together.
    #[inline(always)]
    pub fn sync(&self) {
        thread::sync_some(1 + self.place, WARPGROUP);
    }
}

/// Forbids the compiler to reuse the registers before this point.
#[inline(always)]
fn keep<const S: usize, const WORDS: usize>(metadata: &Metadata<S, WORDS>) {
    for word in metadata.as_flattened() {
        wgmma::keep(*word);
    }
}
