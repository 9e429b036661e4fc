//! Peers: the vendor's libraries, measured beside the kernels of this crate.
//!
//! Nothing here is linked. A library is looked for and loaded when it is asked for, and whatever keeps it
//! from taking part (it is not installed, lacks a function, refuses a shape) is a [`PeerError`] of one line.
//! Peers work in the context and on the stream of a [`CudaDevice`], so that the events that time the
//! kernels of this crate time them too.
//!
//! | module | what it holds |
//! |---|---|
//! | [`library`] | [`Search`]: where shared libraries are looked for, and how they are opened |
//! | [`cublaslt`] | [`CublasLt`]: dense products, the fastest of the heuristic's proposals |
//! | [`cusparselt`] | [`CusparseLt`]: 2:4 products, as planned or after the library's search, and its compression |

pub mod cublaslt;
pub mod cusparselt;
pub mod library;

pub use cublaslt::CublasLt;
pub use cusparselt::CusparseLt;
pub use library::Search;

use crate::cuda::CudaDevice;
use crate::device::Device;
use crate::epilogue::Fused;
use crate::error::{Result, invalid};
use crate::matrix::{Matrix, Value};
use layout::activation::Activation;
use layout::instance::Dtype;
use std::ffi::{CStr, c_char, c_int};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a peer does not take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The library is nowhere that was looked.
    #[error(
        "{library} was not found (looked for {names} where the system's loader looks and in {folders} more folders)"
    )]
    Absent {
        /// The library.
        library: &'static str,
        /// The file names that were looked for.
        names: String,
        /// How many folders were searched besides.
        folders: usize,
    },

    /// It is there and the system's loader does not take it.
    #[error("{library}: {} cannot be loaded: {reason}", path.display())]
    Unloadable {
        /// The library.
        library: &'static str,
        /// The file.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },

    /// It lacks a function.
    #[error("{library}: {} has no {function}; version {needed} or newer is needed", path.display())]
    TooOld {
        /// The library.
        library: &'static str,
        /// The file.
        path: PathBuf,
        /// The function.
        function: &'static str,
        /// The oldest version that is known to have all functions.
        needed: &'static str,
    },

    /// A call failed, most often because the library does not do what was asked.
    #[error("{call}: {name} ({code})")]
    Refused {
        /// The library's function.
        call: &'static str,
        /// The status that it returned.
        code: i32,
        /// The status by name.
        name: String,
    },

    /// It has no way to do this.
    #[error("{library} has no {what}")]
    Unsupported {
        /// The library.
        library: &'static str,
        /// What was asked for.
        what: String,
    },

    /// The device is no GPU.
    #[error("peers need a GPU, {device} is none")]
    NoGpu {
        /// Name of the device.
        device: String,
    },
}

/// The form in which a peer fuses `fused`, or `None` where it has none: peers have no SiLU and no gates, of
/// GELU they have the tanh form alone, and a residual is not asked of them here.
pub fn fused_form(fused: Fused) -> Option<Fused> {
    if fused.residual || fused.gated {
        return None;
    }
    let activation = match fused.activation {
        Activation::Gelu => Activation::GeluTanh,
        Activation::Silu => return None,
        other => other,
    };
    Some(Fused { activation, ..fused })
}

/// The GPU that `device` is.
fn cuda(device: &dyn Device) -> Result<&CudaDevice> {
    let no_gpu = || PeerError::NoGpu { device: device.info().name.clone() };
    Ok(device.as_any().downcast_ref().ok_or_else(no_gpu)?)
}

/// `cudaDataType` of f32 (CUDA's library_types.h).
const CUDA_R_32F: c_int = 0;

/// `cudaDataType` of an element type.
const fn data_type(dtype: Dtype) -> c_int {
    match dtype {
        Dtype::F16 => 2,
        Dtype::Bf16 => 14,
    }
}

/// Extents and row strides of a product `Y[M,N] = X[M,K].W[N,K]^T`: what a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    m: usize,
    n: usize,
    k: usize,
    ldx: usize,
    ldy: usize,
}

/// What libraries may take the address of an operand to be a multiple of, in bytes (default of
/// `CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES` and its like).
const ALIGNMENT: u64 = 256;

impl Layout {
    /// Of operands on `device` that fit each other. `w` is `(N, K)`.
    fn of<T: Value>(
        device: &Arc<dyn Device>,
        x: &Matrix<T>,
        w: (usize, usize),
        y: &Matrix<T>,
    ) -> Result<Self> {
        let (m, (n, k)) = (x.rows(), w);
        let fits = |what: &str, rows: usize, cols: usize, matrix: &Matrix<T>| {
            if (matrix.rows(), matrix.cols()) != (rows, cols) {
                let value = format!("{} x {}", matrix.rows(), matrix.cols());
                return Err(invalid(
                    format!("extent of {what}"),
                    value,
                    format!("{rows} x {cols}"),
                ));
            }
            usable(device, what, matrix)
        };
        fits("X", m, k, x)?;
        fits("Y", m, n, y)?;
        Ok(Self { m, n, k, ldx: x.stride(), ldy: y.stride() })
    }

    /// That `other` is what the plan was made for.
    fn same(self, other: Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(invalid("layout of the operands", format!("{other:?}"), format!("{self:?}")))
    }
}

