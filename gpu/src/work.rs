//! What a thread block computes: whole tiles of Y, then a run of units shared with other blocks.
//!
//! The host's schedule (`sparseflow::schedule`) comes down to two numbers. Block b of G computes tiles b,
//! b + G, ... for `waves` rounds. The tiles left after that are cut into units, one K-block each, and b
//! takes `units` of them from `b * units` on. A run is walked tile by tile, as segments:
//!
//! ```text
//!   units     | tile 12  0 1 2 3 4 5 | tile 13  0 1 2 3 4 5 | tile 14 ...
//!   block 2      ----------------+
//!   block 3                       ---+---------------+
//!   block 4                                           ------+---- ...
//! ```
//!
//! A segment that is not all of its tile leaves its accumulators in the workspace. The block that
//! finds, by the tile's counter, that it is the last one adds them up in the order of K and finishes
//! the tile. Nobody waits for anybody, so blocks need not be resident together.

use core::ops::Range;
use cuda_std::{atomic, global, shared, thread};
use layout::params::{GemmParams, partial_slot};

/// Some K-blocks of a tile of Y.
pub struct Segment {
    /// Number of the tile, as `layout::raster` counts.
    pub tile: u32,
    /// First K-block.
    pub first: u32,
    /// K-block after the last.
    pub last: u32,
    /// Units before the segment in the shared tiles.
    unit: u32,
    /// K-blocks of a tile.
    k_blocks: u32,
}

/// The segments of a worker, which is a block, or a cluster of them.
#[derive(Clone)]
pub struct Segments<'a> {
    p: &'a GemmParams,
    whole: bool,
    tiles: u32,
    k_blocks: u32,
    /// K-blocks of whole tiles that are computed here.
    slice: Range<u32>,
    workers: u32,
    round: u32,
    tile: u32,
    unit: u32,
    end: u32,
}

impl<'a> Segments<'a> {
    /// Those of worker `worker` of `workers`; of a kernel whose tiles are always `whole`, all are rounds.
    #[inline(always)]
    pub fn new(
        p: &'a GemmParams,
        whole: bool,
        tiles: u32,
        k_blocks: u32,
        worker: u32,
        workers: u32,
    ) -> Self {
        let shared_tiles = tiles.saturating_sub(p.waves * workers);
        // The driver's compiler often knows that there are none, and computes nothing.
        let (unit, end) = if p.units == 0 {
            (0, 0)
        } else {
            let all = shared_tiles as u64 * k_blocks as u64;
            let start = (worker as u64 * p.units as u64).min(all);
            (start as u32, (start + p.units as u64).min(all) as u32)
        };
        let slice = 0..k_blocks;
        Self { p, whole, tiles, k_blocks, slice, workers, round: 0, tile: worker, unit, end }
    }

    /// Leaves of whole tiles slice `rank` of `slices`, which are of about the same length.
    #[inline(always)]
    pub fn cut(&mut self, rank: u32, slices: u32) {
        let length = self.k_blocks.div_ceil(slices);
        let end = |slice: u32| (slice * length).min(self.k_blocks);
        self.slice = end(rank)..end(rank + 1);
    }

    /// The next one.
    #[inline(always)]
    pub fn next(&mut self) -> Option<Segment> {
        let k_blocks = self.k_blocks;
        let Range { start: first, end: last } = self.slice;
        let mut segment = Segment { tile: self.tile, first, last, unit: self.unit, k_blocks };
        if self.whole || self.round < self.p.waves {
            if self.tile >= self.tiles {
                return None;
            }
            self.tile += self.workers;
        } else {
            if self.unit >= self.end {
                return None;
            }
            segment.tile = self.p.waves * self.workers + self.unit / k_blocks;
            segment.first = self.unit % k_blocks;
            segment.last = k_blocks.min(segment.first + self.end - self.unit);
            self.unit += segment.last - segment.first;
        }
        self.round += 1;
        Some(segment)
    }
}

/// Calls `each` for the block's segments, in order, with a barrier between two of them.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn for_each(p: &GemmParams, tiles: u32, k_blocks: u32, mut each: impl FnMut(&Segment)) {
    let mut segments =
        Segments::new(p, false, tiles, k_blocks, thread::block_idx_x(), thread::grid_dim_x());
    let mut first = true;
    while let Some(segment) = segments.next() {
        if !first {
            thread::sync_threads();
        }
        first = false;
        each(&segment);
    }
}

