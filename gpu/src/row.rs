//! What a lane owns of a row in the epilogue, 4 neighbouring features, between memory and f32 registers.
//!
//! An access takes all of them at once where they exist and are aligned (`whole`), else the first `valid`, one
//! by one.

use core::array::from_fn;
use cuda_std::convert::{Convert, to_i8};
use cuda_std::global;

/// The features of a row that a lane owns.
pub const WIDTH: u32 = 4;

/// [`WIDTH`] values of one row.
pub type Quad = [f32; WIDTH as usize];

/// A type that Y is written in.
pub trait Format {
    /// Bytes of an element.
    const BYTES: u64;

    /// Rounds N values of a row, 4 or 2, and stores them at `address`.
    ///
    /// # Safety
    /// `valid` elements are writable; `whole` implies all N, and an address that is a multiple of their
    /// size together.
    unsafe fn store<const N: usize>(address: u64, y: [f32; N], valid: u32, whole: bool);
}

/// The 16-bit type T.
pub struct Narrow<T>(core::marker::PhantomData<T>);

impl<T: Convert> Format for Narrow<T> {
    const BYTES: u64 = 2;

    #[inline(always)]
    unsafe fn store<const N: usize>(address: u64, y: [f32; N], valid: u32, whole: bool) {
        let [low, high] = [T::narrow(y[0], y[1]), T::narrow(y[N - 2], y[N - 1])];
        // SAFETY: as the caller vouches.
        unsafe {
            match (whole, N) {
                (true, 4) => global::store_v2(address, [low, high]),
                (true, _) => global::store_u32(address, low),
                (false, _) => {
                    let elements = [low, low >> 16, high, high >> 16];
                    each::<N>(valid, |i| {
                        global::store_u16(address + 2 * i as u64, elements[i] as u16)
                    });
                }
            }
        }
    }
}

/// f32.
pub struct Wide;

impl Format for Wide {
    const BYTES: u64 = 4;

    #[inline(always)]
    unsafe fn store<const N: usize>(address: u64, y: [f32; N], valid: u32, whole: bool) {
        let bits = y.map(f32::to_bits);
        // SAFETY: as the caller vouches.
        unsafe {
            match (whole, N) {
                (true, 4) => global::store_v4(address, from_fn(|i| bits[i % N])),
                (true, _) => global::store_v2(address, [bits[0], bits[1]]),
                (false, _) => {
                    each::<N>(valid, |i| global::store_u32(address + 4 * i as u64, bits[i]));
                }
            }
        }
    }
}

/// int8.
pub struct Int8;

impl Format for Int8 {
    const BYTES: u64 = 1;

    #[inline(always)]
    unsafe fn store<const N: usize>(address: u64, y: [f32; N], valid: u32, whole: bool) {
        let bytes = y.map(to_i8);
        let word = |i: usize| (bytes[i] | bytes[i + 1] << 8) & 0xFFFF;
        // SAFETY: as the caller vouches.
        unsafe {
            match (whole, N) {
                (true, 4) => global::store_u32(address, word(0) | word(N - 2) << 16),
                (true, _) => global::store_u16(address, word(0) as u16),
                (false, _) => each::<N>(valid, |i| global::store_u8(address + i as u64, bytes[i])),
            }
        }
    }
}

/// Calls `store` for the first `valid` of N elements.
#[inline(always)]
fn each<const N: usize>(valid: u32, store: impl Fn(usize)) {
    for i in 0..N {
        if (i as u32) < valid {
            store(i);
        }
    }
}

/// 16-bit elements at `address` as f32; what is not valid is 0.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 8 aligned bytes.
#[inline(always)]
pub unsafe fn load<T: Convert>(address: u64, valid: u32, whole: bool) -> Quad {
    // SAFETY: as the caller vouches.
    let pairs: [u32; 2] = unsafe {
        if whole {
            global::load_v2(address)
        } else {
            let one = |i: usize| {
                if (i as u32) < valid { global::load_u16(address + 2 * i as u64) as u32 } else { 0 }
            };
            from_fn(|i| one(2 * i) | one(2 * i + 1) << 16)
        }
    };
    let wide = pairs.map(T::widen);
    from_fn(|i| wide[i / 2][i % 2])
}

/// f32 at `address`; what is not valid is 0.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 16 aligned bytes.
#[inline(always)]
pub unsafe fn load_f32(address: u64, valid: u32, whole: bool) -> Quad {
    // SAFETY: as the caller vouches.
    unsafe {
        if whole {
            global::load_v4(address).map(f32::from_bits)
        } else {
            let one = |i: usize| {
                if (i as u32) < valid { global::load_f32(address + 4 * i as u64) } else { 0.0 }
            };
            from_fn(one)
        }
    }
}
