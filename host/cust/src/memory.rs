//! Device memory. All lengths are in elements and all sizes 64-bit.
//!
//! The plain copies and fills return when they are done; they do not wait for kernels in
//! non-blocking streams, so synchronise the stream first. The `async_` ones are queued in a stream
//! like a kernel.

use std::fmt;
use std::marker::PhantomData;

pub use crate::buffer::DeviceBuffer;

/// Types that may be copied to and from a device byte by byte.
///
/// # Safety
/// Every bit pattern must be a value of the type, and it must hold no host pointer or reference
/// that a kernel would follow.
pub unsafe trait DeviceCopy: Copy + 'static {}

macro_rules! device_copy {
    ($($type:ty)*) => {
        // SAFETY: plain numbers, valid for every bit pattern.
        $(unsafe impl DeviceCopy for $type {})*
    };
}
device_copy! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64 half::f16 half::bf16 }
// SAFETY: as valid as its elements.
unsafe impl<T: DeviceCopy, const N: usize> DeviceCopy for [T; N] {}
// SAFETY: a 64-bit device address, valid for every bit pattern.
unsafe impl<T: 'static> DeviceCopy for DevicePointer<T> {}

/// An address on the device. A number to the host: copying one keeps nothing alive.
#[repr(transparent)]
pub struct DevicePointer<T> {
    raw: u64,
    element: PhantomData<fn() -> T>,
}

impl<T> DevicePointer<T> {
    /// A pointer from a device address.
    pub const fn from_raw(raw: u64) -> Self {
        Self { raw, element: PhantomData }
    }

    /// The null pointer, for optional kernel arguments.
    pub const fn null() -> Self {
        Self::from_raw(0)
    }

    /// The device address.
    pub const fn as_raw(self) -> u64 {
        self.raw
    }

    /// Whether this is the null pointer.
    pub const fn is_null(self) -> bool {
        self.raw == 0
    }

    /// The address `count` elements further on, wrapping.
    #[must_use]
    pub const fn wrapping_add(self, count: usize) -> Self {
        let bytes = (count as u64).wrapping_mul(size_of::<T>() as u64);
        Self::from_raw(self.raw.wrapping_add(bytes))
    }

    /// The same address for another element type.
    pub const fn cast<U>(self) -> DevicePointer<U> {
        DevicePointer::from_raw(self.raw)
    }
}

impl<T> Clone for DevicePointer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DevicePointer<T> {}

impl<T> PartialEq for DevicePointer<T> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<T> Eq for DevicePointer<T> {}

impl<T> fmt::Debug for DevicePointer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePointer({:#x})", self.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_count_in_elements() {
        let pointer = DevicePointer::<f32>::from_raw(0x1000);
        assert_eq!(pointer.wrapping_add(3).as_raw(), 0x100C);
        assert_eq!(pointer.cast::<u8>().wrapping_add(3).as_raw(), 0x1003);
        assert_eq!(size_of::<DevicePointer<f32>>(), 8);
        assert!(!pointer.is_null() && DevicePointer::<u8>::null().is_null());
    }
}
