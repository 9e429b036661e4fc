//! The multistage main loop of the three GEMMs.
//!
//! `STAGES` tiles of K lie in shared memory: while the tensor cores work on one, the copies of the
//! next `STAGES - 1` are under way. Fragments are loaded one k-step ahead, also across the border of
//! two stages, so that the latency of `ldmatrix` hides behind the previous k-step's instructions:
//!
//! ```text
//!   k-step        0          1      ...   last
//!   copies     stage+S-1
//!   fragments  of step 1  of step 2  ...  wait, barrier, of step 0 of the next stage
//!   mma        step 0     step 1     ...  last
//! ```
//!
//! The one barrier of a stage does two things: it shows everyone's copies of the next stage to all,
//! and it tells that all warps have read the stage that the next copies overwrite.

use cuda_std::{cp_async, thread};

/// Runs the main loop over `blocks` tiles of K.
///
/// `load(tile, slot)` starts the thread's copies of a tile into a slot of shared memory,
/// `fragments(slot, step, previous)` loads a step's fragments, of which it may take over some from the
/// step before it (`empty` before the first), `mma(fragments, step)` accumulates them.
/// When it returns, no copy is under way and all warps may overwrite shared memory.
///
/// All threads of the block must reach it together.
#[inline(always)]
pub fn run<F, const STAGES: u32, const STEPS: u32, const PENDING: u32>(
    blocks: u32,
    empty: F,
    load: impl Fn(u32, u32),
    fragments: impl Fn(u32, u32, &F) -> F,
    mut mma: impl FnMut(&F, u32),
) {
    const { assert!(STAGES >= 2 && STEPS >= 2 && PENDING == STAGES - 2) };
    for stage in 0..thread::opaque(STAGES - 1) {
        if stage < blocks {
            load(stage, stage);
        }
        cp_async::commit_group();
    }
    cp_async::wait_group::<PENDING>();
    thread::sync_threads();

    let mut read = 0;
    let mut write = STAGES - 1;
    let mut current = fragments(0, 0, &empty);
    for block in 0..blocks {
        for step in 0..STEPS {
            let next = if step + 1 < STEPS {
                fragments(read, step + 1, &current)
            } else {
                cp_async::wait_group::<PENDING>();
                thread::sync_threads();
                read = if read + 1 == STAGES { 0 } else { read + 1 };
                // After the last block this reads a stale slot; its fragments are not used.
                fragments(read, 0, &current)
            };
            if step == 0 {
                if block + STAGES - 1 < blocks {
                    load(block + STAGES - 1, write);
                }
                // An empty group keeps the count of groups equal to the count of blocks.
                cp_async::commit_group();
                write = if write + 1 == STAGES { 0 } else { write + 1 };
            }
            mma(&current, step);
            current = next;
        }
    }
    cp_async::wait_group::<0>();
    thread::sync_threads();
}
