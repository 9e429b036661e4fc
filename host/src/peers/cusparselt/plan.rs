//! A product of cuSPARSELt, the W it takes, and what can be done with both.

use super::{CusparseLt, Mut, Object, Opaque, Ref, call};
use crate::device::Memory;
use crate::error::{Result, invalid};
use crate::matrix::{Matrix, Value};
use crate::peers::{Layout, check, usable};
use reference::Element;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

/// Factors of the product and of what Y held.
static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;

/// Device addresses of one launch.
struct Arguments {
    w: *const c_void,
    x: *const c_void,
    y: *mut c_void,
    workspace: *mut c_void,
}

/// W `[n, k]` as the library stores it for one plan.
pub struct Compressed<T> {
    memory: Arc<dyn Memory>,
    /// What compressing needs besides.
    scratch: Arc<dyn Memory>,
    n: usize,
    k: usize,
    /// The plan's.
    identity: Rc<()>,
    element: PhantomData<T>,
}

impl<T> Compressed<T> {
    /// Overwrites it with NaN and indices that mean nothing, so that a compression that writes nothing is
    /// found.
    ///
    /// # Errors
    /// What the device says.
    pub fn poison(&self) -> Result<()> {
        self.memory.fill(0xFF)
    }
}

/// A product ready to repeat. Fields are dropped in this order, the later ones being what the earlier use.
pub struct Plan<T> {
    pub(super) plan: Object,
    pub(super) _selection: Object,
    pub(super) _operation: Box<Opaque>,
    pub(super) _matrices: [Object; 3],
    pub(super) layout: Layout,
    /// What it is told from other plans by. An address would not do: a later plan may lie where this one was.
    pub(super) identity: Rc<()>,
    /// Whether the library has searched.
    pub(super) searched: bool,
    pub(super) workspace: Arc<dyn Memory>,
    pub(super) library: Rc<CusparseLt>,
    /// Read by every launch.
    pub(super) _bias: Option<Matrix<T>>,
}

impl<T: Element + Value> Plan<T> {
    fn handle(&self) -> Ref {
        &*self.library.handle
    }

    fn plan(&self) -> Ref {
        &*self.plan.raw
    }

    /// Makes the workspace as large as the plan says, which is what its present algorithm needs.
    pub(super) fn allocate_workspace(&mut self) -> Result<()> {
        let mut bytes = 0;
        let (handle, plan) = (self.handle(), self.plan());
        // SAFETY: the structures are initialised; the pointer is to a live local.
        unsafe {
            call!(self.library.functions, cusparseLtMatmulGetWorkspace(handle, plan, &mut bytes))
        }?;
        tracing::debug!(bytes, searched = self.searched, "workspace of a plan of cuSPARSELt");
        if bytes as u64 > self.workspace.bytes() {
            self.workspace = self.library.device.allocate(bytes as u64)?;
        }
        Ok(())
    }

    /// Memory for a W to be compressed, for this plan alone: on an H200 the search of 0.8.0 ended in an illegal
    /// instruction whenever W had not been compressed through the plan that searched. (PyTorch 2.11's search,
    /// which compresses W without a plan, failed there too.)
    ///
    /// # Errors
    /// Out of memory, or what the library says.
    pub fn allocate(&self) -> Result<Compressed<T>> {
        let (mut bytes, mut scratch) = (0, 0);
        let (handle, plan) = (self.handle(), self.plan());
        // SAFETY: the structures are initialised; the pointers are to live locals.
        unsafe {
            call!(
                self.library.functions,
                cusparseLtSpMMACompressedSize(handle, plan, &mut bytes, &mut scratch)
            )
        }?;
        let device = &self.library.device;
        Ok(Compressed {
            memory: device.allocate(bytes as u64)?,
            scratch: device.allocate(scratch as u64)?,
            n: self.layout.n,
            k: self.layout.k,
            identity: Rc::clone(&self.identity),
            element: PhantomData,
        })
    }

