//! Modules: PTX text that the driver compiles for the device when it is loaded.

use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{self, CUjit_option_enum as Jit};

use crate::context::Context;
use crate::driver::call;
use crate::error::{CudaError, CudaResult, invalid};
use crate::function::Function;
use crate::memory::DevicePointer;

/// Room for each of the compiler's two logs, in bytes. Longer logs are cut by the driver.
const LOG_BYTES: usize = 64 * 1024;

/// How hard the driver optimises. PTX from a compiler is only finished by this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum OptLevel {
    O0 = 0,
    O1 = 1,
    O2 = 2,
    O3 = 3,
    /// The driver's default.
    O4 = 4,
}

/// An option of the driver's PTX compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModuleJitOption {
    /// At most so many registers per thread.
    MaxRegisters(u32),
    /// How hard to optimise.
    OptLevel(OptLevel),
    /// Line numbers for profilers.
    GenerateLineInfo(bool),
    /// Debug information; turns optimisation off.
    GenerateDebugInfo(bool),
    /// Registers and spills of every function in [`Module::info_log`].
    LogVerbose(bool),
}

impl ModuleJitOption {
    /// Key and value as the driver wants them: numbers passed as pointers.
    fn raw(self) -> (sys::CUjit_option, usize) {
        match self {
            Self::MaxRegisters(count) => (Jit::CU_JIT_MAX_REGISTERS, count as usize),
            Self::OptLevel(level) => (Jit::CU_JIT_OPTIMIZATION_LEVEL, level as usize),
            Self::GenerateLineInfo(on) => (Jit::CU_JIT_GENERATE_LINE_INFO, usize::from(on)),
            Self::GenerateDebugInfo(on) => (Jit::CU_JIT_GENERATE_DEBUG_INFO, usize::from(on)),
            Self::LogVerbose(on) => (Jit::CU_JIT_LOG_VERBOSE, usize::from(on)),
        }
    }
}

/// A loaded module. Clones share it; it is unloaded with the last of them and of its functions.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

/// The handle that functions keep alive.
pub(crate) struct Inner {
    raw: sys::CUmodule,
    pub(crate) context: Context,
    load_time: Duration,
    info: String,
}

// SAFETY: the driver's modules may be used from any thread; the rest is plain data.
unsafe impl Send for Inner {}
// SAFETY: as above; the driver synchronises concurrent calls itself.
unsafe impl Sync for Inner {}

impl Module {
    /// Compiles and loads PTX in this thread's context. Large kernels take up to seconds unless the
    /// driver has them in its cache.
    ///
    /// # Errors
    /// [`CudaError::Jit`] with the compiler's log, [`CudaError::NoContext`],
    /// [`CudaError::InvalidArgument`] for a NUL byte in the text.
    pub fn from_ptx<T: AsRef<str>>(ptx: T, options: &[ModuleJitOption]) -> CudaResult<Self> {
        let context = Context::current()?;
        let ptx = ptx.as_ref();
        let text = CString::new(ptx).map_err(|error| {
            invalid(
                "PTX text",
                format!("cut by a NUL at byte {}", error.nul_position()),
                "free of NULs",
            )
        })?;
        let (mut info, mut log) = (vec![0u8; LOG_BYTES], vec![0u8; LOG_BYTES]);
        let (mut keys, mut values): (Vec<_>, Vec<_>) = [
            (Jit::CU_JIT_INFO_LOG_BUFFER, info.as_mut_ptr().expose_provenance()),
            (Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, LOG_BYTES),
            (Jit::CU_JIT_ERROR_LOG_BUFFER, log.as_mut_ptr().expose_provenance()),
            (Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, LOG_BYTES),
        ]
        .into_iter()
        .chain(options.iter().map(|option| option.raw()))
        .map(|(key, value)| (key, std::ptr::with_exposed_provenance_mut::<c_void>(value)))
        .unzip();
        let mut raw = std::ptr::null_mut();
        let started = Instant::now();
        // SAFETY: the text is NUL-terminated; keys and values are of the same length; the log
        // buffers have the sizes given and live through the call.
        let result = unsafe {
            call!(cuModuleLoadDataEx(
                &mut raw,
                text.as_ptr().cast(),
                keys.len() as u32,
                keys.as_mut_ptr(),
                values.as_mut_ptr(),
            ))
        };
        let load_time = started.elapsed();
        let info = until_nul(&info);
        result.map_err(|error| with_log(error, until_nul(&log), info.clone()))?;
        tracing::debug!(ptx_bytes = ptx.len(), seconds = load_time.as_secs_f64(), "module loaded");
        Ok(Self { inner: Arc::new(Inner { raw, context, load_time, info }) })
    }

