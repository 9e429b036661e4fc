//! The product: checked, then launched.

use crate::autotune::Problem;
use crate::constants::Constants;
use crate::device::{Device, Launch, Memory};
use crate::epilogue::Epilogue;
use crate::error::{Error, Result, invalid};
use crate::heuristic;
use crate::hopper;
use crate::kernels;
use crate::matrix::{Matrix, OutputOf, Value};
use crate::packed::{PackedWeight, Storage};
use crate::ptx;
use crate::schedule::{Choice, Grid};
use layout::activation::Activation;
use layout::instance::{Dtype, Instance};
use layout::params::{
    ALIGNED_EPILOGUE, ALIGNED_STORE, ALIGNED_W, ALIGNED_X, COUNTERS, CompressParams, GemmParams,
    HopperParams, Output, TileParams, partial_slot,
};
use reference::Element;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

/// Largest M, N and K: indices of a row or a padded column are 32-bit in the kernels.
pub const MAX_EXTENT: usize = i32::MAX as usize - 63;

/// Largest row stride of X and of a dense W for a kernel that does not load them by tensor maps, in elements: it has
/// the bytes from row to row in 32 bits.
pub const MAX_STRIDE: usize = i32::MAX as usize;

/// W of a product.
#[derive(Clone, Copy)]
pub enum Weight<'a, T> {
    /// Dense, `[N, K]`.
    Dense(&'a Matrix<T>),
    /// 2:4 sparse.
    Sparse(&'a PackedWeight<T>),
}

impl<T: Element + Value> Weight<'_, T> {
    pub(crate) fn n(&self) -> usize {
        match self {
            Self::Dense(w) => w.rows(),
            Self::Sparse(w) => w.n(),
        }
    }

    pub(crate) fn k(&self) -> usize {
        match self {
            Self::Dense(w) => w.cols(),
            Self::Sparse(w) => w.k(),
        }
    }

    fn device(&self) -> &Arc<dyn Device> {
        match self {
            Self::Dense(w) => w.device(),
            Self::Sparse(w) => w.device(),
        }
    }

    fn span(&self) -> Range<u64> {
        match self {
            Self::Dense(w) => w.span(),
            Self::Sparse(w) => w.values().address()..w.values().address() + w.values().bytes(),
        }
    }

    /// Whether W is 2:4 sparse.
    pub fn is_sparse(&self) -> bool {
        matches!(self, Self::Sparse(_))
    }
}

/// A checked launch of one kernel on fixed operands, ready to repeat.
pub struct Plan<'a> {
    device: Arc<dyn Device>,
    choice: Choice,
    grid: u32,
    params: GemmParams,
    /// What a Hopper kernel takes in place of them.
    hopper: Option<Box<HopperParams>>,
    /// A sparse W, of which a Hopper kernel takes a copy.
    packed: Option<Arc<Storage>>,
    constants: Constants,
    /// Held for the launches: `params` names it.
    _workspace: Option<Arc<dyn Memory>>,
    operands: PhantomData<&'a ()>,
}

