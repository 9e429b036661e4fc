//! Kernels: what they use and what they may use. [`mod@crate::launch`] queues them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute};

use crate::config::LaunchConfig;
pub use crate::config::{BlockSize, GridSize};
use crate::context::Context;
use crate::driver::{call, has_symbol};
use crate::error::{CudaResult, invalid};
use crate::module;

/// What the driver's compiler made of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FunctionAttributes {
    /// Registers of 32 bits per thread.
    pub num_regs: u32,
    /// Local memory per thread in bytes: spills and indexed arrays. 0 in a good GEMM kernel.
    pub local_bytes: u32,
    /// Static shared memory per block in bytes.
    pub static_shared_bytes: u32,
    /// Dynamic shared memory a launch may ask for in bytes.
    pub max_dynamic_shared_bytes: u32,
    /// Constant memory in bytes.
    pub const_bytes: u32,
    /// Threads a block may have, which registers may make fewer than the device's.
    pub max_threads_per_block: u32,
    /// PTX version times 10: 80 is 8.0.
    pub ptx_version: u32,
    /// Architecture it was compiled for, times 10: 90 is `sm_90`.
    pub binary_version: u32,
}

/// A kernel of a loaded module, which it keeps loaded. Clones share it.
#[derive(Clone)]
pub struct Function {
    inner: Arc<Inner>,
}

struct Inner {
    raw: sys::CUfunction,
    name: String,
    max_threads: u32,
    /// The largest dynamic shared size known to be allowed, in bytes.
    max_dynamic_shared: AtomicU32,
    /// Sizes in bytes of the first parameters, as many as were asked for.
    parameters: Mutex<Vec<usize>>,
    module: Arc<module::Inner>,
}

// SAFETY: the driver's functions may be used from any thread; the rest is plain data.
unsafe impl Send for Inner {}
// SAFETY: as above; the driver synchronises concurrent calls itself.
unsafe impl Sync for Inner {}