/// That a library on `device` can be given the address of `matrix`.
fn usable<T: Value>(device: &Arc<dyn Device>, what: &str, matrix: &Matrix<T>) -> Result<()> {
    if !Arc::ptr_eq(device, matrix.device()) {
        let of = |device: &Arc<dyn Device>| device.info().name.clone();
        let (value, limit) = (of(matrix.device()), format!("the peer's, {}", of(device)));
        return Err(invalid(format!("device of {what}"), value, limit));
    }
    if !matrix.address().is_multiple_of(ALIGNMENT) {
        let (value, limit) =
            (format!("{:#x}", matrix.address()), format!("a multiple of {ALIGNMENT}"));
        return Err(invalid(format!("address of {what}"), value, limit));
    }
    Ok(())
}

/// A vendor's status as a result. `describe` names it.
fn check(
    call: &'static str,
    code: c_int,
    describe: unsafe extern "C" fn(c_int) -> *const c_char,
) -> Result<(), PeerError> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the vendor's functions take any status and return a static string or null.
    let name = unsafe {
        let name = describe(code);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    let name = name.unwrap_or_else(|| "unknown status".to_owned());
    tracing::debug!(call, code, name, "a peer's call failed");
    Err(PeerError::Refused { call, code, name })
}

/// The three parts of a library's version, which `part` gives by number (`libraryPropertyType`).
fn version(mut part: impl FnMut(c_int, &mut c_int) -> c_int) -> String {
    let parts = [0, 1, 2].map(|number| {
        let mut value = 0;
        if part(number, &mut value) == 0 { value.to_string() } else { "?".to_owned() }
    });
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::EmulatedDevice;
    use half::f16;

    #[test]
    fn peers_have_gelu_as_tanh_and_no_silu() {
        let form = |text: &str| fused_form(text.parse().unwrap()).map(|fused| fused.to_string());
        assert_eq!(form("bias-gelu").as_deref(), Some("bias-gelu-tanh"));
        assert_eq!(form("gelu-tanh").as_deref(), Some("gelu-tanh"));
        assert_eq!(form("bias-relu").as_deref(), Some("bias-relu"));
        assert_eq!((form("silu"), form("bias-silu")), (None, None));
    }

    #[test]
    fn peers_need_a_gpu() {
        let device: Arc<dyn Device> = EmulatedDevice::open(1);
        let search = Search::new(Vec::new());
        let lines = [
            CublasLt::open(&search, &device).err().unwrap().to_string(),
            CusparseLt::open(&search, &device).err().unwrap().to_string(),
        ];
        let want = format!("peers need a GPU, {} is none", device.info().name);
        assert_eq!(lines, [want.clone(), want]);
    }

    #[test]
    fn operands_have_to_fit() {
        let device: Arc<dyn Device> = EmulatedDevice::open(1);
        let matrix = |rows, cols| Matrix::<f16>::poisoned(&device, rows, cols).unwrap();
        let (x, y) = (matrix(4, 128), matrix(4, 256));
        let of = |x: &Matrix<f16>, w, y: &Matrix<f16>| {
            Layout::of(&device, x, w, y).map_err(|e| e.to_string())
        };
        let layout = of(&x, (256, 128), &y).unwrap();
        assert_eq!(layout, Layout { m: 4, n: 256, k: 128, ldx: 128, ldy: 256 });
        let limit = |error: String, want: &str| assert!(error.ends_with(want), "{error}");
        limit(of(&x, (256, 64), &y).unwrap_err(), "extent of X is 4 x 128, must be 4 x 64");
        limit(of(&x, (128, 128), &y).unwrap_err(), "extent of Y is 4 x 256, must be 4 x 128");
        let shifted = matrix(5, 128).view(0, 1, 4, 120).unwrap();
        limit(of(&shifted, (256, 120), &y).unwrap_err(), "must be a multiple of 256");
        let strided = y.view(0, 0, 4, 128).unwrap();
        let other = of(&x, (128, 128), &strided).unwrap();
        assert!(layout.same(layout).is_ok() && layout.same(other).is_err());
        assert_eq!((other.n, other.ldy), (128, 256));
        let elsewhere: Arc<dyn Device> = EmulatedDevice::open(1);
        let error = Layout::of(&elsewhere, &x, (256, 128), &y).unwrap_err().to_string();
        assert!(error.contains("device of X"), "{error}");
    }

    #[test]
    fn a_status_is_named() {
        extern "C" fn name(code: c_int) -> *const c_char {
            if code == 7 { c"INVALID_VALUE".as_ptr() } else { std::ptr::null() }
        }
        assert!(check("f", 0, name).is_ok());
        assert_eq!(check("f", 7, name).unwrap_err().to_string(), "f: INVALID_VALUE (7)");
        assert_eq!(check("f", 8, name).unwrap_err().to_string(), "f: unknown status (8)");
    }

    #[test]
    fn a_version_has_three_parts() {
        let of = |parts: [c_int; 3]| {
            version(|number, value| {
                *value = parts[number as usize];
                c_int::from(number == 2 && parts[2] < 0)
            })
        };
        assert_eq!(of([13, 1, 0]), "13.1.0");
        assert_eq!(of([0, 8, -1]), "0.8.?");
    }
}
