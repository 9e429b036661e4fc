//! cuBLASLt: dense products.
//!
//! cuBLASLt counts in columns. Row-major `Y[M,N] = X[M,K].W[N,K]^T` is column-major `D = A^T.B` with
//! `A = W` as `K x N`, `B = X` as `K x M` and `D = Y` as `N x M`; bias then belongs to D's rows, one for each
//! feature, as it should. Its GELU is the tanh form.
//!
//! Signatures, enumerators and the layout of `cublasLtMatmulHeuristicResult_t` are those of CUDA 13's
//! cublasLt.h, as `cudarc` 0.19 (`cublaslt::sys`) has them too.

mod plan;

pub use plan::Plan;

use super::library::{Search, functions};
use super::{CUDA_R_32F, Layout, PeerError, check, cuda, data_type, usable, version};
use crate::device::{Device, Memory};
use crate::error::Result;
use crate::matrix::{Matrix, Value};
use layout::activation::Activation;
use reference::Element;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

/// File names, newest first.
const NAMES: [&str; 2] = ["libcublasLt.so.13", "libcublasLt.so.12"];
/// Oldest version with all functions.
const NEEDED: &str = "12.0";
/// Memory for split sums, in bytes. NVIDIA recommends 32 MiB for Hopper (cuBLAS documentation,
/// `cublasSetWorkspace`); more cannot hurt it.
const WORKSPACE: u64 = 64 << 20;

const CUBLAS_COMPUTE_32F: c_int = 68;
const CUBLAS_OP_T: c_int = 1;
const MATMUL_DESC_TRANSA: c_int = 3;
const MATMUL_DESC_EPILOGUE: c_int = 7;
const MATMUL_DESC_BIAS_POINTER: c_int = 8;
const EPILOGUE_DEFAULT: c_int = 1;
const EPILOGUE_RELU: c_int = 2;
const EPILOGUE_BIAS: c_int = 4;
const EPILOGUE_GELU: c_int = 32;

/// `cublasLtMatmulAlgo_t`: an algorithm and its settings, opaque.
type Algorithm = [u64; 8];

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Proposal {
    algorithm: Algorithm,
    workspace_bytes: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

type Handle = *mut c_void;

functions! {
    struct Functions {
        cublasLtCreate(*mut Handle) -> c_int;
        cublasLtDestroy(Handle) -> c_int;
        cublasLtGetProperty(c_int, *mut c_int) -> c_int;
        cublasLtGetStatusName(c_int) -> *const c_char;
        cublasLtMatmulDescCreate(*mut Handle, c_int, c_int) -> c_int;
        cublasLtMatmulDescDestroy(Handle) -> c_int;
        cublasLtMatmulDescSetAttribute(Handle, c_int, *const c_void, usize) -> c_int;
        cublasLtMatrixLayoutCreate(*mut Handle, c_int, u64, u64, i64) -> c_int;
        cublasLtMatrixLayoutDestroy(Handle) -> c_int;
        cublasLtMatmulPreferenceCreate(*mut Handle) -> c_int;
        cublasLtMatmulPreferenceDestroy(Handle) -> c_int;
        cublasLtMatmulPreferenceSetAttribute(Handle, c_int, *const c_void, usize) -> c_int;
        cublasLtMatmulAlgoGetHeuristic(
            Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Proposal, *mut c_int,
        ) -> c_int;
        cublasLtMatmul(
            Handle, Handle, *const c_void, *const c_void, Handle, *const c_void, Handle, *const c_void,
            *const c_void, Handle, *mut c_void, Handle, *const Algorithm, *mut c_void, usize, *mut c_void,
        ) -> c_int;
    }
}

/// The library, started on a GPU.
pub struct CublasLt {
    functions: Functions,
    handle: Handle,
    device: Arc<dyn Device>,
    stream: *mut c_void,
    workspace: Arc<dyn Memory>,
    version: String,
}

/// `call!(library, function(arguments))`: the function's status as a result.
macro_rules! call {
    ($functions:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let functions = &$functions;
        check(
            stringify!($function),
            (functions.$function)($($argument),*),
            functions.cublasLtGetStatusName,
        )
    }};
}
use call;

/// The enumerator of an epilogue. They are bits: those of bias and activation together are both.
fn epilogue(bias: bool, activation: Activation) -> Result<c_int, PeerError> {
    let activation = match activation {
        Activation::None if bias => return Ok(EPILOGUE_BIAS),
        Activation::None => return Ok(EPILOGUE_DEFAULT),
        Activation::Relu => EPILOGUE_RELU,
        Activation::GeluTanh => EPILOGUE_GELU,
        Activation::Gelu | Activation::Silu => {
            let what = format!("{activation:?}");
            return Err(PeerError::Unsupported { library: "cuBLASLt", what });
        }
    };
    Ok(if bias { activation | EPILOGUE_BIAS } else { activation })
}

impl CublasLt {
    /// Finds the library, loads it and starts it on `device`, where its work joins the device's stream.
    ///
    /// # Errors
    /// [`PeerError`] where there is no such library, it is too old or does not start, or `device` is no GPU;
    /// out of memory.
    pub fn open(search: &Search, device: &Arc<dyn Device>) -> Result<Rc<Self>> {
        let gpu = cuda(&**device)?;
        gpu.context().set_current().map_err(crate::Error::from)?;
        let stream = gpu.stream().as_raw().cast();
        let workspace = device.allocate(WORKSPACE)?;
        search.open("cuBLASLt", &NAMES, |library, path: &Path| {
            let functions = Functions::load(library).map_err(|function| {
                let path = path.to_owned();
                PeerError::TooOld { library: "cuBLASLt", path, function, needed: NEEDED }
            })?;
            let mut handle = null_mut();
            // SAFETY: the pointer is to a live local; a context is current.
            unsafe { call!(functions, cublasLtCreate(&mut handle)) }?;
            // SAFETY: the pointer is to a live local.
            let version =
                version(|part, value| unsafe { (functions.cublasLtGetProperty)(part, value) });
            let (device, workspace) = (Arc::clone(device), Arc::clone(&workspace));
            Ok(Rc::new(Self { functions, handle, device, stream, workspace, version }))
        })
    }

