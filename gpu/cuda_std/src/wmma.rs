//! `wmma` m16n16k16 with f32 accumulation (PTX ISA, "wmma.load", "wmma.mma", "wmma.store").
//!
//! The fragments are opaque: only the same type's `mma` and `store` know them.

use core::arch::asm;
use layout::packed24::{Bf16, F16};

/// Operand types of `wmma.mma.m16n16k16`. A fragment of bf16 fills 4 of its 8 registers.
pub trait Wmma {
    /// Loads a 16x16 A (row-major) from shared memory.
    ///
    /// All lanes of the warp must reach it together, with the same arguments.
    ///
    /// # Safety
    /// `address` (32-byte aligned) is followed by 16 readable rows, `stride` elements apart, a
    /// multiple of 8.
    unsafe fn load_a(address: u32, stride: u32) -> [u32; 8];

    /// Loads a 16x16 B (column-major: K contiguous) from shared memory.
    ///
    /// All lanes of the warp must reach it together, with the same arguments.
    ///
    /// # Safety
    /// As for [`Wmma::load_a`].
    unsafe fn load_b(address: u32, stride: u32) -> [u32; 8];

    /// `d += a . b`.
    ///
    /// All lanes of the warp must reach it together.
    fn mma(d: &mut [f32; 8], a: &[u32; 8], b: &[u32; 8]);
}

/// Stores a 16x16 f32 accumulator row-major to shared memory.
///
/// All lanes of the warp must reach it together, with the same address and stride.
///
/// # Safety
/// `address` (32-byte aligned) is followed by 16 writable rows, `stride` f32 apart, a multiple of 4.
#[inline(always)]
pub unsafe fn store_d(address: u32, stride: u32, d: &[f32; 8]) {
    // SAFETY: the caller vouches for the rows and brings all lanes.
    unsafe {
        asm!(
            "wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [{8}], \
             {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}}, {9};",
            in(reg32) d[0], in(reg32) d[1], in(reg32) d[2], in(reg32) d[3],
            in(reg32) d[4], in(reg32) d[5], in(reg32) d[6], in(reg32) d[7],
            in(reg32) address, in(reg32) stride, options(nostack),
        );
    }
}

macro_rules! load_f16 {
    ($operand:literal, $address:ident, $stride:ident) => {{
        let mut r = [0u32; 8];
        // SAFETY: the caller vouches for the rows and brings all lanes.
        unsafe {
            asm!(
                concat!("wmma.load.", $operand, ".m16n16k16.shared.f16 ",
                    "{{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}}, [{8}], {9};"),
                out(reg32) r[0], out(reg32) r[1], out(reg32) r[2], out(reg32) r[3],
                out(reg32) r[4], out(reg32) r[5], out(reg32) r[6], out(reg32) r[7],
                in(reg32) $address, in(reg32) $stride, options(nostack),
            );
        }
        r
    }};
}

macro_rules! load_bf16 {
    ($operand:literal, $address:ident, $stride:ident) => {{
        let mut r = [0u32; 8];
        // SAFETY: the caller vouches for the rows and brings all lanes.
        unsafe {
            asm!(
                concat!("wmma.load.", $operand, ".m16n16k16.shared.bf16 ",
                    "{{{0}, {1}, {2}, {3}}}, [{4}], {5};"),
                out(reg32) r[0], out(reg32) r[1], out(reg32) r[2], out(reg32) r[3],
                in(reg32) $address, in(reg32) $stride, options(nostack),
            );
        }
        r
    }};
}

impl Wmma for F16 {
    #[inline(always)]
    unsafe fn load_a(address: u32, stride: u32) -> [u32; 8] {
        load_f16!("a.sync.aligned.row", address, stride)
    }

    #[inline(always)]
    unsafe fn load_b(address: u32, stride: u32) -> [u32; 8] {
        load_f16!("b.sync.aligned.col", address, stride)
    }

    #[inline(always)]
    fn mma(d: &mut [f32; 8], a: &[u32; 8], b: &[u32; 8]) {
        // SAFETY: reads and writes registers; the caller brings all lanes.
        unsafe {
            asm!(
                "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 \
                 {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}}, \
                 {{{8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}}}, \
                 {{{16}, {17}, {18}, {19}, {20}, {21}, {22}, {23}}}, \
                 {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}};",
                inout(reg32) d[0], inout(reg32) d[1], inout(reg32) d[2], inout(reg32) d[3],
                inout(reg32) d[4], inout(reg32) d[5], inout(reg32) d[6], inout(reg32) d[7],
                in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                in(reg32) a[4], in(reg32) a[5], in(reg32) a[6], in(reg32) a[7],
                in(reg32) b[0], in(reg32) b[1], in(reg32) b[2], in(reg32) b[3],
                in(reg32) b[4], in(reg32) b[5], in(reg32) b[6], in(reg32) b[7],
                options(nomem, nostack),
            );
        }
    }
}

impl Wmma for Bf16 {
    #[inline(always)]
    unsafe fn load_a(address: u32, stride: u32) -> [u32; 8] {
        load_bf16!("a.sync.aligned.row", address, stride)
    }

    #[inline(always)]
    unsafe fn load_b(address: u32, stride: u32) -> [u32; 8] {
        load_bf16!("b.sync.aligned.col", address, stride)
    }

    #[inline(always)]
    fn mma(d: &mut [f32; 8], a: &[u32; 8], b: &[u32; 8]) {
        // SAFETY: reads and writes registers; the caller brings all lanes.
        unsafe {
            asm!(
                "wmma.mma.sync.aligned.row.col.m16n16k16.f32.bf16.bf16.f32 \
                 {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}}, {{{8}, {9}, {10}, {11}}}, \
                 {{{12}, {13}, {14}, {15}}}, {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}};",
                inout(reg32) d[0], inout(reg32) d[1], inout(reg32) d[2], inout(reg32) d[3],
                inout(reg32) d[4], inout(reg32) d[5], inout(reg32) d[6], inout(reg32) d[7],
                in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                in(reg32) b[0], in(reg32) b[1], in(reg32) b[2], in(reg32) b[3],
                options(nomem, nostack),
            );
        }
    }
}
