//! cuSPARSELt: products with a 2:4 sparse W, and its compression.
//!
//! W is the structured operand A, row-major `[N, K]`; X is B, row-major `[M, K]`, transposed; D is
//! `N x M` in column order, which is Y row-major. bias belongs to D's rows, one for each feature.
//!
//! Signatures and enumerators are those of cusparseLt.h of version 0.8 (wheel nvidia-cusparselt-cu13 0.8.0),
//! unchanged in 0.10. The order of calls is NVIDIA's sample `cuSPARSELt/matmul` in CUDALibrarySamples.

mod plan;

pub use plan::{Compressed, Plan};

use super::library::{Search, functions};
use super::{Layout, PeerError, check, cuda, data_type, usable, version};
use crate::device::Device;
use crate::error::Result;
use crate::matrix::{Matrix, Value};
use layout::activation::Activation;
use reference::Element;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const NAMES: [&str; 1] = ["libcusparseLt.so.0"];
/// Oldest version with all functions and these enumerators.
const NEEDED: &str = "0.8";

const CUSPARSE_COMPUTE_32F: c_int = 2;
const CUSPARSE_OPERATION_NON_TRANSPOSE: c_int = 0;
const CUSPARSE_OPERATION_TRANSPOSE: c_int = 1;
const CUSPARSE_ORDER_COL: c_int = 1;
const CUSPARSE_ORDER_ROW: c_int = 2;
const SPARSITY_50_PERCENT: c_int = 0;
const MATMUL_ACTIVATION_RELU: c_int = 0;
const MATMUL_ACTIVATION_GELU: c_int = 3;
const MATMUL_BIAS_POINTER: c_int = 8;
const MATMUL_ALG_DEFAULT: c_int = 0;
/// The alignment that descriptors are told of, in bytes.
const ALIGNMENT: u32 = 16;

/// Any of the library's structures: 512 bytes in 0.8, 11024 in versions before it. Boxed, because the ones
/// that are made later keep pointers to the ones before.
#[repr(C, align(16))]
struct Opaque([u8; 16 << 10]);

impl Opaque {
    fn new() -> Box<Self> {
        Box::new(Self([0; 16 << 10]))
    }
}

type Mut = *mut Opaque;
type Ref = *const Opaque;

functions! {
    struct Functions {
        cusparseLtInit(Mut) -> c_int;
        cusparseLtDestroy(Ref) -> c_int;
        cusparseLtGetProperty(c_int, *mut c_int) -> c_int;
        cusparseLtGetErrorName(c_int) -> *const c_char;
        cusparseLtDenseDescriptorInit(Ref, Mut, i64, i64, i64, u32, c_int, c_int) -> c_int;
        cusparseLtStructuredDescriptorInit(Ref, Mut, i64, i64, i64, u32, c_int, c_int, c_int) -> c_int;
        cusparseLtMatDescriptorDestroy(Ref) -> c_int;
        cusparseLtMatmulDescriptorInit(Ref, Mut, c_int, c_int, Ref, Ref, Ref, Ref, c_int) -> c_int;
        cusparseLtMatmulDescSetAttribute(Ref, Mut, c_int, *const c_void, usize) -> c_int;
        cusparseLtMatmulAlgSelectionInit(Ref, Mut, Ref, c_int) -> c_int;
        cusparseLtMatmulAlgSelectionDestroy(Ref) -> c_int;
        cusparseLtMatmulPlanInit(Ref, Mut, Ref, Ref) -> c_int;
        cusparseLtMatmulPlanDestroy(Ref) -> c_int;
        cusparseLtMatmulGetWorkspace(Ref, Ref, *mut usize) -> c_int;
        cusparseLtMatmul(
            Ref, Ref, *const c_void, *const c_void, *const c_void, *const c_void, *const c_void, *mut c_void,
            *mut c_void, *mut *mut c_void, i32,
        ) -> c_int;
        cusparseLtMatmulSearch(
            Ref, Mut, *const c_void, *const c_void, *const c_void, *const c_void, *const c_void, *mut c_void,
            *mut c_void, *mut *mut c_void, i32,
        ) -> c_int;
        cusparseLtSpMMACompressedSize(Ref, Ref, *mut usize, *mut usize) -> c_int;
        cusparseLtSpMMACompress(Ref, Ref, *const c_void, *mut c_void, *mut c_void, *mut c_void) -> c_int;
    }
}

