//! A safe, small layer over the CUDA driver: devices, contexts, modules compiled from PTX with the
//! compiler's log in the error, kernel launches (clusters included), streams, events, device
//! memory and tensor maps.
//!
//! It carries the names and call shapes of Rust-CUDA's `cust`, so a Rust-CUDA user should feel at
//! home, but is not that crate: the published `cust` 0.3.2 (2022) refuses to build without a CUDA
//! install, links `libcuda` so that a binary cannot start without a driver, never raises dynamic
//! shared memory over 48 KiB, and has neither cluster launches nor tensor maps. Here the driver is
//! loaded at run time through `cudarc`'s raw bindings. A missing driver is
//! [`CudaError::NoDriver`], a driver too old for a function is [`CudaError::MissingSymbol`];
//! nothing panics and nothing is printed.
//!
//! ```no_run
//! use cust::prelude::*;
//!
//! # fn main() -> CudaResult<()> {
//! # let ptx = "";
//! let _context = cust::quick_init()?;
//! let module = Module::from_ptx(ptx, &[])?;
//! let scale = module.get_function("scale")?;
//! let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
//! let x = DeviceBuffer::from_slice(&[1.0f32; 1024])?;
//! // SAFETY: `scale` takes (pointer to 1024 floats, f32, u32) and touches nothing else.
//! unsafe { launch!(scale<<<8, 128, 0, stream>>>(x.as_device_ptr(), 2.0f32, 1024u32))? };
//! stream.synchronize()?;
//! let y = x.as_host_vec()?;
//! # Ok(()) }
//! ```
//!
//! Map of modules, in the order a program meets them:
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | [`CudaError`], the one error type |
//! | [`device`] | [`Device`](device::Device): count, name, memory, attributes |
//! | [`context`] | [`Context`](context::Context): the primary context, current per thread |
//! | [`module`] | [`Module`](module::Module): PTX in, functions out, JIT logs |
//! | [`function`] | [`Function`](function::Function): attributes, shared memory, occupancy, launches |
//! | [`mod@launch`] | [`LaunchConfig`](launch::LaunchConfig) (checked in `config`), [`launch!`] |
//! | [`stream`], [`event`] | queues of work, points in them, and times between those |
//! | [`memory`] | [`DeviceBuffer`](memory::DeviceBuffer) (in `buffer`), [`DevicePointer`](memory::DevicePointer) |
//! | [`tensor_map`] | [`TensorMap`](tensor_map::TensorMap), what TMA copies are described by (choices in `tensor_types`) |
//! | `driver` | the one way to the driver: looks for the library and symbol before each first call |
//!
//! Streams, buffers, modules and events belong to the context that is current on the thread that
//! makes them, keep it alive, and may then be used and dropped on any thread.

mod buffer;
mod config;
mod driver;
mod tensor_types;

pub mod context;
pub mod device;
pub mod error;
pub mod event;
pub mod function;
pub mod launch;
pub mod memory;
pub mod module;
pub mod stream;
pub mod tensor_map;

pub use driver::{CudaApiVersion, driver_present};
pub use error::{CudaError, CudaResult};

/// What a program usually needs, in one `use`.
pub mod prelude {
    pub use crate::context::Context;
    pub use crate::device::{Device, DeviceAttribute};
    pub use crate::error::{CudaError, CudaResult};
    pub use crate::event::{Event, EventFlags, EventStatus};
    pub use crate::function::{BlockSize, Function, GridSize};
    pub use crate::launch;
    pub use crate::launch::LaunchConfig;
    pub use crate::memory::{DeviceBuffer, DeviceCopy, DevicePointer};
    pub use crate::module::Module;
    pub use crate::stream::{Stream, StreamFlags};
    pub use crate::tensor_map::{TensorMap, TensorMapBuilder};
}

/// Loads and initialises the driver. May be called any number of times, from any thread.
///
/// # Errors
/// [`CudaError::NoDriver`] without a driver library, [`CudaError::NoDevice`] with a driver and no
/// GPU, otherwise what `cuInit` says.
pub fn init() -> CudaResult<()> {
    // SAFETY: cuInit takes no pointers; its only defined flag value is 0.
    unsafe { driver::call!(cuInit(0)) }
}

/// Initialises the driver and makes the primary context of device 0 current on this thread.
///
/// # Errors
/// Those of [`init`] and [`context::Context::new`].
pub fn quick_init() -> CudaResult<context::Context> {
    init()?;
    context::Context::new(device::Device::get_device(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_everything_is_an_ordinary_error() {
        if driver_present() {
            return;
        }
        assert_eq!(quick_init().err(), Some(CudaError::NoDriver));
        assert_eq!(init(), Err(CudaError::NoDriver));
        assert_eq!(device::Device::num_devices(), Err(CudaError::NoDriver));
        assert_eq!(CudaApiVersion::get(), Err(CudaError::NoDriver));
        assert_eq!(module::Module::from_ptx("", &[]).err(), Some(CudaError::NoDriver));
        assert_eq!(
            stream::Stream::new(stream::StreamFlags::NON_BLOCKING, None).err(),
            Some(CudaError::NoDriver)
        );
        assert_eq!(memory::DeviceBuffer::from_slice(&[1u8]).err(), Some(CudaError::NoDriver));
        assert!(CudaError::NoDriver.to_string().contains("no CUDA driver"));
    }
}
