//! The only way to the driver. `cudarc` panics where the library or a symbol is missing, so every
//! call goes through [`call!`], which looks first and turns results into errors.
//!
//! `cudarc` takes results as a Rust enum, so a result code younger than its bindings (CUDA 13.0)
//! is outside its range. It offers no other form: keep the `cuda-*` feature recent.

use std::ffi::CStr;
use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::sys;

use crate::error::{CudaError, CudaResult};

/// Whether a CUDA driver library can be loaded. Looked up once; says nothing about GPUs.
pub fn driver_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| {
        // SAFETY: loads the system's driver library by its well-known names; its constructors are as
        // trustworthy as the driver itself.
        unsafe {
            // `cudarc` looks for the library by loading and unloading it, and later loads it again. Kept
            // loaded, it is loaded once.
            if let Ok(library) = libloading::Library::new("libcuda.so.1") {
                std::mem::forget(library);
            }
            sys::is_culib_present()
        }
    })
}

/// Whether the driver exports a function.
pub(crate) fn has_symbol(name: &str) -> bool {
    driver_present() && {
        // SAFETY: `culib` panics only without a library, excluded above; the symbol is looked up
        // and never called through this type.
        unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok() }
    }
}

/// `call!(cuName(args))`: an unsafe expression of type `CudaResult<()>`.
///
/// The look-up of the symbol happens once per call site. The caller's `unsafe` block covers the
/// driver's requirements on the arguments.
macro_rules! call {
    ($name:ident($($arg:expr),* $(,)?)) => {{
        static PRESENT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        if *PRESENT.get_or_init(|| $crate::driver::has_symbol(stringify!($name))) {
            $crate::driver::check(stringify!($name), cudarc::driver::sys::$name($($arg),*))
        } else {
            Err($crate::driver::missing(stringify!($name)))
        }
    }};
}
pub(crate) use call;

/// The error for a function that cannot be called at all.
pub(crate) fn missing(name: &'static str) -> CudaError {
    if driver_present() { CudaError::MissingSymbol { name } } else { CudaError::NoDriver }
}

/// A driver result as a Rust result.
pub(crate) fn check(call: &'static str, result: sys::CUresult) -> CudaResult<()> {
    match result {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoDevice),
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => Err(CudaError::NoDriver),
        other => {
            let (name, message) = describe(other);
            Err(CudaError::Driver { call, code: other as u32, name, message })
        }
    }
}

/// The driver's name and description of a result code.
fn describe(result: sys::CUresult) -> (String, String) {
    let mut name = std::ptr::null();
    let mut text = std::ptr::null();
    if has_symbol("cuGetErrorName") && has_symbol("cuGetErrorString") {
        // SAFETY: both symbols exist, both pointers are to live locals; the driver writes the
        // address of a static string or null. Failure leaves null, which is handled below.
        unsafe {
            let _ = sys::cuGetErrorName(result, &mut name);
            let _ = sys::cuGetErrorString(result, &mut text);
        }
    }
    let owned = |string: *const std::ffi::c_char| {
        (!string.is_null())
            // SAFETY: not null, so a NUL-terminated string of static lifetime.
            .then(|| unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned())
    };
    (
        owned(name).unwrap_or_else(|| format!("{result:?}")),
        owned(text).unwrap_or_else(|| "no description".into()),
    )
}

/// The newest CUDA version the installed driver supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaApiVersion {
    major: u32,
    minor: u32,
}

impl CudaApiVersion {
    /// Asks the driver. Needs no context.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`], or what `cuDriverGetVersion` says.
    pub fn get() -> CudaResult<Self> {
        let mut raw = 0;
        // SAFETY: the pointer is to a live local.
        unsafe { call!(cuDriverGetVersion(&mut raw)) }?;
        Ok(Self::from_raw(raw))
    }

    /// The driver encodes 12.4 as 12040.
    fn from_raw(raw: i32) -> Self {
        let raw = raw.max(0) as u32;
        Self { major: raw / 1000, minor: raw % 1000 / 10 }
    }

    /// The 12 of 12.4.
    pub fn major(self) -> u32 {
        self.major
    }

    /// The 4 of 12.4.
    pub fn minor(self) -> u32 {
        self.minor
    }
}

impl fmt::Display for CudaApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_decode() {
        assert_eq!(CudaApiVersion::from_raw(12040).to_string(), "12.4");
        assert_eq!(CudaApiVersion::from_raw(13000).to_string(), "13.0");
        assert!(CudaApiVersion::from_raw(12080) < CudaApiVersion::from_raw(13000));
    }

    #[test]
    fn results_become_errors() {
        use sys::CUresult as R;
        assert_eq!(check("cuInit", R::CUDA_SUCCESS), Ok(()));
        assert_eq!(check("cuInit", R::CUDA_ERROR_NO_DEVICE), Err(CudaError::NoDevice));
        assert_eq!(check("cuInit", R::CUDA_ERROR_STUB_LIBRARY), Err(CudaError::NoDriver));
        let text = check("cuStreamSynchronize", R::CUDA_ERROR_ILLEGAL_ADDRESS).unwrap_err();
        assert!(text.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{text}");
    }

    #[test]
    fn unknown_symbols_are_seen() {
        assert!(!has_symbol("cuNoSuchFunctionEver"));
        let expected = if driver_present() {
            CudaError::MissingSymbol { name: "cuNoSuch" }
        } else {
            CudaError::NoDriver
        };
        assert_eq!(missing("cuNoSuch"), expected);
    }
}
