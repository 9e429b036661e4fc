//! Mbarriers between warps: a producer fills a ring of stages, consumers empty it.

use crate::{THREADS, wait};
use cuda_std::{global, kernel, mbarrier, shared, thread};

/// Stages of the ring.
const STAGES: u32 = 3;
/// Where the stages begin: behind the barriers.
const DATA: u32 = 256;

/// Barrier that a stage has been filled.
fn full(stage: u32) -> u32 {
    shared::base() + stage * 2 * mbarrier::BYTES
}

/// Barrier that a stage has been emptied.
fn empty(stage: u32) -> u32 {
    full(stage) + mbarrier::BYTES
}

/// `out[round][w - 1][lane] = w * from[round][31 - lane]` for warps w = 1..3, which warp 0 feeds.
///
/// # Safety
/// `from` has 32 words a round, `out` 96; a block has `256 + 3 * 128` bytes of shared memory.
#[kernel(launch_bounds(THREADS))]
pub unsafe fn mbarrier_ring(from: u64, out: u64, rounds: u32) {
    let (warp, lane) = (thread::thread_idx_x() / 32, thread::lane());
    let word = |stage: u32, i: u32| shared::base() + DATA + (stage * 32 + i) * 4;
    // SAFETY: barriers and stages lie in the block's shared memory, rounds inside the buffers.
    unsafe {
        if thread::thread_idx_x() == 0 {
            for stage in 0..STAGES {
                mbarrier::init(full(stage), 32);
                mbarrier::init(empty(stage), THREADS - 32);
            }
            mbarrier::fence_init();
        }
        thread::sync_threads();
        let (mut round, mut stage, mut parity) = (0, 0, 0);
        while round < rounds {
            if warp == 0 {
                wait(empty(stage), parity ^ 1);
                let value = global::load_u32(from + (round * 32 + lane) as u64 * 4);
                shared::store_u32(word(stage, lane), value);
                mbarrier::arrive(full(stage));
            } else {
                wait(full(stage), parity);
                let value = shared::load_u32(word(stage, 31 - lane));
                mbarrier::arrive(empty(stage));
                let at = ((round * 3 + warp - 1) * 32 + lane) as u64 * 4;
                global::store_u32(out + at, value.wrapping_mul(warp));
            }
            (round, stage) = (round + 1, stage + 1);
            if stage == STAGES {
                (stage, parity) = (0, parity ^ 1);
            }
        }
    }
}