impl Function {
    /// Wraps a handle that belongs to the module.
    pub(crate) fn new(
        raw: sys::CUfunction,
        name: &str,
        module: Arc<module::Inner>,
    ) -> CudaResult<Self> {
        let max_threads = attribute(raw, Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
        let dynamic = attribute(raw, Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?;
        Ok(Self {
            inner: Arc::new(Inner {
                raw,
                name: name.to_owned(),
                max_threads,
                max_dynamic_shared: AtomicU32::new(dynamic),
                parameters: Mutex::default(),
                module,
            }),
        })
    }

    /// The entry name it was asked for by.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The context of the function's module.
    pub(crate) fn context(&self) -> &Context {
        &self.inner.module.context
    }

    /// The driver's handle. Valid while `self` lives.
    pub fn as_raw(&self) -> sys::CUfunction {
        self.inner.raw
    }

    /// Registers, memory and limits.
    ///
    /// # Errors
    /// What the driver says.
    pub fn attributes(&self) -> CudaResult<FunctionAttributes> {
        self.inner.module.context.bind()?;
        let get = |key| attribute(self.inner.raw, key);
        Ok(FunctionAttributes {
            num_regs: get(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: get(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            static_shared_bytes: get(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            max_dynamic_shared_bytes: get(
                Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            )?,
            const_bytes: get(Attribute::CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES)?,
            max_threads_per_block: get(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            ptx_version: get(Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION)?,
            binary_version: get(Attribute::CU_FUNC_ATTRIBUTE_BINARY_VERSION)?,
        })
    }

    /// Lets launches ask for up to so many bytes of dynamic shared memory; needed over 48 KiB less
    /// the static part. Never lowers what was allowed.
    ///
    /// # Errors
    /// [`crate::CudaError::InvalidArgument`] where static and dynamic together pass the device's
    /// limit, or what the driver says.
    pub fn set_max_dynamic_shared(&self, bytes: u32) -> CudaResult<()> {
        let context = &self.inner.module.context;
        context.bind()?;
        let fixed = attribute(self.inner.raw, Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
        let limit = context.limits().max_shared_per_block.saturating_sub(fixed);
        shared_within(
            &self.inner.name,
            bytes,
            limit,
            "what this device has beside the static part",
        )?;
        if bytes <= self.allowed_dynamic_shared()? {
            return Ok(());
        }
        let key = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function lives; the value was checked and fits an int.
        unsafe { call!(cuFuncSetAttribute(self.inner.raw, key, bytes as i32)) }?;
        self.inner.max_dynamic_shared.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Blocks of so many threads and bytes of dynamic shared memory that run at once on one
    /// multiprocessor. 0 means a launch cannot work.
    ///
    /// # Errors
    /// [`crate::CudaError::InvalidArgument`] for a block over 2^31 threads, or what the driver
    /// says.
    pub fn max_active_blocks_per_multiprocessor(
        &self,
        block: impl Into<BlockSize>,
        shared_bytes: usize,
    ) -> CudaResult<u32> {
        self.inner.module.context.bind()?;
        let threads = LaunchConfig::new(1, block).threads();
        let threads_int = i32::try_from(threads)
            .map_err(|_| invalid("block size (threads)", threads, "less than 2^31"))?;
        let mut blocks = 0;
        // SAFETY: the pointer is to a live local; the function lives.
        unsafe {
            call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut blocks,
                self.inner.raw,
                threads_int,
                shared_bytes,
            ))
        }?;
        Ok(blocks.max(0) as u32)
    }

    /// Checks that the kernel's first parameters have the sizes of `arguments` (bytes), and that there
    /// are not more arguments; a driver before CUDA 12.4 does not tell, and nothing is checked.
    ///
    /// Asking for one past the last is the driver's only way to tell their number, and an error to
    /// tools that watch its calls (compute-sanitizer), so a launch with too few is not noticed.
    pub(crate) fn check_arguments(&self, arguments: &[usize]) -> CudaResult<()> {
        let mut known = self.inner.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < arguments.len() {
            self.context().bind()?;
            if !grow(&mut known, self.inner.raw, arguments.len()) {
                return Ok(());
            }
        }
        arguments_match(&self.inner.name, arguments, &known)
    }

    /// Checks a launch against device and function, with the function's context current after it.
    pub(crate) fn check(&self, config: &LaunchConfig) -> CudaResult<()> {
        let inner = &*self.inner;
        inner.module.context.bind()?;
        config.validate(inner.module.context.limits())?;
        let (threads, most) = (config.threads(), inner.max_threads);
        if threads > u64::from(most) {
            let what = format!("block size (threads) of `{}`", inner.name);
            return Err(invalid(
                what,
                threads,
                format!("at most {most}, by its registers or bounds"),
            ));
        }
        // The usual case takes no driver call.
        if config.shared_bytes <= inner.max_dynamic_shared.load(Ordering::Relaxed) {
            return Ok(());
        }
        let allowed = self.allowed_dynamic_shared()?;
        shared_within(&inner.name, config.shared_bytes, allowed, "see set_max_dynamic_shared")
    }

    /// Asks the driver, as another `Function` of the same kernel may have raised the limit.
    fn allowed_dynamic_shared(&self) -> CudaResult<u32> {
        let key = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let allowed = attribute(self.inner.raw, key)?;
        self.inner.max_dynamic_shared.store(allowed, Ordering::Relaxed);
        Ok(allowed)
    }
}

/// A dynamic shared size against a limit and the reason for that.
fn shared_within(function: &str, bytes: u32, limit: u32, why: &str) -> CudaResult<()> {
    if bytes <= limit {
        return Ok(());
    }
    let what = format!("dynamic shared memory of `{function}` (bytes)");
    Err(invalid(what, bytes, format!("at most {limit} ({why})")))
}

/// One attribute of a function whose context is current.
fn attribute(function: sys::CUfunction, key: Attribute) -> CudaResult<u32> {
    let mut value = 0;
    // SAFETY: the pointer is to a live local; callers hold the function's module.
    unsafe { call!(cuFuncGetAttribute(&mut value, key, function)) }?;
    Ok(value.max(0) as u32)
}

/// Asks for the sizes of parameters until `wanted` are known or there are no more. `false` where the
/// driver cannot tell.
fn grow(known: &mut Vec<usize>, function: sys::CUfunction, wanted: usize) -> bool {
    if !has_symbol("cuFuncGetParamInfo") {
        return false;
    }
    while known.len() < wanted {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the symbol exists, both pointers are to live locals, callers hold the module.
        match unsafe { sys::cuFuncGetParamInfo(function, known.len(), &mut offset, &mut size) } {
            sys::CUresult::CUDA_SUCCESS => known.push(size),
            sys::CUresult::CUDA_ERROR_INVALID_VALUE => break,
            _ => return false,
        }
    }
    true
}

/// Each argument has the size of its parameter, and there is a parameter for each.
fn arguments_match(function: &str, arguments: &[usize], parameters: &[usize]) -> CudaResult<()> {
    if arguments.len() > parameters.len() {
        let what = format!("number of arguments of `{function}`");
        return Err(invalid(what, arguments.len(), parameters.len().to_string()));
    }
    for (index, (argument, parameter)) in arguments.iter().zip(parameters).enumerate() {
        if argument != parameter {
            let what = format!("size of argument {index} of `{function}` (bytes)");
            return Err(invalid(what, argument, parameter.to_string()));
        }
    }
    Ok(())
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.inner.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted_and_measured() {
        arguments_match("f", &[8, 4], &[8, 4]).unwrap();
        let text = arguments_match("f", &[8, 4], &[8]).unwrap_err().to_string();
        assert!(text.contains("arguments of `f` is 2, must be 1"), "{text}");
        let text = arguments_match("f", &[8, 4], &[8, 8]).unwrap_err().to_string();
        assert!(text.contains("argument 1 of `f` (bytes) is 4, must be 8"), "{text}");
    }

    #[test]
    fn shared_memory_messages_name_the_way_out() {
        shared_within("gemm", 49152, 49152, "").unwrap();
        let text = shared_within("gemm", 200_000, 49152, "see set_max_dynamic_shared")
            .unwrap_err()
            .to_string();
        let expected = "dynamic shared memory of `gemm` (bytes) is 200000, must be at most 49152 \
                        (see set_max_dynamic_shared)";
        assert!(text.ends_with(expected), "{text}");
    }
}
