//! The error type. A message names what was asked, the value and the limit, so that a user can act
//! on it without the source.

/// Result of everything in this crate that can fail.
pub type CudaResult<T> = Result<T, CudaError>;

/// Why a CUDA operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// No driver library on this machine, or only the stub that toolkits ship for linking.
    #[error("no CUDA driver: libcuda.so.1 could not be loaded; install an NVIDIA driver")]
    NoDriver,

    /// The driver is there and sees no GPU.
    #[error("no CUDA device: the driver sees no GPU (check nvidia-smi and CUDA_VISIBLE_DEVICES)")]
    NoDevice,

    /// This thread has no current context, so there is nothing to allocate or load into.
    #[error(
        "no current CUDA context on this thread: call cust::quick_init() or Context::set_current() first"
    )]
    NoContext,

    /// The installed driver lacks a function this operation needs; a newer one has it.
    #[error("the CUDA driver has no {name}: it is too old for this operation; update it")]
    MissingSymbol {
        /// The driver function.
        name: &'static str,
    },

    /// A driver call failed. Failures of earlier asynchronous work may surface in a later call.
    #[error("{call} failed: {name} ({code}): {message}")]
    Driver {
        /// The driver function that reported it.
        call: &'static str,
        /// The `CUresult` value.
        code: u32,
        /// Its name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// The driver's own description.
        message: String,
    },

    /// The driver could not compile or link a module's PTX.
    #[error("loading PTX failed: {name} ({code}): {message}{}", indented(log))]
    Jit {
        /// The `CUresult` value.
        code: u32,
        /// Its name, such as `CUDA_ERROR_INVALID_PTX`.
        name: String,
        /// The driver's own description.
        message: String,
        /// What the driver's PTX compiler said, with line numbers of the PTX; may be empty.
        log: String,
        /// Its other messages; may be empty.
        info: String,
    },

    /// An argument is outside what the hardware or the driver documents; nothing was called.
    #[error("invalid argument: {what} is {value}, must be {limit}")]
    InvalidArgument {
        /// The argument, with its unit.
        what: String,
        /// Its value.
        value: String,
        /// What it must be: completes "must be ...".
        limit: String,
    },

    /// Device memory is exhausted.
    #[error(
        "out of device memory: {requested} bytes requested, {free} bytes free of {total} bytes"
    )]
    OutOfMemory {
        /// Size of the failed allocation in bytes.
        requested: u64,
        /// Free device memory in bytes after the failure; 0 if the driver would not say.
        free: u64,
        /// All device memory in bytes; 0 if the driver would not say.
        total: u64,
    },
}

/// Shorthand for [`CudaError::InvalidArgument`].
pub(crate) fn invalid(
    what: impl Into<String>,
    value: impl ToString,
    limit: impl Into<String>,
) -> CudaError {
    CudaError::InvalidArgument { what: what.into(), value: value.to_string(), limit: limit.into() }
}

/// The compiler's log below the message, or nothing.
fn indented(log: &str) -> String {
    log.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_values_and_limits() {
        let text = invalid("grid y (blocks)", 70_000, "at most 65535").to_string();
        assert_eq!(text, "invalid argument: grid y (blocks) is 70000, must be at most 65535");
        let text = CudaError::OutOfMemory { requested: 1 << 40, free: 7, total: 9 }.to_string();
        assert!(text.contains("1099511627776") && text.contains("7 bytes free of 9 bytes"));
        let text = CudaError::MissingSymbol { name: "cuLaunchKernelEx" }.to_string();
        assert!(text.contains("cuLaunchKernelEx") && text.contains("too old"));
    }

    #[test]
    fn the_jit_log_is_in_the_message() {
        let error = CudaError::Jit {
            code: 218,
            name: "CUDA_ERROR_INVALID_PTX".into(),
            message: "a PTX JIT compilation failed".into(),
            log: "ptxas application ptx input, line 3; fatal: Missing .version\n\n".into(),
            info: String::new(),
        };
        let text = error.to_string();
        assert!(text.contains("CUDA_ERROR_INVALID_PTX (218)"));
        assert!(
            text.ends_with("\n    ptxas application ptx input, line 3; fatal: Missing .version")
        );
    }
}
