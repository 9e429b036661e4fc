//! `setmaxnreg`: a producer warpgroup gives registers to two consumer warpgroups.

use crate::wait;
use cuda_std::{global, kernel, mbarrier, setmaxnreg, shared, thread};

/// Threads of a block: one producer and two consumer warpgroups. 65536 registers make 168 a thread.
const ROLE_THREADS: u32 = 384;
/// Registers of a producer's thread, and of a consumer's: 40 + 2 * 232 = 3 * 168.
const FEW: u32 = 40;
const MANY: u32 = 232;
/// Words that a consumer sums.
const WORDS: u32 = 192;

/// `out[t] = sum of i * from[(t + i) % 192]` over i < 192, modulo 2^32, for t < 256.
///
/// # Safety
/// `from` has 192 words, `out` 256; a block has 384 threads and `192 * 4 + 8` bytes of shared memory.
#[kernel(launch_bounds(ROLE_THREADS, 1))]
pub unsafe fn setmaxnreg_roles(from: u64, out: u64) {
    let t = thread::thread_idx_x();
    let word = |i: u32| shared::base() + i * 4;
    let full = word(WORDS);
    // SAFETY: words and barrier lie side by side in shared memory, indices inside the buffers.
    unsafe {
        crate::make_barrier(full, 128);
        if t < 128 {
            setmaxnreg::decrease::<FEW>();
            let mut i = t;
            while i < WORDS {
                shared::store_u32(word(i), global::load_u32(from + i as u64 * 4));
                i += 128;
            }
            mbarrier::arrive(full);
        } else {
            setmaxnreg::increase::<MANY>();
            wait(full, 0);
            let t = t - 128;
            let mut sum = 0u32;
            for i in 0..WORDS {
                sum = sum.wrapping_add(i.wrapping_mul(shared::load_u32(word((t + i) % WORDS))));
            }
            global::store_u32(out + t as u64 * 4, sum);
        }
    }
}