/// The library, started on a GPU.
pub struct CusparseLt {
    functions: Functions,
    handle: Box<Opaque>,
    device: Arc<dyn Device>,
    stream: *mut c_void,
    version: String,
}

/// `call!(library, function(arguments))`: the function's status as a result.
macro_rules! call {
    ($functions:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let functions = &$functions;
        check(
            stringify!($function),
            (functions.$function)($($argument),*),
            functions.cusparseLtGetErrorName,
        )
    }};
}
use call;

impl CusparseLt {
    /// Finds the library, loads it and starts it on `device`, where its work joins the device's stream.
    ///
    /// # Errors
    /// [`PeerError`] where there is no such library, it is too old or does not start, or `device` is no GPU.
    pub fn open(search: &Search, device: &Arc<dyn Device>) -> Result<Rc<Self>> {
        let gpu = cuda(&**device)?;
        gpu.context().set_current().map_err(crate::Error::from)?;
        let stream = gpu.stream().as_raw().cast();
        search.open("cuSPARSELt", &NAMES, |library, path: &Path| {
            let functions = Functions::load(library).map_err(|function| {
                let path = path.to_owned();
                PeerError::TooOld { library: "cuSPARSELt", path, function, needed: NEEDED }
            })?;
            let mut handle = Opaque::new();
            // SAFETY: the structure has room for what the library writes; a context is current.
            unsafe { call!(functions, cusparseLtInit(&mut *handle)) }?;
            // SAFETY: the pointer is to a live local.
            let version =
                version(|part, value| unsafe { (functions.cusparseLtGetProperty)(part, value) });
            Ok(Rc::new(Self { functions, handle, device: Arc::clone(device), stream, version }))
        })
    }

    /// Its version, such as `0.8.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Waits for all work on the GPU, of whatever stream: the library may queue some of it elsewhere than on
    /// the device's stream.
    ///
    /// # Errors
    /// Failures of that work.
    pub fn synchronize(&self) -> Result<()> {
        Ok(cuda(&*self.device)?.context().synchronize()?)
    }

    /// Plans `Y = act(X.W^T + bias)` for a W of `n` rows, as the library does by default. X and Y are
    /// samples of the operands to come.
    ///
    /// # Errors
    /// [`PeerError`] where the library has no such epilogue or refuses the product; operands that do not fit
    /// each other.
    pub fn plan<T: Element + Value>(
        self: &Rc<Self>,
        x: &Matrix<T>,
        y: &Matrix<T>,
        bias: Option<&Matrix<T>>,
        activation: Activation,
    ) -> Result<Plan<T>> {
        let layout = Layout::of(&self.device, x, (y.cols(), x.cols()), y)?;
        let fused = match activation {
            Activation::None => None,
            Activation::Relu => Some(MATMUL_ACTIVATION_RELU),
            Activation::GeluTanh => Some(MATMUL_ACTIVATION_GELU),
            Activation::Gelu | Activation::Silu => return Err(no_epilogue::<T>(activation).into()),
        };
        let bias = bias.map(|bias| bias.view(0, 0, 1, layout.n)).transpose()?;
        let w = self.matrix::<T>(true, layout.n, layout.k, layout.k, CUSPARSE_ORDER_ROW)?;
        let x = self.matrix::<T>(false, layout.m, layout.k, layout.ldx, CUSPARSE_ORDER_ROW)?;
        let y = self.matrix::<T>(false, layout.n, layout.m, layout.ldy, CUSPARSE_ORDER_COL)?;
        let mut operation = self.operation(&w, &x, &y, bias.as_ref())?;

        if let Some(attribute) = fused {
            // GELU is for 8-bit types alone (release notes of 0.2.0), at least up to 0.10.
            let refused = |_| no_epilogue::<T>(activation);
            self.set(&mut operation, attribute, 1 as c_int).map_err(refused)?;
        }

        let handle: Ref = &*self.handle;
        let mut selection = Opaque::new();
        // SAFETY: the structures have room for what the library writes, and what they refer to lives in boxes
        // that the plan keeps.
        unsafe {
            call!(
                self.functions,
                cusparseLtMatmulAlgSelectionInit(
                    handle,
                    &mut *selection,
                    &*operation,
                    MATMUL_ALG_DEFAULT
                )
            )
        }?;
        let destroy = self.functions.cusparseLtMatmulAlgSelectionDestroy;
        let selection = Object { raw: selection, destroy };
        let mut plan = Opaque::new();
        // SAFETY: as above.
        unsafe {
            call!(
                self.functions,
                cusparseLtMatmulPlanInit(handle, &mut *plan, &*operation, &*selection.raw)
            )
        }?;
        let plan = Object { raw: plan, destroy: self.functions.cusparseLtMatmulPlanDestroy };
        let mut plan = Plan {
            plan,
            _selection: selection,
            _operation: operation,
            _matrices: [w, x, y],
            layout,
            identity: Rc::default(),
            searched: false,
            workspace: self.device.allocate(0)?,
            library: Rc::clone(self),
            _bias: bias,
        };
        plan.allocate_workspace()?;
        Ok(plan)
    }

