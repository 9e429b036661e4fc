//! A consumer's way through its tiles: one by one, or each finished behind the products of the next.

use super::consume::Consumer;
use super::ring::Ring;
use super::store::Boxes;
use crate::work::{Segment, Segments, Team};
use cuda_std::convert::Convert;
use cuda_std::wgmma::Wgmma;
use cuda_std::{mbarrier, thread};
use layout::columns::Tile;
use layout::hopper::ROWS;
use layout::params::{GemmParams, UNIT_ALPHA};

/// What is the same for all of a consumer's tiles.
pub struct Tiles<'a, O> {
    /// The product.
    pub p: &'a GemmParams,
    /// Address of the tensor maps.
    pub maps: u64,
    /// The consumer.
    pub consumer: Consumer,
    /// Those who compute a tile together.
    pub team: Team,
    /// A tile, by its number.
    pub tile: O,
}

impl<O: Fn(u32) -> Tile> Tiles<'_, O> {
    /// First token, first of the consumer's features, and whether it has any.
    #[inline(always)]
    pub fn place(&self, tile: u32) -> (u32, u32, bool) {
        let Tile { token, feature, features } = (self.tile)(tile);
        let Consumer { shape, member, .. } = self.consumer;
        let first = member * shape.subtiles() * ROWS;
        (token, feature + first, !shape.mixes() || first < features)
    }

    /// Whole tiles whose Y tensor maps store. One that is not the last is finished while the tensor cores work: its
    /// first half behind its own last products, its second behind the first ones of the next.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// The producer fills the stages of all segments, each of at least `Shape::overlapping_blocks`; the operands are
    /// valid.
    #[inline(always)]
    pub unsafe fn overlapped<
        T: Wgmma<R> + Convert,
        const S: usize,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
        const PENDING: u32,
        const LEAD: usize,
    >(
        self,
        mut ring: Ring,
        mut segments: Segments<'_>,
    ) {
        let Self { p, maps, consumer, .. } = self;
        let boxes = Boxes::<PENDING>::new(consumer, p, maps);
        let parts = consumer.shape.parts();
        // The second half of the tile before, scaled, and where it belongs.
        let (mut rest, mut place) = ([0.0; R], None);
        // SAFETY: as the caller vouches.
        unsafe {
            while let Some(segment) = segments.next() {
                let (token0, feature0, _) = self.place(segment.tile);
                // Loaded before the products, so that nobody waits for it after them.
                let bias = consumer.bias::<T, S>(p, feature0);
                rest = consumer.multiply_ahead::<T, S, R, WORDS, CLUSTER, LEAD>(
                    &mut ring,
                    segment.last,
                    #[inline(always)]
                    || {
                        if let Some((token0, feature)) = place {
                            boxes.store::<T, R>(&rest, parts, token0, feature);
                        }
                    },
                    #[inline(always)]
                    |acc| {
                        consumer.scale::<T, R>(p, acc, bias[0]);
                        boxes.store::<T, R>(acc, parts, token0, feature0);
                    },
                );
                consumer.scale::<T, R>(p, &mut rest, bias[S - 1]);
                place = Some((token0, feature0 + ROWS));
            }
            boxes.drain(ring);
            if let Some((token0, feature)) = place {
                boxes.store::<T, R>(&rest, parts, token0, feature);
            }
        }
        boxes.stored();
    }

    /// Whole tiles whose Y tensor maps store. One that is not the last is finished behind the first products of the
    /// next, but for alpha and bias: sums begin with the bias, where alpha is 1. Of the last, the first consumer's half
    /// is finished behind the second's last products.
    ///
    /// ```text
    ///   tensor cores   ... 0, 1 | 0                 | 1                 |
    ///   registers               |                   | finish 0          | finish 1
    ///                           | Shape::stagger    | as many           | end of the block
    /// ```
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// The producer fills the stages of all segments, each of at least `Shape::overlapping_blocks`; the operands are
    /// valid.
    #[inline(always)]
    pub unsafe fn stored_behind<
        T: Wgmma<R> + Convert,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
        const PENDING: u32,
    >(
        self,
        mut ring: Ring,
        mut segments: Segments<'_>,
    ) {
        let Self { p, maps, consumer, .. } = self;
        let shape = consumer.shape;
        let boxes = Boxes::<PENDING>::new(consumer, p, maps);
        // The tile before, and where it belongs.
        let (mut packed, mut before) = ([0; R], None);
        // Where a tile belongs, and its bias.
        let find = #[inline(always)]
        |segment: &Segment| {
            let (token0, feature0, _) = self.place(segment.tile);
            // SAFETY: as the caller vouches.
            let [bias] = unsafe { consumer.bias::<T, 1>(p, feature0) };
            (token0, feature0, bias)
        };
        let Some(mut segment) = segments.next() else { return };
        let mut present = find(&segment);
        // SAFETY: as the caller vouches.
        unsafe {
            let (token0, feature) = loop {
                let next = segments.next();
                let mut found = present;
                let behind = #[inline(always)]
                |turn: u32, stage: u32| {
                    // Hidden, or the first stages would get code of their own, in which `ptxas` takes long.
                    let stage = thread::anchored(stage);
                    if stage >= shape.behind() {
                        return;
                    }
                    // Nobody waits for it.
                    if let Some(next) = &next
                        && turn == 0
                        && stage == 0
                    {
                        found = find(next);
                    }
                    let Some((token0, feature)) = before else { return };
                    // The four parts; not a loop, which the compiler may leave one, and each must be known.
                    let store = #[inline(always)]
                    |part: u32| {
                        if 1 % shape.unrolled() == turn && stage == 1 + 2 * part {
                            boxes.store_packed::<T, R>(&packed, part, token0, feature);
                        }
                    };
                    store(0);
                    store(1);
                    store(2);
                    store(3);
                };
                // Close to the end of the last tile the second consumer waits until the first has started all products.
                let last = next.is_none();
                let place = thread::anchored(consumer.place);
                let waits = if last && place == 1 { shape.stagger() } else { 0 };
                let turn = ring.turn(1);
                let (token0, feature0, bias) = present;
                let [mut acc] = consumer.multiply::<T, 1, R, WORDS, CLUSTER>(
                    &mut ring,
                    [consumer.begin::<T, R>(p, bias)],
                    segment.last,
                    #[inline(always)]
                    |left| {
                        if left == waits {
                            mbarrier::wait(turn, 0);
                        }
                    },
                    behind,
                    || {
                        if last && place == 0 && thread::lane() == 0 {
                            mbarrier::arrive(turn);
                        }
                    },
                    &mut || {},
                );
                if p.aligned & UNIT_ALPHA == 0 {
                    consumer.scale::<T, R>(p, &mut acc, bias);
                }
                packed = boxes.pack::<T, R>(&acc);
                before = Some((token0, feature0));
                present = found;
                let Some(next) = next else { break (token0, feature0) };
                segment = next;
            };
            boxes.drain(ring);
            for part in 0..shape.parts() {
                boxes.store_packed::<T, R>(&packed, part, token0, feature);
            }
        }
        boxes.stored();
    }

    /// Any segments. In ping-pong every other one is the other consumer's, and they multiply by turns. Calls `given`
    /// each time it has given a stage back.
    ///
    /// All threads of the team must reach it together.
    ///
    /// # Safety
    /// The producer fills the stages of all segments; the operands are valid.
    #[inline(always)]
    pub unsafe fn one_by_one<
        T: Wgmma<R> + Convert,
        const S: usize,
        const R: usize,
        const WORDS: usize,
        const CLUSTER: u32,
        const TEAM: u32,
        const PENDING: u32,
    >(
        self,
        mut ring: Ring,
        mut segments: Segments<'_>,
        mut given: impl FnMut(),
    ) {
        let Self { p, maps, consumer, team, .. } = self;
        let Consumer { shape, place, member, .. } = consumer;
        let boxes = Boxes::<PENDING>::new(consumer, p, maps);
        let mut turn = 0;
        // SAFETY: as the caller vouches.
        unsafe {
            while let Some(segment) = segments.next() {
                let blocks = segment.last - segment.first;
                if shape.ping_pong {
                    turn += 1;
                    if turn % 2 == place {
                        ring.skip(blocks);
                        continue;
                    }
                    // The first consumer's first turn is before any arrival.
                    mbarrier::wait(ring.turn(place), (turn / 2 + 1) % 2);
                }
                let (token0, feature0, any) = self.place(segment.tile);
                if !any {
                    consumer.pass::<CLUSTER>(&mut ring, blocks, &mut given);
                    continue;
                }
                // Before the products, so that nobody waits for it after them.
                let bias = consumer.bias::<T, S>(p, feature0);
                let next = ring.turn(place ^ 1);
                let acc = consumer.multiply::<T, S, R, WORDS, CLUSTER>(
                    &mut ring,
                    [[0.0; R]; S],
                    blocks,
                    |_| {},
                    |_, _| {},
                    || {
                        if shape.ping_pong && thread::lane() == 0 {
                            mbarrier::arrive(next);
                        }
                    },
                    &mut given,
                );
                let sync = || thread::sync_some(1 + shape.consumers() + place - member, TEAM);
                let mut sums = acc;
                let complete = !shape.shares()
                    || segment.complete_with::<_, TEAM>(
                        p,
                        acc.as_flattened().as_chunks::<4>().0,
                        |four| four,
                        sums.as_flattened_mut().as_chunks_mut::<4>().0,
                        shape.bm * shape.bn * 4,
                        team,
                        sync,
                    );
                if complete {
                    consumer
                        .finish::<T, S, R, PENDING>(p, &boxes, &mut sums, &bias, token0, feature0);
                }
            }
        }
        boxes.stored();
    }
}
