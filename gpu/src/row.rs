//! What a lane owns of a row in the epilogue, 4 neighbouring features, between memory and f32 registers.
//!
//! Where all of them exist and are aligned, an access takes them at once, else one by one.

use core::array::from_fn;
use cuda_std::convert::{Convert, to_i8};
use cuda_std::global;

/// The features of a row that a lane owns.
pub const WIDTH: u32 = 4;

/// [`WIDTH`] values of one row.
pub type Quad = [f32; WIDTH as usize];

/// A type that Y is written in, several elements at a time.
pub trait Format {
    /// Bytes of an element.
    const BYTES: u64;

    /// Rounds N values of a row, 4 or 2, and stores them at `address`.
    ///
    /// # Safety
    /// N elements are writable; the address is a multiple of their size together.
    unsafe fn store<const N: usize>(address: u64, y: [f32; N]);

    /// Rounds one value and stores it at `address`.
    ///
    /// # Safety
    /// The element is writable.
    unsafe fn store_one(address: u64, y: f32);
}

/// The 16-bit type T.
pub struct Narrow<T>(core::marker::PhantomData<T>);

impl<T: Convert> Format for Narrow<T> {
    const BYTES: u64 = 2;

    #[inline(always)]
    unsafe fn store<const N: usize>(address: u64, y: [f32; N]) {
        // SAFETY: as the caller vouches.
        unsafe {
            match N {
                4 => global::store_v2(
                    address,
                    [T::narrow(y[0], y[1]), T::narrow(y[N - 2], y[N - 1])],
                ),
                _ => global::store_u32(address, T::narrow(y[0], y[1])),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_one(address: u64, y: f32) {
        // SAFETY: as the caller vouches.
        unsafe { global::store_u16(address, T::narrow(y, y) as u16) }
    }
}

/// f32.
pub struct Wide;

impl Format for Wide {
    const BYTES: u64 = 4;

    #[inline(always)]
    unsafe fn store<const N: usize>(address: u64, y: [f32; N]) {
        let bits = y.map(f32::to_bits);
        // SAFETY: as the caller vouches.
        unsafe {
            match N {
                4 => global::store_v4(address, from_fn(|i| bits[i % N])),
                _ => global::store_v2(address, [bits[0], bits[1]]),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_one(address: u64, y: f32) {
        // SAFETY: as the caller vouches.
        unsafe { global::store_u32(address, y.to_bits()) }
    }
}

/// int8.
pub struct Int8;

impl Int8 {
    /// Bytes of an element.
    pub const BYTES: u64 = 1;

    /// Four values, rounded.
    #[inline(always)]
    pub fn word(y: Quad) -> u32 {
        let bytes = y.map(to_i8);
        bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24
    }
}

/// 4 elements of 16 bits at `address` as f32.
///
/// # Safety
/// They are readable, and 8-byte aligned.
#[inline(always)]
pub unsafe fn load<T: Convert>(address: u64) -> Quad {
    // SAFETY: as the caller vouches.
    let wide = unsafe { global::load_v2(address) }.map(T::widen);
    from_fn(|i| wide[i / 2][i % 2])
}

/// 4 elements of f32 at `address`.
///
/// # Safety
/// They are readable, and 16-byte aligned.
#[inline(always)]
pub unsafe fn load_f32(address: u64) -> Quad {
    // SAFETY: as the caller vouches.
    unsafe { global::load_v4(address).map(f32::from_bits) }
}

/// One element of 16 bits at `address` as f32.
///
/// # Safety
/// It is readable.
#[inline(always)]
pub unsafe fn load_one<T: Convert>(address: u64) -> f32 {
    // SAFETY: as the caller vouches.
    T::widen(unsafe { global::load_u16(address) } as u32)[0]
}
