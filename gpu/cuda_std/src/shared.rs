//! Shared memory (PTX ISA, "ld", "st" with `.shared`).
//!
//! Addresses are offsets in the shared window, in bytes, aligned to the access size.

use core::arch::{asm, global_asm};

global_asm!(".extern .shared .align 1024 .b8 smem[];");

/// Address of the block's dynamic shared memory, a multiple of 1024.
#[inline(always)]
pub fn base() -> u32 {
    let address: u32;
    // SAFETY: takes the address of the symbol declared above.
    unsafe { asm!("mov.u32 {}, smem;", out(reg32) address, options(pure, nomem, nostack)) }
    address
}

/// Loads 4 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 4-byte aligned.
#[inline(always)]
pub unsafe fn load_u32(address: u32) -> u32 {
    let value: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.shared.b32 {}, [{}];", out(reg32) value, in(reg32) address, options(nostack))
    }
    value
}

/// Loads 16 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 16-byte aligned.
#[inline(always)]
pub unsafe fn load_v4(address: u32) -> [u32; 4] {
    let (a, b, c, d): (u32, u32, u32, u32);
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.shared.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            out(reg32) c, out(reg32) d, in(reg32) address, options(nostack));
    }
    [a, b, c, d]
}

/// Loads 16 bytes as four f32.
///
/// # Safety
/// `address` lies in the block's shared memory and is 16-byte aligned.
#[inline(always)]
pub unsafe fn load_f32x4(address: u32) -> [f32; 4] {
    let (a, b, c, d): (f32, f32, f32, f32);
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.shared.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            out(reg32) c, out(reg32) d, in(reg32) address, options(nostack));
    }
    [a, b, c, d]
}

/// Stores 4 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 4-byte aligned.
#[inline(always)]
pub unsafe fn store_u32(address: u32, value: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.shared.b32 [{}], {};", in(reg32) address, in(reg32) value, options(nostack)) }
}

/// Stores 4 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 4-byte aligned.
#[inline(always)]
pub unsafe fn store_f32(address: u32, value: f32) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.shared.b32 [{}], {};", in(reg32) address, in(reg32) value, options(nostack)) }
}

/// Stores 8 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 8-byte aligned.
#[inline(always)]
pub unsafe fn store_f32x2(address: u32, a: f32, b: f32) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("st.shared.v2.b32 [{}], {{{}, {}}};", in(reg32) address, in(reg32) a, in(reg32) b,
            options(nostack));
    }
}

/// Stores 16 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 16-byte aligned.
#[inline(always)]
pub unsafe fn store_v4(address: u32, v: [u32; 4]) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("st.shared.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg32) address, in(reg32) v[0],
            in(reg32) v[1], in(reg32) v[2], in(reg32) v[3], options(nostack));
    }
}

/// Stores 2 bytes.
///
/// # Safety
/// `address` lies in the block's shared memory and is 2-byte aligned.
#[inline(always)]
pub unsafe fn store_u16(address: u32, value: u16) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.shared.b16 [{}], {};", in(reg32) address, in(reg16) value, options(nostack)) }
}