    /// A matrix, sparse or dense; of row-major ones `stride` lies between rows, of others between columns.
    fn matrix<T: Element>(
        &self,
        sparse: bool,
        rows: usize,
        cols: usize,
        stride: usize,
        order: c_int,
    ) -> Result<Object> {
        let (handle, dtype): (Ref, _) = (&*self.handle, data_type(T::DTYPE));
        let (rows, cols, stride) = (rows as i64, cols as i64, stride as i64);
        let mut raw = Opaque::new();
        let out: Mut = &mut *raw;
        // SAFETY: the structure has room for what the library writes.
        unsafe {
            match sparse {
                true => call!(
                    self.functions,
                    cusparseLtStructuredDescriptorInit(
                        handle,
                        out,
                        rows,
                        cols,
                        stride,
                        ALIGNMENT,
                        dtype,
                        order,
                        SPARSITY_50_PERCENT,
                    )
                ),
                false => call!(
                    self.functions,
                    cusparseLtDenseDescriptorInit(
                        handle, out, rows, cols, stride, ALIGNMENT, dtype, order
                    )
                ),
            }
        }?;
        Ok(Object { raw, destroy: self.functions.cusparseLtMatDescriptorDestroy })
    }

    /// The operation with its bias, which has to outlive its use.
    fn operation<T: Value>(
        &self,
        w: &Object,
        x: &Object,
        y: &Object,
        bias: Option<&Matrix<T>>,
    ) -> Result<Box<Opaque>> {
        let handle: Ref = &*self.handle;
        let mut operation = Opaque::new();
        // SAFETY: the structure has room for what the library writes; the matrices live.
        unsafe {
            call!(
                self.functions,
                cusparseLtMatmulDescriptorInit(
                    handle,
                    &mut *operation,
                    CUSPARSE_OPERATION_NON_TRANSPOSE,
                    CUSPARSE_OPERATION_TRANSPOSE,
                    &*w.raw,
                    &*x.raw,
                    &*y.raw,
                    &*y.raw,
                    CUSPARSE_COMPUTE_32F,
                )
            )
        }?;
        if let Some(bias) = bias {
            usable(&self.device, "bias", bias)?;
            self.set(&mut operation, MATMUL_BIAS_POINTER, bias.address())?;
        }
        Ok(operation)
    }

    /// Sets an attribute of an operation.
    fn set<V: Copy>(
        &self,
        operation: &mut Opaque,
        attribute: c_int,
        value: V,
    ) -> Result<(), PeerError> {
        let (handle, value): (Ref, _) = (&*self.handle, &raw const value);
        // SAFETY: the operation is initialised; the library copies the value, which is of the attribute's type.
        unsafe {
            call!(
                self.functions,
                cusparseLtMatmulDescSetAttribute(
                    handle,
                    operation,
                    attribute,
                    value.cast(),
                    size_of::<V>()
                )
            )
        }
    }
}

fn no_epilogue<T: Element>(activation: Activation) -> PeerError {
    let what = format!("{activation:?} for {:?}", T::DTYPE);
    PeerError::Unsupported { library: "cuSPARSELt", what }
}

impl Drop for CusparseLt {
    fn drop(&mut self) {
        let _ = self.device.synchronize();
        // SAFETY: made by `open`, destroyed once. A status leaves nothing to do.
        unsafe { (self.functions.cusparseLtDestroy)(&*self.handle) };
    }
}

/// One of the library's structures that has to be destroyed.
struct Object {
    raw: Box<Opaque>,
    destroy: unsafe extern "C" fn(Ref) -> c_int,
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: made by the library, destroyed once. A status leaves nothing to do.
        unsafe { (self.destroy)(&*self.raw) };
    }
}
