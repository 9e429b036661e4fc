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
/// `copy_part(pointers, turn, slot, step)` starts those of a step, of the K-block that is `turn` after the
/// one at which the pointers are, at first [`Tiles::first_ahead`]; `advance(pointers)` moves them by `STAGES`
/// K-blocks. `fragments(slot, step, previous)` loads a step's fragments, of which it may take over some from
/// the step before it (`empty` before the first), `mma(fragments, step)` accumulates them. When it returns,
/// no copy is under way and all warps may overwrite shared memory.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn run<P, F, const STAGES: u32, const STEPS: u32, const PENDING: u32>(
    tiles: &Tiles,
    mut pointers: P,
    empty: F,
    copy_any: impl Fn(u32, u32),
    copy_part: impl Fn(&P, u32, u32, u32),
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

    let (mut i, mut read) = (0, thread::opaque(0));
    // The K-blocks with which the copy of another starts: no copy has a condition. The loop may end after
    // each K-block, or pair of short ones: the assembler orders the instructions between two branches, for
    // good if they are many, but takes more time for it than their number says.
    let between = const { if STEPS < 4 && STAGES % 2 == 0 { 2 } else { 1 } };
    let copying = if tiles.whole { tiles.count.saturating_sub(STAGES - 1) } else { 0 };
    let copying = copying - copying % between;
    if copying > 0 {
        let mut current = fragments(0, 0, &empty);
        'all: loop {
            for slot in 0..STAGES {
                let (next, write) = ((slot + 1) % STAGES, (slot + STAGES - 1) % STAGES);
                for step in 0..STEPS {
                    copy_part(&pointers, slot, write, step);
                    let following = if step + 1 < STEPS {
                        fragments(slot, step + 1, &current)
                    } else {
                        next_tile::<PENDING>();
                        fragments(next, 0, &current)
                    };
                    mma(&current, step);
                    current = following;
                }
                i += 1;
                if (slot + 1) % between == 0 && i == copying {
                    read = next;
                    break 'all;
                }
            }
            advance(&mut pointers);
        }
    }
    // The rest, and operands that no `cp.async` can copy: one K-block at a time, in which no fragment is held
    // while the copies are computed.
    while i < tiles.count {
        let ahead = i + STAGES - 1;
        if ahead < tiles.count {
            let write = if read == 0 { STAGES - 1 } else { read - 1 };
            copy_any(tiles.before_first.wrapping_add(ahead), write);
        }
        let mut current = fragments(read, 0, &empty);
        for step in 1..STEPS {
            let following = fragments(read, step, &current);
            mma(&current, step - 1);
            current = following;
        }
        mma(&current, STEPS - 1);
        next_tile::<PENDING>();
        read = if read + 1 == STAGES { 0 } else { read + 1 };
        i += 1;
    }
    cp_async::wait_group::<0>();
    thread::sync_threads();
}

/// Makes the next K-block's tile readable, and the slot before this one's free.
#[inline(always)]
fn next_tile<const PENDING: u32>() {
    // Where nothing was copied, an empty group keeps the count of groups equal to the count of blocks.
    cp_async::commit_group();
    cp_async::wait_group::<PENDING>();
    thread::sync_threads();
}
