//! `wgmma` m64nNk16, and sparse m64nNk32, with f32 accumulation (PTX ISA, "wgmma.mma_async", sm_90a).
//!
//! Four warps, the first a multiple of four, make one product D (64 x N) += A . B. Warp w of them holds
//! rows 16w.. of D as the fragments of `layout::fragment` beside each other: register 4i + j of a lane is
//! register j of the m16n8 fragment at columns 8i.. A lies in shared memory or, as fragments of
//! `mma.m16n8k16`, in registers; B in shared memory. Both are K-major; `layout::descriptor` describes them.
//! Metadata is that of `mma_sp`: lane l of warp w supplies word l of the Packed24 block of rows 16w...
//!
//! ```text
//!   fence      before the first product, and after registers were written that one takes
//!   mma ...    any number
//!   commit     the group is closed
//!   wait<0>    the accumulators may be read; A, metadata and shared memory may be written
//! ```
//!
//! Products run on after the instruction: until the wait, accumulators, A registers and metadata must
//! neither be read (but by further products) nor written. The compiler knows nothing of that.
//! [`pin`] and [`keep`] tell it what matters: `pin(&mut d)` right after the wait forbids it to use D before,
//! `keep(register)` there forbids it to reuse an input's register before.

use core::arch::asm;
use layout::packed24::{Bf16, F16};

/// Orders the warpgroup's accesses to registers before its next products.
///
/// All lanes of the warpgroup's warps must reach it together.
#[inline(always)]
pub fn fence() {
    // SAFETY: orders accesses; the caller brings the warpgroup.
    unsafe { asm!("wgmma.fence.sync.aligned;", options(nostack)) }
}

/// Closes the warpgroup's current group of products.
///
/// All lanes of the warpgroup's warps must reach it together.
#[inline(always)]
pub fn commit_group() {
    // SAFETY: affects the bookkeeping of products alone; the caller brings the warpgroup.
    unsafe { asm!("wgmma.commit_group.sync.aligned;", options(nostack)) }
}

/// Waits until at most `PENDING` of the newest groups are under way.
///
/// All lanes of the warpgroup's warps must reach it together.
#[inline(always)]
pub fn wait_group<const PENDING: u32>() {
    // SAFETY: waits; the caller brings the warpgroup.
    unsafe { asm!("wgmma.wait_group.sync.aligned {};", const PENDING, options(nostack)) }
}

/// Pretends to change the accumulators: what the compiler computes from them comes after this.
#[inline(always)]
pub fn pin<const R: usize>(d: &mut [f32; R]) {
    for register in d {
        // SAFETY: a comment.
        unsafe { asm!("// {}", inout(reg32) * register, options(nostack)) }
    }
}

/// Pretends to read a register: until here the compiler keeps its value where it is.
#[inline(always)]
pub fn keep(register: u32) {
    // SAFETY: a comment.
    unsafe { asm!("// {}", in(reg32) register, options(nostack)) }
}

/// Products of operands of one type into accumulators of `R` registers, N = 2R columns.
///
/// Where `ACCUMULATE` is 0, D counts as zero. All lanes of the warpgroup's warps must reach an
/// instruction together, with the same descriptors.
pub trait Wgmma<const R: usize> {
    /// `d += a . b`, A 64x16 in shared memory.
    ///
    /// # Safety
    /// The descriptors lead to readable shared memory that nothing writes until the group has ended.
    unsafe fn mma<const ACCUMULATE: u32>(d: &mut [f32; R], a: u64, b: u64);

    /// `d += a . b`, A 64x16 in registers.
    ///
    /// # Safety
    /// As for [`Self::mma`].
    unsafe fn mma_registers<const ACCUMULATE: u32>(d: &mut [f32; R], a: &[u32; 4], b: u64);

    /// `d += a . b`, A 64x32 and 2:4 sparse (64x16 values) in shared memory. `SELECTOR` 0 or 1 takes
    /// the first or second 32 columns of the block that `metadata` belongs to.
    ///
    /// # Safety
    /// As for [`Self::mma`].
    unsafe fn mma_sparse<const SELECTOR: u32, const ACCUMULATE: u32>(
        d: &mut [f32; R],
        a: u64,
        b: u64,
        metadata: u32,
    );

    /// As [`Self::mma_sparse`], values in registers.
    ///
    /// # Safety
    /// As for [`Self::mma`].
    unsafe fn mma_sparse_registers<const SELECTOR: u32, const ACCUMULATE: u32>(
        d: &mut [f32; R],
        a: &[u32; 4],
        b: u64,
        metadata: u32,
    );
}

/// The accumulators as a vector operand: `{%0, %1, ...}`, from the indices but 0.
macro_rules! vector {
    ($($i:literal)*) => {
        concat!("{{{0}", $(", {", $i, "}",)* "}}")
    };
}