impl<'a> Plan<'a> {
    /// Plans `Y = act(alpha * X.W^T + beta * C + bias)`, gated and scaled as `epilogue` says, with the kernel
    /// and schedule of `choice`, or with those that [`heuristic`] picks. K may be 0, the product is then 0.
    ///
    /// # Errors
    /// Extents that do not match or exceed [`MAX_EXTENT`], an odd N of a gated product, row scales without an
    /// int8 Y, operands on different devices, a Y that overlaps an input (C may be Y itself where they have
    /// the same elements), a kernel of another type, that the device cannot run, or that does not take the
    /// strides ([`MAX_STRIDE`]).
    pub fn new<T: Element + Value, O: OutputOf<T>>(
        choice: Option<Choice>,
        x: &'a Matrix<T>,
        w: Weight<'a, T>,
        epilogue: &Epilogue<'a, T, O>,
        y: &'a mut Matrix<O>,
    ) -> Result<Self> {
        let (m, n, k) = (x.rows(), w.n(), w.k());
        check_shapes(x, &w, epilogue, y)?;
        check_memory(x, &w, epilogue, y)?;
        let device = Arc::clone(x.device());
        let choice = match choice {
            Some(choice) => choice,
            None => heuristic::select(&Problem::of(x, &w, epilogue, y), device.info())?,
        };
        let c = epilogue.c.filter(|_| epilogue.beta != 0.0);
        let (w_address, metadata, ldw) = match w {
            Weight::Dense(w) => (w.address(), 0, w.stride()),
            Weight::Sparse(w) => (w.values().address(), w.metadata().address(), w.stride()),
        };
        let params = GemmParams {
            x: x.address(),
            w: w_address,
            metadata,
            c: c.map_or(0, Matrix::address),
            bias: epilogue.bias.map_or(0, Matrix::address),
            y: y.address(),
            row_scale: epilogue.row_scale.map_or(0, Matrix::address),
            workspace: 0,
            counters: 0,
            ldx: x.stride() as u64,
            ldw: ldw as u64,
            ldc: c.map_or(0, Matrix::stride) as u64,
            ldy: y.stride() as u64,
            m: m as u32,
            n: n as u32,
            k: k as u32,
            alpha: epilogue.alpha,
            beta: c.map_or(0.0, |_| epilogue.beta),
            activation: epilogue.activation as u32,
            output: O::OUTPUT as u32,
            aligned: alignment(x, &w, epilogue, y),
            gated: epilogue.gated as u32,
            waves: 0,
            units: 0,
            band: 8,
        };
        let packed = match w {
            Weight::Dense(_) => None,
            Weight::Sparse(w) => Some(Arc::clone(w.storage())),
        };
        Self::scheduled(device, choice, packed, T::DTYPE, params)
    }

    /// The same product with another kernel or schedule.
    ///
    /// # Errors
    /// A kernel of another type or that the device cannot run; out of memory for its workspace.
    pub fn with_choice(&self, choice: Choice) -> Result<Self> {
        let (device, packed) = (Arc::clone(&self.device), self.packed.clone());
        Self::scheduled(device, choice, packed, self.choice.kernel.dtype, self.params)
    }

    /// Checks `choice` and works its schedule out. The other `params` are those of checked operands that
    /// live for `'a`.
    fn scheduled(
        device: Arc<dyn Device>,
        choice: Choice,
        packed: Option<Arc<Storage>>,
        dtype: Dtype,
        mut params: GemmParams,
    ) -> Result<Self> {
        let (kernel, sparse) = (choice.kernel, packed.is_some());
        let op = if sparse { "sparse" } else { "dense" };
        if kernel.family.is_sparse() != sparse || kernel.dtype != dtype {
            return Err(invalid("kernel", kernel.name, format!("{op} and of {dtype:?}")));
        }
        if let Some(reason) = kernels::obstacle(kernel, device.info()) {
            return Err(Error::NoKernel { op, dtype, device: device.info().name.clone(), reason });
        }
        if !kernel.family.is_hopper() {
            for (what, rows, stride) in [("X", params.m, params.ldx), ("W", params.n, params.ldw)] {
                if rows > 1 && stride > MAX_STRIDE as u64 {
                    let what = format!("row stride of {what} of {}", kernel.name);
                    return Err(invalid(what, stride, format!("at most {MAX_STRIDE}")));
                }
            }
        }
        let extents = (params.m as usize, params.n as usize, params.k as usize);
        let grid = choice.grid(extents.0, extents.1, extents.2, device.info())?;
        let workspace = match grid.units {
            0 => None,
            _ => Some(device.workspace(workspace_bytes(kernel, &grid))?),
        };
        (params.counters, params.workspace) = match &workspace {
            Some(memory) => (memory.address(), memory.address() + COUNTERS as u64 * 4),
            None => (0, 0),
        };
        (params.waves, params.units) = (grid.waves, grid.units);
        let hopper = match kernel.hopper() {
            Some(shape) => {
                let tiles = packed.as_deref().map(Storage::tiles).transpose()?;
                Some(Box::new(hopper::params(&*device, kernel, shape, &params, tiles.as_deref())?))
            }
            None => None,
        };
        let constants = match &hopper {
            Some(hopper) => Constants::of(&hopper.gemm, offset_of!(HopperParams, gemm)),
            None => Constants::of(&params, 0),
        };
        let (grid, operands) = (grid.blocks, PhantomData);
        let _workspace = workspace;
        Ok(Self { device, choice, grid, params, hopper, packed, constants, _workspace, operands })
    }