/// The threads that compute a tile together.
#[derive(Clone, Copy)]
pub struct Team {
    /// Index of the thread among them.
    pub thread: u32,
    /// The worker they belong to: the block, or the cluster.
    pub worker: u32,
    /// Blocks of a worker, and which of them this is: each has a tile of its own.
    pub blocks: u32,
    /// See there.
    pub rank: u32,
    /// 4 bytes of shared memory that no thread uses.
    pub flag: u32,
}

impl Segment {
    /// Whether the block holds the tile's sum in `sums` when it returns, and has to finish the tile.
    ///
    /// `acc`: the thread's accumulators, four of which `widen` makes f32; `tile_bytes`: those of a tile in
    /// f32; `flag`: 4 bytes of shared memory that no thread uses. All `THREADS` threads of the block must
    /// reach it together.
    ///
    /// # Safety
    /// `p` names a workspace for the launch where tiles are shared.
    #[inline(always)]
    pub unsafe fn complete<A: Copy, const THREADS: u32>(
        &self,
        p: &GemmParams,
        acc: &[A],
        widen: impl Fn(A) -> [f32; 4],
        sums: &mut [[f32; 4]],
        tile_bytes: u32,
        flag: u32,
    ) -> bool {
        let (thread, worker) = (thread::thread_idx_x(), thread::block_idx_x());
        let team = Team { thread, worker, blocks: 1, rank: 0, flag };
        // SAFETY: as the caller vouches.
        unsafe {
            let sync = thread::sync_threads;
            self.complete_with::<A, THREADS>(p, acc, widen, sums, tile_bytes, team, sync)
        }
    }

    /// The same for the `THREADS` threads of `team`, which `sync` brings together.
    ///
    /// # Safety
    /// As for [`Self::complete`].
    #[inline(always)]
    pub unsafe fn complete_with<A: Copy, const THREADS: u32>(
        &self,
        p: &GemmParams,
        acc: &[A],
        widen: impl Fn(A) -> [f32; 4],
        sums: &mut [[f32; 4]],
        tile_bytes: u32,
        team: Team,
        sync: impl Fn(),
    ) -> bool {
        if self.last - self.first == self.k_blocks {
            for (sum, &four) in sums.iter_mut().zip(acc) {
                *sum = widen(four);
            }
            return true;
        }
        // Workers whose runs touch the tile.
        let begin = self.unit - self.first;
        let (first, last) = (begin / p.units, (begin + self.k_blocks - 1) / p.units);
        let t = team.thread;
        // Four accumulators of a thread lie beside those of its neighbour: 512 bytes a warp.
        let at = |worker: u32| {
            let slot = partial_slot(worker * team.blocks + team.rank, worker == first);
            p.workspace + slot as u64 * tile_bytes as u64 + (t * 16) as u64
        };
        let mine = at(team.worker);
        let tile = begin / self.k_blocks;
        let counter = p.counters + (tile * team.blocks + team.rank) as u64 * 4;
        // SAFETY: a slot has room for the accumulators of all threads, and only this block writes this
        // one; the counter is the tile's; `flag` is free. The barrier and the release by thread 0 make
        // the block's slot visible to whoever acquires the counter after it.
        let arrived = unsafe {
            for (i, &four) in acc.iter().enumerate() {
                let bits = widen(four).map(f32::to_bits);
                global::store_v4(mine + (i as u32 * THREADS * 16) as u64, bits);
            }
            sync();
            if thread::opaque(t) == 0 {
                shared::store_u32(team.flag, atomic::fetch_add_global_acq_rel_u32(counter, 1));
            }
            sync();
            shared::load_u32(team.flag)
        };
        // The flag may be overwritten once all have read it.
        sync();
        if arrived < last - first {
            return false;
        }
        // SAFETY: all slots of the tile are complete: every other block has released the counter. The
        // next launch finds it zero again.
        unsafe {
            if t == 0 {
                global::store_u32(counter, 0);
            }
            sums.fill([0.0; 4]);
            for worker in first..=last {
                let slot = at(worker);
                for (i, four) in sums.iter_mut().enumerate() {
                    let part = global::load_v4(slot + (i as u32 * THREADS * 16) as u64);
                    for e in 0..4 {
                        four[e] += f32::from_bits(part[e]);
                    }
                }
            }
        }
        true
    }
}