macro_rules! implement {
    ($type:ty, $name:literal, $n:literal, $registers:literal, $($i:literal)*) => {
        impl Wgmma<$registers> for $type {
            #[inline(always)]
            unsafe fn mma<const ACCUMULATE: u32>(d: &mut [f32; $registers], a: u64, b: u64) {
                // SAFETY: the caller vouches for the descriptors and brings the warpgroup.
                unsafe {
                    asm!(
                        concat!("wgmma.mma_async.sync.aligned.m64n", $n, "k16.f32.", $name, ".",
                            $name, " ", vector!($($i)*), ", {a}, {b}, {accumulate}, 1, 1, 0, 0;"),
                        inout(reg32) d[0], $(inout(reg32) d[$i],)*
                        a = in(reg64) a, b = in(reg64) b, accumulate = const ACCUMULATE,
                        options(nostack),
                    );
                }
            }

            #[inline(always)]
            unsafe fn mma_registers<const ACCUMULATE: u32>(
                d: &mut [f32; $registers],
                a: &[u32; 4],
                b: u64,
            ) {
                // SAFETY: the caller vouches for the descriptor and brings the warpgroup.
                unsafe {
                    asm!(
                        concat!("wgmma.mma_async.sync.aligned.m64n", $n, "k16.f32.", $name, ".",
                            $name, " ", vector!($($i)*), ", {{{a0}, {a1}, {a2}, {a3}}}, {b}, ",
                            "{accumulate}, 1, 1, 0;"),
                        inout(reg32) d[0], $(inout(reg32) d[$i],)*
                        a0 = in(reg32) a[0], a1 = in(reg32) a[1], a2 = in(reg32) a[2],
                        a3 = in(reg32) a[3], b = in(reg64) b, accumulate = const ACCUMULATE,
                        options(nostack),
                    );
                }
            }

            #[inline(always)]
            unsafe fn mma_sparse<const SELECTOR: u32, const ACCUMULATE: u32>(
                d: &mut [f32; $registers],
                a: u64,
                b: u64,
                metadata: u32,
            ) {
                // SAFETY: the caller vouches for the descriptors and brings the warpgroup.
                unsafe {
                    asm!(
                        concat!("wgmma.mma_async.sp.sync.aligned.m64n", $n, "k32.f32.", $name, ".",
                            $name, " ", vector!($($i)*), ", {a}, {b}, {metadata}, {selector}, ",
                            "{accumulate}, 1, 1, 0, 0;"),
                        inout(reg32) d[0], $(inout(reg32) d[$i],)*
                        a = in(reg64) a, b = in(reg64) b, metadata = in(reg32) metadata,
                        selector = const SELECTOR, accumulate = const ACCUMULATE,
                        options(nostack),
                    );
                }
            }

            #[inline(always)]
            unsafe fn mma_sparse_registers<const SELECTOR: u32, const ACCUMULATE: u32>(
                d: &mut [f32; $registers],
                a: &[u32; 4],
                b: u64,
                metadata: u32,
            ) {
                // SAFETY: the caller vouches for the descriptor and brings the warpgroup.
                unsafe {
                    asm!(
                        concat!("wgmma.mma_async.sp.sync.aligned.m64n", $n, "k32.f32.", $name, ".",
                            $name, " ", vector!($($i)*), ", {{{a0}, {a1}, {a2}, {a3}}}, {b}, ",
                            "{metadata}, {selector}, {accumulate}, 1, 1, 0;"),
                        inout(reg32) d[0], $(inout(reg32) d[$i],)*
                        a0 = in(reg32) a[0], a1 = in(reg32) a[1], a2 = in(reg32) a[2],
                        a3 = in(reg32) a[3], b = in(reg64) b, metadata = in(reg32) metadata,
                        selector = const SELECTOR, accumulate = const ACCUMULATE,
                        options(nostack),
                    );
                }
            }
        }
    };
}

/// Both types of one N: the number of registers, and their indices but 0.
macro_rules! columns {
    ($n:literal, $registers:literal, $($i:literal)*) => {
        implement!(F16, "f16", $n, $registers, $($i)*);
        implement!(Bf16, "bf16", $n, $registers, $($i)*);
    };
}

columns!(8, 4, 1 2 3);
columns!(16, 8, 1 2 3 4 5 6 7);
columns!(32, 16, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
columns!(64, 32,
     1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
columns!(128, 64,
     1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
     34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
columns!(160, 80,
     1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
     34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
     64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
columns!(192, 96,
     1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
     34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
     64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93
     94 95);
columns!(256, 128,
     1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
     34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
     64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93
     94 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117
     118 119 120 121 122 123 124 125 126 127);
