//! `test_kernels`: one small kernel per instruction family of `cuda_std`, compiled and run by
//! `host/device_tests`, on the emulator and on a GPU.
//!
//! | module | what its kernels prove |
//! |---|---|
//! | [`plain`] | plain code: vector add, transpose, shuffles, atomics (every architecture) |
//! | `ring` | mbarriers between producer and consumers |
//! | `tensor` | tensor maps: load with each swizzle, a ring of loads, multicast, store |
//! | `products` | `wgmma`, dense and sparse, A in shared memory and in registers |
//! | `matrices` | `stmatrix` |
//! | `roles` | `setmaxnreg` |
//! | `pairs` | `mul`, `fma`, `max` and `tanh` of two 16-bit floats |
//!
//! A kernel is one block (or one cluster) of 128 threads, unless it says otherwise, and takes addresses
//! of plain buffers. Results are written as they lie in shared memory or registers, so that a recorded
//! output shows the layout. No kernel waits for ever: [`wait`] traps.
#![no_std]
#![cfg(target_arch = "nvptx64")]
#![feature(abi_ptx, asm_experimental_arch)]

#[cfg(sm_90a)]
pub mod matrices;
#[cfg(sm_90a)]
pub mod pairs;
pub mod plain;
#[cfg(sm_90a)]
pub mod products;
#[cfg(sm_90a)]
pub mod ring;
#[cfg(sm_90a)]
pub mod roles;
#[cfg(sm_90a)]
pub mod tensor;

/// Threads of a block.
pub const THREADS: u32 = 128;

/// Tries before [`wait`] gives up: some milliseconds at least, a minute at most.
#[cfg(sm_90a)]
const TRIES: u32 = 1 << 16;

/// Waits until the barrier's phase of this parity has ended; ends the kernel with an error if that takes
/// too long.
///
/// # Safety
/// `barrier` is an initialised barrier of the block.
#[cfg(sm_90a)]
#[inline(always)]
unsafe fn wait(barrier: u32, parity: u32) {
    for _ in 0..cuda_std::thread::opaque(TRIES) {
        // SAFETY: as the caller vouches.
        if unsafe { cuda_std::mbarrier::try_wait(barrier, parity) } {
            return;
        }
    }
    // SAFETY: ends the kernel.
    unsafe { core::arch::asm!("trap;", options(nostack)) }
}

/// Makes `barrier` a barrier for `arrivals` arrivals and the whole block.
///
/// All threads of the block must reach it together.
///
/// # Safety
/// `barrier` is room for a barrier that nothing uses.
#[cfg(sm_90a)]
#[inline(always)]
unsafe fn make_barrier(barrier: u32, arrivals: u32) {
    if cuda_std::thread::thread_idx_x() == 0 {
        // SAFETY: as the caller vouches.
        unsafe { cuda_std::mbarrier::init(barrier, arrivals) };
        cuda_std::mbarrier::fence_init();
    }
    cuda_std::thread::sync_threads();
}

/// Copies `bytes` (a multiple of 16) from shared to global memory as they lie, by all threads.
///
/// # Safety
/// Both ranges are valid and 16-byte aligned.
#[cfg(sm_90a)]
#[inline(always)]
unsafe fn dump(shared: u32, out: u64, bytes: u32) {
    let mut at = cuda_std::thread::thread_idx_x() * 16;
    while at < bytes {
        // SAFETY: `at` lies in both ranges.
        unsafe {
            cuda_std::global::store_v4(out + at as u64, cuda_std::shared::load_v4(shared + at))
        };
        at += THREADS * 16;
    }
}