    /// A kernel by its entry name.
    ///
    /// # Errors
    /// `CUDA_ERROR_NOT_FOUND` for a name the module lacks, [`CudaError::InvalidArgument`] for one
    /// that cannot be a name, or what the driver says.
    pub fn get_function<T: AsRef<str>>(&self, name: T) -> CudaResult<Function> {
        let name = name.as_ref();
        let symbol = symbol("function name", name)?;
        self.inner.context.bind()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a live local, the module lives, the name is NUL-terminated.
        unsafe { call!(cuModuleGetFunction(&mut raw, self.inner.raw, symbol.as_ptr())) }
            .map_err(|error| naming(error, name))?;
        Function::new(raw, name, Arc::clone(&self.inner))
    }

    /// The address and size in bytes of a global variable. Valid while the module is loaded.
    ///
    /// # Errors
    /// As for [`Module::get_function`].
    pub fn get_global<T: AsRef<str>>(&self, name: T) -> CudaResult<(DevicePointer<u8>, usize)> {
        let name = name.as_ref();
        let symbol = symbol("global name", name)?;
        self.inner.context.bind()?;
        let (mut raw, mut bytes) = (0, 0);
        // SAFETY: both pointers are to live locals, the module lives, the name is NUL-terminated.
        unsafe {
            call!(cuModuleGetGlobal_v2(&mut raw, &mut bytes, self.inner.raw, symbol.as_ptr()))
        }
        .map_err(|error| naming(error, name))?;
        Ok((DevicePointer::from_raw(raw), bytes))
    }

    /// How long the driver took to compile and load the module.
    pub fn load_time(&self) -> Duration {
        self.inner.load_time
    }

    /// What the PTX compiler said besides errors; see [`ModuleJitOption::LogVerbose`].
    pub fn info_log(&self) -> &str {
        &self.inner.info
    }
}

/// A C string from a name.
fn symbol(what: &str, name: &str) -> CudaResult<CString> {
    CString::new(name).map_err(|_| invalid(what, format!("{name:?}"), "free of NULs"))
}

/// The driver does not say which name it could not find.
fn naming(error: CudaError, symbol: &str) -> CudaError {
    match error {
        CudaError::Driver { call, code, name, message } => {
            CudaError::Driver { call, code, name, message: format!("{message} (`{symbol}`)") }
        }
        other => other,
    }
}

/// The text before the first NUL.
fn until_nul(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// A failed load with what the compiler said about it.
fn with_log(error: CudaError, log: String, info: String) -> CudaError {
    match error {
        CudaError::Driver { code, name, message, .. } => {
            CudaError::Jit { code, name, message, log, info }
        }
        other => other,
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.inner.raw).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: loaded once, unloaded once, and no function of it is left. An error leaves
        // nothing to do.
        let _ = unsafe { call!(cuModuleUnload(self.raw)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_end_at_the_nul() {
        assert_eq!(until_nul(b"ptxas fatal\0\0\0"), "ptxas fatal");
        assert_eq!(until_nul(b"\0"), "");
        assert_eq!(until_nul(b"cut"), "cut");
    }

    #[test]
    fn load_failures_carry_the_log() {
        let error = CudaError::Driver {
            call: "cuModuleLoadDataEx",
            code: 218,
            name: "CUDA_ERROR_INVALID_PTX".into(),
            message: "bad".into(),
        };
        let jit = with_log(error.clone(), "line 3".into(), String::new());
        assert!(matches!(&jit, CudaError::Jit { code: 218, log, .. } if log == "line 3"));
        assert_eq!(
            with_log(CudaError::NoDriver, String::new(), String::new()),
            CudaError::NoDriver
        );
        assert!(naming(error, "scale").to_string().ends_with("bad (`scale`)"));
    }

    #[test]
    fn options_encode() {
        let (key, value) = ModuleJitOption::OptLevel(OptLevel::O3).raw();
        assert_eq!((key, value), (Jit::CU_JIT_OPTIMIZATION_LEVEL, 3));
        assert_eq!(ModuleJitOption::MaxRegisters(168).raw().1, 168);
        assert!(symbol("function name", "a\0b").is_err());
    }
}
