//! Queueing kernels: arguments, the calls, and [`launch!`].

use std::ffi::c_void;
use std::marker::PhantomData;

use cudarc::driver::sys;
use smallvec::SmallVec;

pub use crate::config::{LaunchConfig, LaunchLimits};
use crate::driver::call;
use crate::error::{CudaResult, invalid};
use crate::function::Function;
use crate::memory::DeviceCopy;
use crate::stream::Stream;

/// Something of each argument. A launch of few arguments allocates nothing.
type Arguments<T> = SmallVec<[T; 8]>;

/// One kernel argument: where its bytes are and how many.
#[derive(Debug, Clone, Copy)]
pub struct Arg<'a> {
    pointer: *const c_void,
    bytes: usize,
    borrow: PhantomData<&'a ()>,
}

impl<'a> Arg<'a> {
    /// An argument of a type the device can read.
    pub fn new<T: DeviceCopy>(value: &'a T) -> Self {
        let pointer = std::ptr::from_ref(value).cast();
        Self { pointer, bytes: size_of::<T>(), borrow: PhantomData }
    }

    /// An argument from its bytes, in the device's (little-endian) order.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self { pointer: bytes.as_ptr().cast(), bytes: bytes.len(), borrow: PhantomData }
    }

    /// As `cuLaunchKernel` takes it: it reads through the pointer and never writes.
    pub(crate) fn as_param(&self) -> *mut c_void {
        self.pointer.cast_mut()
    }
}

impl Function {
    /// Queues the kernel; `params` point to the values of the parameters, in order.
    ///
    /// # Errors
    /// [`crate::CudaError::InvalidArgument`] naming the value and the limit,
    /// [`crate::CudaError::MissingSymbol`] for clusters on a driver without, or what the driver
    /// says. Failures while the kernel runs surface in later calls.
    ///
    /// # Safety
    /// There must be one pointer per parameter, readable for the parameter's size. What the kernel
    /// does with them must be sound: device pointers stay allocated until it has run, it stays in
    /// bounds, and nothing else touches what it writes meanwhile.
    pub unsafe fn launch_raw(
        &self,
        stream: &Stream,
        config: &LaunchConfig,
        params: &mut [*mut c_void],
    ) -> CudaResult<()> {
        self.check(config)?;
        if stream.context() != self.context() {
            let (given, own) = (stream.context().device(), self.context().device());
            let limit = format!("{}, the function's device", own.ordinal());
            return Err(invalid("device ordinal of the stream", given.ordinal(), limit));
        }
        let Some(cluster) = config.cluster else {
            let ((gx, gy, gz), (bx, by, bz)) = (config.grid, config.block);
            // SAFETY: function and stream live, the shape was checked; the caller answers for the
            // parameters.
            return unsafe {
                call!(cuLaunchKernel(
                    self.as_raw(),
                    gx,
                    gy,
                    gz,
                    bx,
                    by,
                    bz,
                    config.shared_bytes,
                    stream.as_raw(),
                    params.as_mut_ptr(),
                    std::ptr::null_mut(),
                ))
            };
        };
        let mut attribute = cluster_attribute(cluster);
        let raw = raw_config(config, stream.as_raw(), &mut attribute);
        let params = params.as_mut_ptr();
        // SAFETY: as above; the configuration and its attribute are live locals.
        unsafe { call!(cuLaunchKernelEx(&raw, self.as_raw(), params, std::ptr::null_mut())) }
    }

    /// Queues the kernel with checked arguments: their sizes must be the kernel's, and there must
    /// not be more (where the driver tells, from CUDA 12.4). What [`launch!`](crate::launch!) calls.
    ///
    /// # Errors
    /// Those of [`Function::launch_raw`], and [`crate::CudaError::InvalidArgument`] for arguments
    /// of the wrong number or size.
    ///
    /// # Safety
    /// The arguments must be of the kernel's types, and what it does with them must be sound: see
    /// [`Function::launch_raw`].
    pub unsafe fn launch_args(
        &self,
        stream: &Stream,
        config: &LaunchConfig,
        args: &[Arg<'_>],
    ) -> CudaResult<()> {
        let sizes: Arguments<_> = args.iter().map(|arg| arg.bytes).collect();
        self.check_arguments(&sizes)?;
        let mut params: Arguments<_> = args.iter().map(Arg::as_param).collect();
        // SAFETY: each argument is borrowed through the call, which copies it; the caller answers
        // for their types and for the kernel.
        unsafe { self.launch_raw(stream, config, &mut params) }
    }

    /// [`Function::launch_args`] with each argument as its bytes, in the device's (little-endian)
    /// order.
    ///
    /// # Errors
    /// Those of [`Function::launch_args`].
    ///
    /// # Safety
    /// As for [`Function::launch_args`].
    pub unsafe fn launch_bytes(
        &self,
        stream: &Stream,
        config: &LaunchConfig,
        params: &[&[u8]],
    ) -> CudaResult<()> {
        let args: Arguments<_> = params.iter().map(|bytes| Arg::from_bytes(bytes)).collect();
        // SAFETY: the same promise, made by the caller.
        unsafe { self.launch_args(stream, config, &args) }
    }

    /// Clusters of this launch that the whole device runs at once. 0 means it cannot work.
    ///
    /// # Errors
    /// As for a launch with this configuration.
    pub fn max_active_clusters(&self, config: &LaunchConfig) -> CudaResult<u32> {
        self.check(config)?;
        let mut clusters = 0;
        let mut attribute = cluster_attribute(config.cluster.unwrap_or((1, 1, 1)));
        let raw = raw_config(config, std::ptr::null_mut(), &mut attribute);
        // SAFETY: all pointers are to live locals; the function lives.
        unsafe { call!(cuOccupancyMaxActiveClusters(&mut clusters, self.as_raw(), &raw)) }?;
        Ok(clusters.max(0) as u32)
    }
}

/// The launch attribute that asks for clusters.
fn cluster_attribute((x, y, z): (u32, u32, u32)) -> sys::CUlaunchAttribute {
    sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue {
            clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z },
        },
    }
}