    /// Its version, such as `13.1.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Plans `Y = act(X.W^T + bias)`: asks the heuristic for 16 algorithms, times them in turns on
    /// `operands` (sets of X, W and Y of the same layout), and keeps the one with the lowest median.
    ///
    /// # Errors
    /// [`PeerError`] where the library has no such epilogue or refuses the product; operands that do not fit
    /// each other.
    pub fn plan<T: Element + Value>(
        self: &Rc<Self>,
        operands: &mut [(&Matrix<T>, &Matrix<T>, &mut Matrix<T>)],
        bias: Option<&Matrix<T>>,
        activation: Activation,
    ) -> Result<Plan<T>> {
        let Some((x, w, y)) = operands.first() else {
            return Err(crate::error::invalid("sets of operands", 0, "at least 1"));
        };
        let layout = Layout::of(&self.device, x, (w.rows(), w.cols()), y)?;
        let epilogue = epilogue(bias.is_some(), activation)?;
        let bias = bias.map(|bias| bias.view(0, 0, 1, layout.n)).transpose()?;
        let mut plan = Plan {
            operation: self.operation(epilogue, bias.as_ref())?,
            w: self.layout::<T>(layout.k, layout.n, w.stride())?,
            x: self.layout::<T>(layout.k, layout.m, layout.ldx)?,
            y: self.layout::<T>(layout.n, layout.m, layout.ldy)?,
            algorithm: Algorithm::default(),
            layout,
            ldw: w.stride(),
            library: Rc::clone(self),
            _bias: bias,
        };
        plan.choose(operands)?;
        Ok(plan)
    }

    /// The operation with its epilogue; `bias` has to outlive its use.
    fn operation<T: Value>(
        self: &Rc<Self>,
        epilogue: c_int,
        bias: Option<&Matrix<T>>,
    ) -> Result<Object> {
        let functions = &self.functions;
        let mut raw = null_mut();
        // SAFETY: the pointer is to a live local.
        unsafe {
            call!(functions, cublasLtMatmulDescCreate(&mut raw, CUBLAS_COMPUTE_32F, CUDA_R_32F))
        }?;
        let operation = Object { raw, destroy: functions.cublasLtMatmulDescDestroy };
        let set = |attribute, value: *const c_void, bytes| {
            // SAFETY: `value` points to a live local of `bytes` bytes, which the library copies.
            unsafe {
                call!(functions, cublasLtMatmulDescSetAttribute(raw, attribute, value, bytes))
            }
        };
        let transposed = CUBLAS_OP_T;
        set(MATMUL_DESC_TRANSA, (&raw const transposed).cast(), size_of::<c_int>())?;
        set(MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), size_of::<c_int>())?;
        if let Some(bias) = bias {
            usable(&self.device, "bias", bias)?;
            let address = bias.address();
            set(MATMUL_DESC_BIAS_POINTER, (&raw const address).cast(), size_of::<u64>())?;
        }
        Ok(operation)
    }

    /// A column-major matrix.
    fn layout<T: Element>(&self, rows: usize, cols: usize, stride: usize) -> Result<Object> {
        let mut raw = null_mut();
        let (rows, cols, stride, dtype) =
            (rows as u64, cols as u64, stride as i64, data_type(T::DTYPE));
        // SAFETY: the pointer is to a live local.
        unsafe {
            call!(self.functions, cublasLtMatrixLayoutCreate(&mut raw, dtype, rows, cols, stride))
        }?;
        Ok(Object { raw, destroy: self.functions.cublasLtMatrixLayoutDestroy })
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        // What is queued may use the workspace. An error here surfaces in the next call.
        let _ = self.device.synchronize();
        // SAFETY: made by `open`, destroyed once. A status leaves nothing to do.
        unsafe { (self.functions.cublasLtDestroy)(self.handle) };
    }
}

/// One of the library's objects.
struct Object {
    raw: Handle,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: made by the library, destroyed once. A status leaves nothing to do.
        unsafe { (self.destroy)(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epilogues_have_the_numbers_of_the_header() {
        let of = |activation| [false, true].map(|bias| epilogue(bias, activation).ok());
        // DEFAULT and BIAS, RELU and RELU_BIAS, GELU and GELU_BIAS.
        assert_eq!(of(Activation::None), [Some(1), Some(4)]);
        assert_eq!(of(Activation::Relu), [Some(2), Some(6)]);
        assert_eq!(of(Activation::GeluTanh), [Some(32), Some(36)]);
        assert_eq!((of(Activation::Gelu), of(Activation::Silu)), ([None; 2], [None; 2]));
        let error = epilogue(true, Activation::Silu).unwrap_err().to_string();
        assert_eq!(error, "cuBLASLt has no Silu");
    }

    #[test]
    fn a_proposal_has_the_size_of_the_header() {
        assert_eq!((size_of::<Proposal>(), align_of::<Proposal>()), (64 + 8 + 4 + 4 + 16, 8));
    }
}
