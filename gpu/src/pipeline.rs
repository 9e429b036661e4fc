//! The multistage main loop of the three GEMMs.
//!
//! `STAGES` tiles of K lie in shared memory: while the tensor cores work on one, the copies of the
//! next `STAGES - 1` are under way. Fragments are loaded one k-step ahead, also across the border of
//! two stages, so that the latency of `ldmatrix` hides behind the previous k-step's instructions, and
//! each k-step starts its part of the next copies:
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
//!
//! With two warps per scheduler, an instruction that is not mma costs more than its issue slot
//! (docs/tuning.md). So the loop runs over all slots of shared memory at a time: slots are constants,
//! and neither `ldmatrix` nor the copies compute addresses.

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

    /// The K-block that the loop copies first.
    pub fn first_ahead<const STAGES: u32>(&self) -> u32 {
        self.before_first.wrapping_add(STAGES - 1)
    }
}

/// Runs the main loop over the K-blocks of `tiles`.
///
/// `copy_any(block, slot)` starts all of the thread's copies of a K-block into a slot of shared memory.
/// `copy_part(pointers, turn, slot, step, active)` starts those of a step, without a branch and only where
/// active, of the K-block that is `turn` after the one at which the pointers are, at first
/// [`Tiles::first_ahead`]; `advance(pointers)` moves them by `STAGES` K-blocks. `fragments(slot, step,
/// previous)` loads a step's fragments, of which it may take over some from the step before it (`empty`
/// before the first), `mma(fragments, step)` accumulates them. When it returns, no copy is under way
/// and all warps may overwrite shared memory.
///
/// `APART`: operands that no `cp.async` can copy have a loop of their own; else they are a branch at the
/// start of each K-block. Which one leaves the assembler the better order is a matter of measuring
/// (docs/tuning.md): the branch keeps instructions of one K-block from drifting into the other.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn run<P, F, const STAGES: u32, const STEPS: u32, const PENDING: u32, const APART: bool>(
    tiles: &Tiles,
    mut pointers: P,
    empty: F,
    copy_any: impl Fn(u32, u32),
    copy_part: impl Fn(&P, u32, u32, u32, bool),
    advance: impl Fn(&mut P),
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

    if APART && !tiles.whole {
        let (mut read, mut current) = (0, empty);
        for i in 0..tiles.count {
            let ahead = i + STAGES - 1;
            if ahead < tiles.count {
                let write = if read == 0 { STAGES - 1 } else { read - 1 };
                copy_any(tiles.before_first.wrapping_add(ahead), write);
                cp_async::commit_group();
            }
            for step in 0..STEPS {
                current = fragments(read, step, &current);
                mma(&current, step);
            }
            cp_async::wait_group::<0>();
            thread::sync_threads();
            read = if read + 1 == STAGES { 0 } else { read + 1 };
        }
        return;
    }
    let mut current = fragments(0, 0, &empty);
    let mut i = 0;
    'all: while i < tiles.count {
        for read in 0..STAGES {
            let (next_read, write) = ((read + 1) % STAGES, (read + STAGES - 1) % STAGES);
            let ahead = i + STAGES - 1;
            let active = ahead < tiles.count && (APART || tiles.whole);
            if !APART && !tiles.whole && ahead < tiles.count {
                copy_any(tiles.before_first.wrapping_add(ahead), write);
            }
            for step in 0..STEPS {
                copy_part(&pointers, read, write, step, active);
                let next = if step + 1 < STEPS {
                    fragments(read, step + 1, &current)
                } else {
                    // An empty group keeps the count of groups equal to the count of blocks.
                    cp_async::commit_group();
                    cp_async::wait_group::<PENDING>();
                    thread::sync_threads();
                    // After the last block this reads a stale slot; its fragments are not used.
                    fragments(next_read, 0, &current)
                };
                mma(&current, step);
                current = next;
            }
            i += 1;
            if i == tiles.count {
                break 'all;
            }
        }
        advance(&mut pointers);
    }
    cp_async::wait_group::<0>();
    thread::sync_threads();
}