    /// The kernel it launches, and its schedule.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Queues the kernel. An empty Y needs none.
    ///
    /// # Errors
    /// What the device says of the launch. Failures while it runs surface in later calls.
    pub fn launch(&self) -> Result<()> {
        if self.grid == 0 {
            return Ok(());
        }
        // SAFETY: `new` checked extents, devices and overlap; the operands are borrowed for `'a`, and
        // their memory is freed only after the work queued before that.
        unsafe { self.device.launch(&self.description()) }
    }

    /// Gets the kernel ready, which the first launch does too.
    ///
    /// # Errors
    /// What the device says of the kernel's PTX.
    pub fn compile(&self) -> Result<()> {
        self.device.compile(&self.description())
    }

    /// The PTX that a driver compiles for it: the kernel alone, with what is the same for all launches compiled in.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`], if the build lost the kernel.
    pub fn ptx(&self) -> Result<String> {
        let name = self.choice.kernel.name;
        ptx::specialized(name, &self.constants)
            .ok_or_else(|| Error::UnknownKernel { name: name.to_owned() })
    }

    fn description(&self) -> Launch<'_> {
        Launch {
            entry: self.choice.kernel.name,
            grid: self.grid,
            block: self.choice.kernel.threads(),
            cluster: self.choice.kernel.cluster,
            shared_bytes: self.choice.kernel.shared_bytes(),
            params: match &self.hopper {
                Some(params) => param_bytes(&**params),
                None => param_bytes(&self.params),
            },
            constants: self.constants,
        }
    }
}

/// Computes `Y = act(alpha * X.W^T + beta * C + bias)` with the kernel that [`heuristic`] picks. Queued:
/// reading Y waits for it.
///
/// # Errors
/// As [`Plan::new`] and [`Plan::launch`].
pub fn gemm<T: Element + Value, O: OutputOf<T>>(
    x: &Matrix<T>,
    w: Weight<'_, T>,
    epilogue: &Epilogue<'_, T, O>,
    y: &mut Matrix<O>,
) -> Result<()> {
    Plan::new(None, x, w, epilogue, y)?.launch()
}

/// `act(X.W^T + bias)` in a new matrix: a linear layer.
///
/// # Errors
/// As [`gemm`], or out of memory.
pub fn linear<T: Element + Value + OutputOf<T>>(
    x: &Matrix<T>,
    w: Weight<'_, T>,
    bias: Option<&Matrix<T>>,
    activation: Activation,
) -> Result<Matrix<T>> {
    let mut y = Matrix::uninitialized(x.device(), x.rows(), w.n())?;
    gemm(x, w, &Epilogue { bias, activation, ..Default::default() }, &mut y)?;
    Ok(y)
}

/// Whether a Y of 16-byte alignment makes [`ALIGNED_STORE`].
pub(crate) fn stores(output: Output, gated: bool, residual: bool) -> bool {
    output == Output::Input && !gated && !residual
}

/// Which operands kernels may touch several elements at a time: the `ALIGNED_*` bits.
pub(crate) fn alignment<T: Element + Value, O: OutputOf<T>>(
    x: &Matrix<T>,
    w: &Weight<'_, T>,
    epilogue: &Epilogue<'_, T, O>,
    y: &Matrix<O>,
) -> u32 {
    let w_aligned = match w {
        Weight::Dense(w) => w.is_aligned(),
        Weight::Sparse(_) => true,
    };
    let epilogue_aligned = y.is_aligned_by_fours()
        && epilogue.c.filter(|_| epilogue.beta != 0.0).is_none_or(Matrix::is_aligned_by_fours)
        && epilogue.bias.is_none_or(|bias| bias.address().is_multiple_of(8));
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let residual = epilogue.c.is_some() && epilogue.beta != 0.0;
    let stored_whole = stores(O::OUTPUT, epilogue.gated, residual) && y.is_aligned();
    flag(x.is_aligned(), ALIGNED_X)
        | flag(w_aligned, ALIGNED_W)
        | flag(epilogue_aligned, ALIGNED_EPILOGUE)
        | flag(stored_whole, ALIGNED_STORE)
}

