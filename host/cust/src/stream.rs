//! Streams: queues of work the device runs in order.

use std::fmt;

use cudarc::driver::sys;

use crate::context::Context;
use crate::driver::call;
use crate::error::CudaResult;
use crate::event::Event;

/// How a stream relates to the default stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamFlags(u32);

impl StreamFlags {
    /// Waits for the default stream and is waited for by it.
    pub const DEFAULT: Self = Self(sys::CUstream_flags_enum::CU_STREAM_DEFAULT as u32);
    /// Independent of the default stream. What a measurement wants.
    pub const NON_BLOCKING: Self = Self(sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32);
}

/// A queue of work on the device of the context it was made in. Dropping it does not wait: work
/// already queued still runs.
pub struct Stream {
    raw: sys::CUstream,
    context: Context,
}

// SAFETY: the driver's streams may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver synchronises concurrent calls itself.
unsafe impl Sync for Stream {}

impl Stream {
    /// Makes a stream in this thread's context. A lower priority number runs earlier; `None` is 0,
    /// the default; the driver clamps what is out of range.
    ///
    /// # Errors
    /// [`crate::CudaError::NoContext`], or what the driver says.
    pub fn new(flags: StreamFlags, priority: Option<i32>) -> CudaResult<Self> {
        let context = Context::current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a live local; the flags are the driver's own.
        unsafe { call!(cuStreamCreateWithPriority(&mut raw, flags.0, priority.unwrap_or(0))) }?;
        Ok(Self { raw, context })
    }

    /// Waits until all work queued so far is done.
    ///
    /// # Errors
    /// What the driver says, including failures of that work.
    pub fn synchronize(&self) -> CudaResult<()> {
        self.context.bind()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { call!(cuStreamSynchronize(self.raw)) }
    }

    /// Makes work queued from now on wait for an event; the host does not wait.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait_event(&self, event: &Event) -> CudaResult<()> {
        self.context.bind()?;
        // SAFETY: both handles live as long as their borrows; 0 is the default flag.
        unsafe { call!(cuStreamWaitEvent(self.raw, event.as_raw(), 0)) }
    }

    /// The context the stream was made in.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The driver's handle, for vendor libraries. Valid while `self` lives.
    pub fn as_raw(&self) -> sys::CUstream {
        self.raw
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.raw).finish()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: made by `new`, destroyed once. An error leaves nothing to do.
        let _ = unsafe { call!(cuStreamDestroy_v2(self.raw)) };
    }
}
