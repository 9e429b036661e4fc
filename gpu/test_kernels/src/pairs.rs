//! Arithmetic on pairs of 16-bit floats.

use crate::THREADS;
use cuda_std::convert::Convert;
use cuda_std::{global, kernel, thread};
use layout::packed24::{Bf16, F16};
use layout::pair::PairInstructions;

/// Pairs whose `tanh` is judged: all numbers of the type.
const NUMBERS: u32 = 1 << 15;
/// Pairs that the other instructions take.
const OPERANDS: u32 = 1 << 10;

/// Of the numbers at `numbers`, counts those of a thread whose `tanh` is within `bound` of the one at `tanh`, or NaN
/// where that is. Then `mul`, `fma` and `max` of neighbours at `operands`, behind each other.
///
/// # Safety
/// The buffers have `NUMBERS` words, twice as many f32, and `OPERANDS` and two words; `out` has a word for each thread
/// and three for each operand.
#[inline(always)]
unsafe fn pairs<T: Convert>(numbers: u64, tanh: u64, operands: u64, out: u64, bound: u32) {
    let (bound, thread) = (f32::from_bits(bound), thread::thread_idx_x());
    let mut right = 0;
    // SAFETY: as the caller vouches.
    unsafe {
        for i in (thread..thread::opaque(NUMBERS)).step_by(THREADS as usize) {
            let found = T::widen(T::Pairs::tanh(global::load_u32(numbers + i as u64 * 4)));
            for (j, found) in found.into_iter().enumerate() {
                let want = global::load_f32(tanh + i as u64 * 8 + j as u64 * 4);
                let within = (found - want).abs() <= bound;
                right += (within || found.is_nan() && want.is_nan()) as u32;
            }
        }
        global::store_u32(out + thread as u64 * 4, right);
        for i in (thread..thread::opaque(OPERANDS)).step_by(THREADS as usize) {
            let [a, b, c] = [0, 4, 8].map(|at| global::load_u32(operands + i as u64 * 4 + at));
            let results = [T::Pairs::mul(a, b), T::Pairs::fma(a, b, c), T::Pairs::max(a, b)];
            let out = out + (THREADS + 3 * i) as u64 * 4;
            for (j, result) in results.into_iter().enumerate() {
                global::store_u32(out + j as u64 * 4, result);
            }
        }
    }
}

macro_rules! kernels {
    ($($name:ident $type:ident),*) => {$(
        /// `pairs` of one type.
        ///
        /// # Safety
        /// As for `pairs`.
        #[kernel(launch_bounds(THREADS))]
        pub unsafe fn $name(numbers: u64, tanh: u64, operands: u64, out: u64, bound: u32) {
            // SAFETY: as the caller vouches.
            unsafe { pairs::<$type>(numbers, tanh, operands, out, bound) }
        }
    )*};
}

kernels!(pairs_f16 F16, pairs_bf16 Bf16);