fn check_shapes<T: Element + Value, O: OutputOf<T>>(
    x: &Matrix<T>,
    w: &Weight<'_, T>,
    epilogue: &Epilogue<'_, T, O>,
    y: &Matrix<O>,
) -> Result<()> {
    let (m, n, k) = (x.rows(), w.n(), w.k());
    let equal = |what: &str, value: usize, wanted: usize| match value == wanted {
        true => Ok(()),
        false => Err(invalid(what, value, wanted.to_string())),
    };
    equal("columns of X (K of W)", x.cols(), k)?;
    equal("rows of Y (M of X)", y.rows(), m)?;
    if epilogue.gated && !n.is_multiple_of(2) {
        return Err(invalid("N of a gated product", n, "even: gates and values alternate"));
    }
    let columns = if epilogue.gated { "columns of Y (N/2 of W)" } else { "columns of Y (N of W)" };
    equal(columns, y.cols(), epilogue.columns(n))?;
    if let Some(c) = epilogue.c {
        equal("rows of C", c.rows(), m)?;
        equal("columns of C", c.cols(), n)?;
    }
    if let Some(bias) = epilogue.bias {
        equal("rows of bias", bias.rows(), 1)?;
        equal("columns of bias", bias.cols(), n)?;
    }
    if let Some(row_scale) = epilogue.row_scale {
        if O::OUTPUT != Output::Int8 {
            return Err(invalid("row_scale", "given", "absent unless Y is int8"));
        }
        equal("rows of row_scale", row_scale.rows(), 1)?;
        equal("columns of row_scale (M of X)", row_scale.cols(), m)?;
    }
    for (what, extent) in [("M", m), ("N", n), ("K", k)] {
        if extent > MAX_EXTENT {
            return Err(invalid(what, extent, format!("at most {MAX_EXTENT}")));
        }
    }
    Ok(())
}

fn check_memory<T: Element + Value, O: OutputOf<T>>(
    x: &Matrix<T>,
    w: &Weight<'_, T>,
    epilogue: &Epilogue<'_, T, O>,
    y: &Matrix<O>,
) -> Result<()> {
    let mut inputs = vec![("X", x.device(), x.span()), ("W", w.device(), w.span())];
    inputs.extend(epilogue.bias.map(|bias| ("bias", bias.device(), bias.span())));
    inputs.extend(epilogue.row_scale.map(|s| ("row_scale", s.device(), s.span())));
    // Each element of C is read by the thread that writes it to Y, so C may be Y, but not be shifted, nor have
    // other elements.
    let same_elements = !epilogue.gated && size_of::<O::Addend>() == size_of::<O>();
    let same = |c: &Matrix<O::Addend>| c.address() == y.address() && c.stride() == y.stride();
    let c = epilogue.c.filter(|c| !same_elements || !same(c));
    inputs.extend(c.map(|c| ("C", c.device(), c.span())));
    let out = y.span();
    for (what, device, span) in inputs {
        if !Arc::ptr_eq(device, x.device()) {
            return Err(Error::OtherDevice { what });
        }
        if span.start.max(out.start) < span.end.min(out.end) {
            return Err(Error::Overlap { a: what, b: "Y" });
        }
    }
    if !Arc::ptr_eq(y.device(), x.device()) {
        return Err(Error::OtherDevice { what: "Y" });
    }
    Ok(())
}

/// A kernel parameter block.
///
/// # Safety
/// `repr(C)` without padding.
pub(crate) unsafe trait Params {}
// SAFETY: thirteen u64 and twelve 32-bit fields; four u64 and four u32.
unsafe impl Params for GemmParams {}
// SAFETY: as above.
unsafe impl Params for CompressParams {}
// SAFETY: three u64 and two u32.
unsafe impl Params for TileParams {}
// SAFETY: 48 u64, four u32, and the first of these.
unsafe impl Params for HopperParams {}
const _: () = assert!(size_of::<GemmParams>() == 13 * 8 + 12 * 4);
const _: () = assert!(size_of::<CompressParams>() == 4 * 8 + 4 * 4);
const _: () = assert!(size_of::<TileParams>() == 3 * 8 + 2 * 4);
const _: () = assert!(size_of::<HopperParams>() == 48 * 8 + size_of::<GemmParams>() + 16);

/// Counters and partial tiles of a launch.
fn workspace_bytes(kernel: &Instance, grid: &Grid) -> u64 {
    let tile = kernel.bm as u64 * kernel.bn as u64 * 4;
    COUNTERS as u64 * 4 + partial_slot(grid.blocks, false) as u64 * tile
}

/// The bytes of a parameter block.
pub(crate) fn param_bytes<P: Params>(params: &P) -> &[u8] {
    // SAFETY: `Params` promises that every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast(), size_of::<P>()) }
}