    /// Queues the compression of `w`, 2:4 sparse already and without gaps between its rows.
    ///
    /// # Errors
    /// Other extents or strides than the plan's, or what the library says of the launch.
    pub fn compress(&self, w: &Matrix<T>, into: &Compressed<T>) -> Result<()> {
        self.takes((w.rows(), w.cols()), w.stride())?;
        self.owns(into)?;
        usable(&self.library.device, "W", w)?;
        let (handle, plan, w) = (self.handle(), self.plan(), w.address() as *const c_void);
        let (out, scratch) =
            (into.memory.address() as *mut c_void, into.scratch.address() as *mut c_void);
        // SAFETY: W is what the plan says, and `into` has the sizes that the library asked for.
        unsafe {
            call!(
                self.library.functions,
                cusparseLtSpMMACompress(handle, plan, w, out, scratch, self.library.stream)
            )
        }?;
        Ok(())
    }

    /// Lets the library time what it has on these operands, and keep the fastest for this plan. Waits for it.
    /// A plan is searched once: its choice stays.
    ///
    /// This runs on the default stream and without a workspace, before the library is asked for the size of one,
    /// as in NVIDIA's sample. The search tries other algorithms and slices of K than the plan's, and the size that
    /// the library tells is that of the plan's own: in a workspace of that size, or with the slices that a search
    /// before has chosen, they would write past its end.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn search(&mut self, x: &Matrix<T>, w: &Compressed<T>, y: &mut Matrix<T>) -> Result<()> {
        let run = self.arguments(x, w, y)?;
        if self.searched {
            return Ok(());
        }
        self.library.synchronize()?;
        let (handle, plan): (_, Mut) = (self.handle(), &mut *self.plan.raw);
        let (alpha, beta, mut stream) = (&raw const ONE, &raw const ZERO, null_mut());
        // SAFETY: the plan's structures say what the operands were just checked to be; see `launch`.
        let searched = unsafe {
            call!(
                self.library.functions,
                cusparseLtMatmulSearch(
                    handle,
                    plan,
                    alpha.cast(),
                    run.w,
                    run.x,
                    beta.cast(),
                    run.y,
                    run.y,
                    null_mut(),
                    &mut stream,
                    1,
                )
            )
        };
        // Also where it has failed: memory is freed after the work on the device's stream alone.
        self.library.synchronize()?;
        searched?;
        self.searched = true;
        self.allocate_workspace()
    }

    /// Queues the product on other operands of the same layout.
    ///
    /// # Errors
    /// Operands of another layout, or what the library says of the launch.
    pub fn launch(&self, x: &Matrix<T>, w: &Compressed<T>, y: &mut Matrix<T>) -> Result<()> {
        let run = self.arguments(x, w, y)?;
        let (handle, plan) = (self.handle(), self.plan());
        let (alpha, beta, mut stream) = (&raw const ONE, &raw const ZERO, self.library.stream);
        // SAFETY: the plan's structures say what the operands were just checked to be; operands, bias and
        // workspace are allocated, and their memory outlives the work that is queued (`Memory`).
        unsafe {
            call!(
                self.library.functions,
                cusparseLtMatmul(
                    handle,
                    plan,
                    alpha.cast(),
                    run.w,
                    run.x,
                    beta.cast(),
                    run.y,
                    run.y,
                    run.workspace,
                    &mut stream,
                    1,
                )
            )
        }?;
        Ok(())
    }

    /// Addresses of operands that fit the plan.
    fn arguments(&self, x: &Matrix<T>, w: &Compressed<T>, y: &mut Matrix<T>) -> Result<Arguments> {
        self.owns(w)?;
        self.layout.same(Layout::of(&self.library.device, x, (w.n, w.k), y)?)?;
        Ok(Arguments {
            w: w.memory.address() as *const c_void,
            x: x.address() as *const c_void,
            y: y.address() as *mut c_void,
            workspace: self.workspace.address() as *mut c_void,
        })
    }

    /// That a W is for this plan.
    fn owns(&self, w: &Compressed<T>) -> Result<()> {
        match Rc::ptr_eq(&w.identity, &self.identity) {
            true => Ok(()),
            false => Err(invalid("compressed W", "another plan's", "this plan's")),
        }
    }

    /// That W is `[N, K]`, rows `k` elements apart.
    fn takes(&self, extents: (usize, usize), stride: usize) -> Result<()> {
        let want = (self.layout.n, self.layout.k);
        if (extents, stride) == (want, want.1) {
            return Ok(());
        }
        let value = format!("{} x {}, stride {stride}", extents.0, extents.1);
        Err(invalid("W", value, format!("{} x {}, stride {}", want.0, want.1, want.1)))
    }
}
