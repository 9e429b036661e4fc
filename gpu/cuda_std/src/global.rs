//! Global memory (PTX ISA, "ld", "ld.global.nc", "st").
//!
//! Addresses are global-space addresses in bytes and must be aligned to the access size. `_nc` forms
//! read through the non-coherent path: only for memory that nothing writes during the kernel.

use core::arch::asm;

/// Loads 2 bytes.
///
/// # Safety
/// `address` is valid for the read and 2-byte aligned.
#[inline(always)]
pub unsafe fn load_u16(address: u64) -> u16 {
    let value: u16;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.global.b16 {}, [{}];", out(reg16) value, in(reg64) address, options(nostack))
    }
    value
}

/// Loads 4 bytes.
///
/// # Safety
/// `address` is valid for the read and 4-byte aligned.
#[inline(always)]
pub unsafe fn load_u32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.global.b32 {}, [{}];", out(reg32) value, in(reg64) address, options(nostack))
    }
    value
}

/// Loads 4 bytes as f32.
///
/// # Safety
/// `address` is valid for the read and 4-byte aligned.
#[inline(always)]
pub unsafe fn load_f32(address: u64) -> f32 {
    let value: f32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.global.b32 {}, [{}];", out(reg32) value, in(reg64) address, options(nostack))
    }
    value
}

/// Loads 8 bytes.
///
/// # Safety
/// `address` is valid for the read and 8-byte aligned.
#[inline(always)]
pub unsafe fn load_v2(address: u64) -> [u32; 2] {
    let (a, b): (u32, u32);
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.global.v2.b32 {{{}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            in(reg64) address, options(nostack));
    }
    [a, b]
}

/// Loads 16 bytes.
///
/// # Safety
/// `address` is valid for the read and 16-byte aligned.
#[inline(always)]
pub unsafe fn load_v4(address: u64) -> [u32; 4] {
    let (a, b, c, d): (u32, u32, u32, u32);
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("ld.global.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a, out(reg32) b,
            out(reg32) c, out(reg32) d, in(reg64) address, options(nostack));
    }
    [a, b, c, d]
}

/// Loads 16 bytes that are read once: non-coherent, not kept in L1.
///
/// # Safety
/// `address` is valid for the read, 16-byte aligned, and nothing writes there during the kernel.
#[inline(always)]
pub unsafe fn load_streaming_v4(address: u64) -> [u32; 4] {
    let (a, b, c, d): (u32, u32, u32, u32);
    // SAFETY: the caller vouches for the address; the memory is constant for the kernel, so pure.
    unsafe {
        asm!("ld.global.nc.L1::no_allocate.v4.b32 {{{}, {}, {}, {}}}, [{}];", out(reg32) a,
            out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) address,
            options(pure, readonly, nostack));
    }
    [a, b, c, d]
}

/// Stores the low byte of `value`.
///
/// # Safety
/// `address` is valid for the write.
#[inline(always)]
pub unsafe fn store_u8(address: u64, value: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.global.b8 [{}], {};", in(reg64) address, in(reg32) value, options(nostack)) }
}

/// Stores 2 bytes.
///
/// # Safety
/// `address` is valid for the write and 2-byte aligned.
#[inline(always)]
pub unsafe fn store_u16(address: u64, value: u16) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.global.b16 [{}], {};", in(reg64) address, in(reg16) value, options(nostack)) }
}

/// Stores 4 bytes.
///
/// # Safety
/// `address` is valid for the write and 4-byte aligned.
#[inline(always)]
pub unsafe fn store_u32(address: u64, value: u32) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.global.b32 [{}], {};", in(reg64) address, in(reg32) value, options(nostack)) }
}

/// Stores 8 bytes.
///
/// # Safety
/// `address` is valid for the write and 8-byte aligned.
#[inline(always)]
pub unsafe fn store_v2(address: u64, v: [u32; 2]) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("st.global.v2.b32 [{}], {{{}, {}}};", in(reg64) address, in(reg32) v[0],
            in(reg32) v[1], options(nostack));
    }
}

/// Stores 16 bytes.
///
/// # Safety
/// `address` is valid for the write and 16-byte aligned.
#[inline(always)]
pub unsafe fn store_v4(address: u64, v: [u32; 4]) {
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("st.global.v4.b32 [{}], {{{}, {}, {}, {}}};", in(reg64) address, in(reg32) v[0],
            in(reg32) v[1], in(reg32) v[2], in(reg32) v[3], options(nostack));
    }
}
