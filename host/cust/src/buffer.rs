//! Device memory that is allocated, copied, filled and freed.

use std::ffi::c_void;
use std::fmt;

use cudarc::driver::sys;

use crate::context::Context;
use crate::driver::call;
use crate::error::{CudaError, CudaResult, invalid};
use crate::memory::{DeviceCopy, DevicePointer};
use crate::stream::Stream;

/// Device memory for `len` elements, freed on drop. Zero-sized buffers are legal, have a null
/// pointer and never call the driver.
pub struct DeviceBuffer<T: DeviceCopy> {
    pointer: DevicePointer<T>,
    len: usize,
    /// `None` exactly where no memory was allocated.
    context: Option<Context>,
}

impl<T: DeviceCopy> DeviceBuffer<T> {
    /// Memory with whatever was in it (as `DeviceCopy` types have no invalid bits, reading it is
    /// harmless). At least 256-byte aligned.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], [`CudaError::NoContext`], [`CudaError::InvalidArgument`] for a
    /// size over 2^63 bytes, or what the driver says.
    pub fn uninitialized(len: usize) -> CudaResult<Self> {
        let bytes = byte_size::<T>(len)?;
        if bytes == 0 {
            return Ok(Self { pointer: DevicePointer::null(), len, context: None });
        }
        let context = Context::current()?;
        let raw = allocate(&context, bytes)?;
        Ok(Self { pointer: DevicePointer::from_raw(raw), len, context: Some(context) })
    }

    /// Memory of all-zero bytes.
    ///
    /// # Errors
    /// Those of [`DeviceBuffer::uninitialized`].
    pub fn zeroed(len: usize) -> CudaResult<Self> {
        let mut buffer = Self::uninitialized(len)?;
        buffer.set_8(0)?;
        Ok(buffer)
    }

    /// A copy of host data.
    ///
    /// # Errors
    /// Those of [`DeviceBuffer::uninitialized`].
    pub fn from_slice(source: &[T]) -> CudaResult<Self> {
        let mut buffer = Self::uninitialized(source.len())?;
        buffer.copy_from(source)?;
        Ok(buffer)
    }

    /// Length in elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size in bytes.
    pub fn size_in_bytes(&self) -> usize {
        // Cannot overflow: checked when the memory was allocated.
        self.len * size_of::<T>()
    }

    /// The address of the first element; null for a zero-sized buffer.
    pub fn as_device_ptr(&self) -> DevicePointer<T> {
        self.pointer
    }

    /// Copies from the host and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless the lengths are equal, or what the driver says.
    pub fn copy_from(&mut self, source: &[T]) -> CudaResult<()> {
        self.same_len("source length (elements)", source.len())?;
        self.copy_from_at(0, source)
    }

    /// Copies from the host to the elements from `start` on, and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless they lie in the buffer, or what the driver says.
    pub fn copy_from_at(&mut self, start: usize, source: &[T]) -> CudaResult<()> {
        self.inside(start, source.len())?;
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let to = self.pointer.wrapping_add(start).as_raw();
        // SAFETY: both sides hold the slice's bytes and live through the call.
        unsafe { call!(cuMemcpyHtoD_v2(to, source.as_ptr().cast(), size_of_val(source))) }?;
        finish_default_stream()
    }

    /// Copies to the host and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless the lengths are equal, or what the driver says.
    pub fn copy_to(&self, target: &mut [T]) -> CudaResult<()> {
        self.same_len("target length (elements)", target.len())?;
        self.copy_to_at(0, target)
    }

    /// Copies the elements from `start` on to the host and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless they lie in the buffer, or what the driver says.
    pub fn copy_to_at(&self, start: usize, target: &mut [T]) -> CudaResult<()> {
        self.inside(start, target.len())?;
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let from = self.pointer.wrapping_add(start).as_raw();
        let to = target.as_mut_ptr().cast::<c_void>();
        // SAFETY: both sides hold the slice's bytes; every bit pattern is a valid `T`.
        unsafe { call!(cuMemcpyDtoH_v2(to, from, size_of_val(target))) }
    }

    /// Copies from another buffer of the same device and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless the lengths are equal, or what the driver says.
    pub fn copy_from_buffer(&mut self, source: &Self) -> CudaResult<()> {
        self.same_len("source length (elements)", source.len)?;
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let (to, from) = (self.pointer.as_raw(), source.pointer.as_raw());
        // SAFETY: both sides hold this many bytes and cannot overlap: one is borrowed mutably.
        unsafe { call!(cuMemcpyDtoD_v2(to, from, self.size_in_bytes())) }?;
        finish_default_stream()
    }

    /// The contents as a vector.
    ///
    /// # Errors
    /// What the driver says.
    pub fn as_host_vec(&self) -> CudaResult<Vec<T>> {
        let mut host = Vec::<T>::with_capacity(self.len);
        if let Some(context) = &self.context {
            context.bind()?;
            let to = host.as_mut_ptr().cast::<c_void>();
            // SAFETY: the vector has room for `len` elements.
            unsafe { call!(cuMemcpyDtoH_v2(to, self.pointer.as_raw(), self.size_in_bytes())) }?;
        }
        // SAFETY: all bytes of `len` elements were written, or there are none; every bit pattern
        // is a valid `T`.
        unsafe { host.set_len(self.len) };
        Ok(host)
    }

