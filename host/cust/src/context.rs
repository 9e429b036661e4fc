//! The primary context of a device, and which one this thread uses.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::device::Device;
use crate::driver::{CudaApiVersion, call, driver_present};
use crate::error::{CudaError, CudaResult};
use crate::launch::LaunchLimits;

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// A share of a device's primary context, the one the CUDA runtime and its libraries use too.
///
/// Clones share it. It is released when the last clone, the last resource made in it, and the last
/// thread that has it current are gone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    raw: sys::CUcontext,
    device: Device,
    limits: LaunchLimits,
}

// SAFETY: the driver's contexts may be used from any thread; the rest of the struct is plain data.
unsafe impl Send for Inner {}
// SAFETY: as above; the driver synchronises concurrent calls itself.
unsafe impl Sync for Inner {}

impl Context {
    /// Retains the device's primary context and makes it current on this thread.
    ///
    /// # Errors
    /// Those of [`crate::init`], or what the driver says (out of memory, device in exclusive use).
    pub fn new(device: Device) -> CudaResult<Self> {
        crate::init()?;
        let limits = LaunchLimits::of(device)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a live local; the handle comes from the driver.
        unsafe { call!(cuDevicePrimaryCtxRetain(&mut raw, device.as_raw())) }?;
        let context = Self { inner: Arc::new(Inner { raw, device, limits }) };
        context.set_current()?;
        Ok(context)
    }

    /// The context that was last made current on this thread.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`], or [`CudaError::NoContext`] where none was made current.
    pub fn current() -> CudaResult<Self> {
        match CURRENT.try_with(|current| current.borrow().clone()) {
            Ok(Some(context)) => {
                context.bind()?;
                Ok(context)
            }
            _ if !driver_present() => Err(CudaError::NoDriver),
            _ => Err(CudaError::NoContext),
        }
    }

    /// Makes this context the one in which this thread creates streams, buffers and modules.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_current(&self) -> CudaResult<()> {
        self.bind()?;
        // A thread on its way out has no slot any more, and needs none. The old context is dropped
        // outside the borrow: its release is a driver call.
        let _old = CURRENT.try_with(|current| current.replace(Some(self.clone())));
        Ok(())
    }

    /// Tells the driver which context the calls that follow are about. Cheap when nothing changes,
    /// and never assumed: a vendor library may have changed it.
    pub(crate) fn bind(&self) -> CudaResult<()> {
        // SAFETY: the context is retained for as long as `self` lives.
        unsafe { call!(cuCtxSetCurrent(self.inner.raw)) }
    }

    /// Waits until all work of all streams in this context is done.
    ///
    /// # Errors
    /// What the driver says, including failures of that work.
    pub fn synchronize(&self) -> CudaResult<()> {
        self.bind()?;
        // SAFETY: takes no arguments.
        unsafe { call!(cuCtxSynchronize()) }
    }

    /// Device memory in bytes: (free, total).
    ///
    /// # Errors
    /// What the driver says.
    pub fn mem_info(&self) -> CudaResult<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to live locals.
        unsafe { call!(cuMemGetInfo_v2(&mut free, &mut total)) }?;
        Ok((free as u64, total as u64))
    }

    /// The newest CUDA version the driver supports.
    ///
    /// # Errors
    /// What the driver says.
    pub fn driver_version(&self) -> CudaResult<CudaApiVersion> {
        CudaApiVersion::get()
    }

    /// The device this is the primary context of.
    pub fn device(&self) -> Device {
        self.inner.device
    }

    /// What a launch on this device may ask for.
    pub fn limits(&self) -> &LaunchLimits {
        &self.inner.limits
    }

    /// The driver's handle, for vendor libraries. Valid while `self` lives.
    pub fn as_raw(&self) -> sys::CUcontext {
        self.inner.raw
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.inner.raw == other.inner.raw
    }
}

impl Eq for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("device", &self.inner.device).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: balances the retain in `Context::new`. An error here (a process on its way out)
        // leaves nothing to do.
        let _ = unsafe { call!(cuDevicePrimaryCtxRelease_v2(self.device.as_raw())) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Context>();
        crosses::<crate::stream::Stream>();
        crosses::<crate::event::Event>();
        crosses::<crate::module::Module>();
        crosses::<crate::function::Function>();
        crosses::<crate::memory::DeviceBuffer<f32>>();
    }

    #[test]
    fn no_context_on_a_fresh_thread() {
        let error = std::thread::spawn(|| Context::current().err()).join().unwrap();
        let expected = if driver_present() { CudaError::NoContext } else { CudaError::NoDriver };
        assert_eq!(error, Some(expected));
    }
}