/// The driver's form of a launch with one attribute, which must outlive the result.
fn raw_config(
    config: &LaunchConfig,
    stream: sys::CUstream,
    attribute: &mut sys::CUlaunchAttribute,
) -> sys::CUlaunchConfig {
    sys::CUlaunchConfig {
        gridDimX: config.grid.0,
        gridDimY: config.grid.1,
        gridDimZ: config.grid.2,
        blockDimX: config.block.0,
        blockDimY: config.block.1,
        blockDimZ: config.block.2,
        sharedMemBytes: config.shared_bytes,
        hStream: stream,
        attrs: attribute,
        numAttrs: 1,
    }
}

/// Queues a kernel: `unsafe { launch!(function<<<grid, block, shared_bytes, stream>>>(a, b))? }`.
///
/// As in Rust-CUDA, `grid` and `block` are a `u32`, a pair or a triple, and arguments are values
/// of [`DeviceCopy`](crate::memory::DeviceCopy) types: numbers, device pointers, plain structs. A
/// fifth item in the brackets, in parentheses, is the cluster:
/// `launch!(f<<<(8, 4), 128, 0, stream, (2, 1, 1)>>>(a))`. `function` and `stream` are names or
/// parenthesised expressions. Returns `CudaResult<()>`; does not wait for the kernel.
///
/// The whole is unsafe, as [`Function::launch_args`](crate::function::Function::launch_args) is.
#[macro_export]
macro_rules! launch {
    ($function:tt <<<$grid:expr, $block:expr, $shared:expr, $stream:tt>>>($($arg:expr),* $(,)?)) => {
        ($function).launch_args(
            &$stream,
            &$crate::launch::LaunchConfig::new($grid, $block).shared_bytes($shared),
            &[$($crate::launch::Arg::new(&$arg)),*],
        )
    };
    ($function:tt <<<$grid:expr, $block:expr, $shared:expr, $stream:tt, $cluster:tt>>>($($arg:expr),* $(,)?)) => {
        ($function).launch_args(
            &$stream,
            &$crate::launch::LaunchConfig::new($grid, $block)
                .shared_bytes($shared)
                .cluster($cluster),
            &[$($crate::launch::Arg::new(&$arg)),*],
        )
    };
}
pub use launch;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::hopper;
    use crate::function::{BlockSize, GridSize};

    #[test]
    fn clusters_are_encoded() {
        let mut attribute = cluster_attribute((2, 1, 4));
        let config = LaunchConfig::new((4, 1, 8), 128).cluster((2, 1, 4)).shared_bytes(5);
        let raw = raw_config(&config, std::ptr::null_mut(), &mut attribute);
        assert_eq!((raw.gridDimX, raw.gridDimZ, raw.blockDimX, raw.sharedMemBytes), (4, 8, 128, 5));
        assert_eq!(raw.numAttrs, 1);
        // SAFETY: `cluster_attribute` wrote this field.
        let dims = unsafe { attribute.value.clusterDim };
        assert_eq!((dims.x, dims.y, dims.z), (2, 1, 4));
    }

    /// Stands in for a function: the macro only needs the method.
    struct Recorder(std::cell::RefCell<Vec<(LaunchConfig, usize)>>);

    impl Recorder {
        fn launch_args(&self, _: &(), config: &LaunchConfig, args: &[Arg<'_>]) -> CudaResult<()> {
            config.validate(&hopper())?;
            self.0.borrow_mut().push((*config, args.iter().map(|arg| arg.bytes).sum()));
            Ok(())
        }
    }

    #[test]
    fn the_macro_takes_rust_cuda_shapes() -> CudaResult<()> {
        let function = Recorder(Default::default());
        let stream = ();
        let grid = GridSize::from((4, 2));
        launch!(function<<<grid, 128, 64, stream>>>(1u64, 2.0f32, half::f16::ONE))?;
        launch!(function<<<(4, 2), (32, 4), 0, stream, (2, 1, 1)>>>())?;
        launch!((&function)<<<1, BlockSize::from(32), 1 << 3, (stream)>>>([0u8; 3],))?;
        let calls = function.0.into_inner();
        assert_eq!(calls[0], (LaunchConfig::new((4, 2), 128).shared_bytes(64), 14));
        assert_eq!(calls[1].0.cluster, Some((2, 1, 1)));
        assert_eq!((calls[2].0.shared_bytes, calls[2].1), (8, 3));
        Ok(())
    }
}