    /// Sets every byte and waits. 0xFF makes every `f16`, `bf16`, `f32` and `f64` a NaN: poison
    /// for outputs.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_8(&mut self, value: u8) -> CudaResult<()> {
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        // SAFETY: the buffer holds this many bytes.
        unsafe { call!(cuMemsetD8_v2(self.pointer.as_raw(), value, self.size_in_bytes())) }?;
        finish_default_stream()
    }

    /// Queues [`DeviceBuffer::set_8`] in a stream. Freeing the buffer waits for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_8_async(&mut self, value: u8, stream: &Stream) -> CudaResult<()> {
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let bytes = self.size_in_bytes();
        // SAFETY: the buffer holds this many bytes.
        unsafe { call!(cuMemsetD8Async(self.pointer.as_raw(), value, bytes, stream.as_raw())) }
    }

    /// Queues a copy from the host in a stream.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless the lengths are equal, or what the driver says.
    ///
    /// # Safety
    /// `source` must stay allocated and unchanged until the stream has got there.
    pub unsafe fn async_copy_from(&mut self, source: &[T], stream: &Stream) -> CudaResult<()> {
        self.same_len("source length (elements)", source.len())?;
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let (bytes, from) = (self.size_in_bytes(), source.as_ptr().cast());
        // SAFETY: both sides hold `bytes` bytes; the caller keeps the host side.
        unsafe { call!(cuMemcpyHtoDAsync_v2(self.pointer.as_raw(), from, bytes, stream.as_raw())) }
    }

    /// Queues a copy to the host in a stream.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] unless the lengths are equal, or what the driver says.
    ///
    /// # Safety
    /// `target` must stay allocated and untouched until the stream has got there.
    pub unsafe fn async_copy_to(&self, target: &mut [T], stream: &Stream) -> CudaResult<()> {
        self.same_len("target length (elements)", target.len())?;
        let Some(context) = &self.context else { return Ok(()) };
        context.bind()?;
        let (bytes, to) = (self.size_in_bytes(), target.as_mut_ptr().cast());
        // SAFETY: both sides hold `bytes` bytes; the caller keeps the host side.
        unsafe { call!(cuMemcpyDtoHAsync_v2(to, self.pointer.as_raw(), bytes, stream.as_raw())) }
    }

    /// Refuses a range that is not in the buffer.
    fn inside(&self, start: usize, len: usize) -> CudaResult<()> {
        match start.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(invalid(
                "range of a copy (elements)",
                format!("{len} from {start}"),
                format!("in a buffer of {}", self.len),
            )),
        }
    }

    fn same_len(&self, what: &str, len: usize) -> CudaResult<()> {
        if len == self.len {
            return Ok(());
        }
        Err(invalid(what, len, format!("{}, the buffer's length", self.len)))
    }
}

impl<T: DeviceCopy> fmt::Debug for DeviceBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBuffer({:#x}, {} elements)", self.pointer.as_raw(), self.len)
    }
}

impl<T: DeviceCopy> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            let _ = context.bind();
            // SAFETY: allocated by `allocate`, freed once; the driver first waits for work that
            // may use it. An error leaves nothing to do.
            let _ = unsafe { call!(cuMemFree_v2(self.pointer.as_raw())) };
        }
    }
}

/// Bytes of `len` elements.
fn byte_size<T>(len: usize) -> CudaResult<usize> {
    len.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(
        || {
            let what = format!("buffer length (elements of {} bytes)", size_of::<T>());
            invalid(what, len, "less than 2^63 bytes in all")
        },
    )
}

/// `cuMemAlloc` with an error that says how much there was.
fn allocate(context: &Context, bytes: usize) -> CudaResult<sys::CUdeviceptr> {
    let mut raw = 0;
    // SAFETY: the pointer is to a live local and the context is current.
    let result = unsafe { call!(cuMemAlloc_v2(&mut raw, bytes)) };
    let Err(error) = result else { return Ok(raw) };
    let (free, total) = context.mem_info().unwrap_or((0, 0));
    let requested = bytes as u64;
    // The driver calls a size past its address space an invalid value.
    let out_of_memory = match &error {
        CudaError::Driver { code, .. } => {
            *code == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32
                || *code == sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32 && requested > total
        }
        _ => false,
    };
    Err(if out_of_memory { CudaError::OutOfMemory { requested, free, total } } else { error })
}

/// Fills, and copies from pageable memory, may still be running when the driver returns, and
/// non-blocking streams would not wait for them.
fn finish_default_stream() -> CudaResult<()> {
    // SAFETY: null is the default stream of the current context.
    unsafe { call!(cuStreamSynchronize(std::ptr::null_mut())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_buffers_need_no_driver() {
        let mut empty = DeviceBuffer::<f32>::from_slice(&[]).unwrap();
        assert!(empty.is_empty() && empty.as_device_ptr().is_null());
        assert_eq!(empty.size_in_bytes(), 0);
        empty.set_8(0xFF).unwrap();
        empty.copy_from(&[]).unwrap();
        empty.copy_to(&mut []).unwrap();
        empty.copy_from_buffer(&DeviceBuffer::zeroed(0).unwrap()).unwrap();
        assert_eq!(empty.as_host_vec().unwrap(), Vec::<f32>::new());
        let zero_sized = DeviceBuffer::<[u32; 0]>::zeroed(5).unwrap();
        assert_eq!(zero_sized.as_host_vec().unwrap().len(), 5);
    }

    #[test]
    fn lengths_are_checked() {
        let mut empty = DeviceBuffer::<u16>::zeroed(0).unwrap();
        let text = empty.copy_from(&[1, 2, 3]).unwrap_err().to_string();
        assert!(text.contains("is 3, must be 0, the buffer's length"), "{text}");
        let text = DeviceBuffer::<u64>::zeroed(usize::MAX / 2).unwrap_err().to_string();
        assert!(text.contains("2^63") && text.contains("elements of 8 bytes"), "{text}");
    }
}
