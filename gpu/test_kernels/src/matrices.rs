//! `stmatrix`: a warp writes four 8x8 matrices, which lie one after the other, row by row.

use crate::{THREADS, dump};
use cuda_std::{global, kernel, shared, stmatrix, thread};

macro_rules! kernels {
    ($($name:ident $store:ident),*) => {$(
        /// Stores the four words that each thread finds in `from`, and writes all 2048 bytes to `out`.
        ///
        /// # Safety
        /// Both buffers, and the block's shared memory, have 2048 bytes.
        #[kernel(launch_bounds(THREADS))]
        pub unsafe fn $name(from: u64, out: u64) {
            let row = shared::base() + thread::thread_idx_x() * 16;
            // SAFETY: a row of 16 bytes a thread, and as much of the buffers.
            unsafe {
                let words = global::load_v4(from + thread::thread_idx_x() as u64 * 16);
                stmatrix::$store(row, words);
                thread::sync_threads();
                dump(shared::base(), out, THREADS * 16);
            }
        }
    )*};
}

kernels!(stmatrix_plain x4, stmatrix_trans x4_trans);
