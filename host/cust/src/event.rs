//! Events: points in a stream, and the time between two of them.

use std::fmt;
use std::time::Duration;

use cudarc::driver::sys;

use crate::context::Context;
use crate::driver::{call, check, has_symbol, missing};
use crate::error::{CudaError, CudaResult};
use crate::stream::Stream;

/// What an event keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventFlags(u32);

impl EventFlags {
    /// With a time stamp (about half a microsecond resolution).
    pub const DEFAULT: Self = Self(sys::CUevent_flags_enum::CU_EVENT_DEFAULT as u32);
    /// Without a time stamp: cheaper, and useless for [`Event::elapsed_ms`].
    pub const DISABLE_TIMING: Self = Self(sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32);
}

/// Whether the device has reached an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventStatus {
    /// All work before it is done, or it was never recorded.
    Ready,
    /// Work before it is still running.
    NotReady,
}

/// A point in a stream.
pub struct Event {
    raw: sys::CUevent,
    context: Context,
}

// SAFETY: the driver's events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above; the driver synchronises concurrent calls itself.
unsafe impl Sync for Event {}

impl Event {
    /// Makes an event in this thread's context.
    ///
    /// # Errors
    /// [`CudaError::NoContext`], or what the driver says.
    pub fn new(flags: EventFlags) -> CudaResult<Self> {
        let context = Context::current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a live local; the flags are the driver's own.
        unsafe { call!(cuEventCreate(&mut raw, flags.0)) }?;
        Ok(Self { raw, context })
    }

    /// Moves the event to the end of what is queued in the stream now.
    ///
    /// # Errors
    /// What the driver says.
    pub fn record(&self, stream: &Stream) -> CudaResult<()> {
        self.context.bind()?;
        // SAFETY: both handles live as long as their borrows.
        unsafe { call!(cuEventRecord(self.raw, stream.as_raw())) }
    }

    /// Whether the device has got there, without waiting.
    ///
    /// # Errors
    /// What the driver says, including failures of the work before it.
    pub fn query(&self) -> CudaResult<EventStatus> {
        self.context.bind()?;
        // SAFETY: the event lives as long as `self`.
        match unsafe { call!(cuEventQuery(self.raw)) } {
            Ok(()) => Ok(EventStatus::Ready),
            Err(CudaError::Driver { code, .. })
                if code == sys::CUresult::CUDA_ERROR_NOT_READY as u32 =>
            {
                Ok(EventStatus::NotReady)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the device gets there.
    ///
    /// # Errors
    /// What the driver says, including failures of the work before it.
    pub fn synchronize(&self) -> CudaResult<()> {
        self.context.bind()?;
        // SAFETY: the event lives as long as `self`.
        unsafe { call!(cuEventSynchronize(self.raw)) }
    }

    /// Milliseconds from `start` to this event. Both must be recorded and reached.
    ///
    /// # Errors
    /// What the driver says: `CUDA_ERROR_NOT_READY` before the device got there,
    /// `CUDA_ERROR_INVALID_HANDLE` for an event never recorded or made without timing.
    pub fn elapsed_ms(&self, start: &Self) -> CudaResult<f32> {
        self.context.bind()?;
        let mut ms = 0.0;
        if has_symbol("cuEventElapsedTime_v2") {
            // SAFETY: the pointer is to a live local, both events live as long as their borrows.
            unsafe { call!(cuEventElapsedTime_v2(&mut ms, start.raw, self.raw)) }?;
        } else {
            elapsed_v1(&mut ms, start.raw, self.raw)?;
        }
        Ok(ms)
    }

    /// [`Event::elapsed_ms`] under its Rust-CUDA name: milliseconds.
    ///
    /// # Errors
    /// Those of [`Event::elapsed_ms`].
    pub fn elapsed_time_f32(&self, start: &Self) -> CudaResult<f32> {
        self.elapsed_ms(start)
    }

    /// The time from `start` to this event.
    ///
    /// # Errors
    /// Those of [`Event::elapsed_ms`].
    pub fn elapsed(&self, start: &Self) -> CudaResult<Duration> {
        let seconds = f64::from(self.elapsed_ms(start)?) * 1e-3;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// The driver's handle. Valid while `self` lives.
    pub fn as_raw(&self) -> sys::CUevent {
        self.raw
    }
}

/// The first version of the call: drivers before CUDA 12.8 have no second, and `cudarc` binds only
/// the second.
fn elapsed_v1(ms: &mut f32, start: sys::CUevent, end: sys::CUevent) -> CudaResult<()> {
    type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    const NAME: &str = "cuEventElapsedTime";
    if !has_symbol(NAME) {
        return Err(missing(NAME));
    }
    // SAFETY: the library is present (it has the symbol), and the type is that of cuda.h.
    let result = unsafe { sys::culib().get::<Elapsed>(NAME.as_bytes()) };
    match result {
        // SAFETY: the pointer is to a live float, the events live in the caller.
        Ok(elapsed) => check(NAME, unsafe { elapsed(ms, start, end) }),
        Err(_) => Err(missing(NAME)),
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.raw).finish()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: made by `new`, destroyed once. An error leaves nothing to do.
        let _ = unsafe { call!(cuEventDestroy_v2(self.raw)) };
    }
}
