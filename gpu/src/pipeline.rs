//! The multistage main loop of the three GEMMs.
//!
//! `STAGES` tiles of K lie in shared memory: while the tensor cores work on one, the copies of the
//! next `STAGES - 1` are under way. Fragments are loaded one k-step ahead, also across the border of
//! two stages, so that the latency of `ldmatrix` hides behind the previous k-step's instructions, and
//! each k-step starts its part of the next copies, so that their addresses are computed while the
//! tensor cores are busy:
//!
//! ```text
//!   k-step        0          1      ...   last
//!   copies     part 0     part 1    ...   last part of stage+S-1
//!   fragments  of step 1  of step 2  ...  wait, barrier, of step 0 of the next stage
//!   mma        step 0     step 1     ...  last
//! ```
//!
//! The one barrier of a stage does two things: it shows everyone's copies of the next stage to all,
//! and it tells that all warps have read the stage that the next copies overwrite.

use crate::work::Segment;
use cuda_std::{cp_async, thread};

/// How the tiles of a segment are copied.
pub struct Tiles {
    /// K-blocks.
    count: u32,
    /// The K-block copied i-th is `before_first + i`, but for i = 0, which is `start`.
    before_first: u32,
    start: u32,
    /// Whether all but the one copied first are aligned and filled by K.
    whole: bool,
}

impl Tiles {
    /// The tiles of `segment`, of blocks of `bk` columns out of `k`. A K-block that K does not fill comes
    /// first: it is copied before the loop, which then need not know of it.
    pub fn new(segment: &Segment, k: u32, bk: u32, aligned: bool) -> Self {
        let ragged = segment.last * bk > k;
        Self {
            // K may be 0: Y is still written, but there is no K-block to read.
            count: if k == 0 { 0 } else { segment.last - segment.first },
            before_first: if ragged { segment.first.wrapping_sub(1) } else { segment.first },
            start: if ragged { segment.last - 1 } else { segment.first },
            whole: aligned,
        }
    }
}

/// Runs the main loop over the K-blocks of `tiles`.
///
/// `copy_any(block, slot)` starts all of the thread's copies of a K-block into a slot of shared memory,
/// `copy_part(block, slot, step, active)` those of a step, without a branch and only where active;
/// `fragments(slot, step, previous)` loads a step's fragments, of which it may take over some from the
/// step before it (`empty` before the first), `mma(fragments, step)` accumulates them.
/// When it returns, no copy is under way and all warps may overwrite shared memory.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn run<F, const STAGES: u32, const STEPS: u32, const PENDING: u32>(
    tiles: &Tiles,
    empty: F,
    copy_any: impl Fn(u32, u32),
    copy_part: impl Fn(u32, u32, u32, bool),
    fragments: impl Fn(u32, u32, &F) -> F,
    mut mma: impl FnMut(&F, u32),
) {
    const { assert!(STAGES >= 2 && STEPS >= 2 && PENDING == STAGES - 2) };
    for stage in 0..thread::opaque(STAGES - 1) {
        if stage < tiles.count {
            let block = if stage == 0 { tiles.start } else { tiles.before_first + stage };
            copy_any(block, stage);
        }
        cp_async::commit_group();
    }
    cp_async::wait_group::<PENDING>();
    thread::sync_threads();

    let mut read = 0;
    let mut write = STAGES - 1;
    let mut current = fragments(0, 0, &empty);
    for i in 0..tiles.count {
        let ahead = i + STAGES - 1;
        let block = tiles.before_first.wrapping_add(ahead);
        let active = ahead < tiles.count;
        if active && !tiles.whole {
            copy_any(block, write);
        }
        for step in 0..STEPS {
            copy_part(block, write, step, active && tiles.whole);
            let next = if step + 1 < STEPS {
                fragments(read, step + 1, &current)
            } else {
                // An empty group keeps the count of groups equal to the count of blocks.
                cp_async::commit_group();
                cp_async::wait_group::<PENDING>();
                thread::sync_threads();
                read = if read + 1 == STAGES { 0 } else { read + 1 };
                write = if write + 1 == STAGES { 0 } else { write + 1 };
                // After the last block this reads a stale slot; its fragments are not used.
                fragments(read, 0, &current)
            };
            mma(&current, step);
            current = next;
        }
    }
    cp_async::wait_group::<0>();
    thread::sync_threads();
}
