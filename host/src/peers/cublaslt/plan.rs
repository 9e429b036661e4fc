//! A product of cuBLASLt, and the choice of its algorithm.

use super::{Algorithm, CublasLt, Object, Proposal, WORKSPACE, call};
use crate::error::{Result, invalid};
use crate::matrix::{Matrix, Value};
use crate::measure::Times;
use crate::peers::{Layout, PeerError, check, usable};
use reference::Element;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

/// Algorithms that the heuristic is asked for.
const PROPOSALS: usize = 16;
/// How often each of them runs; the first few only warm up.
const ROUNDS: usize = 12;
/// Rounds that do not count.
const WARM_UP: usize = 2;
const MATMUL_PREF_MAX_WORKSPACE_BYTES: c_int = 1;

/// A product with an algorithm chosen, ready to repeat.
pub struct Plan<T> {
    pub(super) operation: Object,
    pub(super) w: Object,
    pub(super) x: Object,
    pub(super) y: Object,
    pub(super) algorithm: Algorithm,
    pub(super) layout: Layout,
    pub(super) ldw: usize,
    pub(super) library: Rc<CublasLt>,
    /// Read by every launch.
    pub(super) _bias: Option<Matrix<T>>,
}

impl<T: Element + Value> Plan<T> {
    /// Queues the product on other operands of the same layout.
    ///
    /// # Errors
    /// Operands of another layout, or what the library says of the launch.
    pub fn launch(&self, x: &Matrix<T>, w: &Matrix<T>, y: &mut Matrix<T>) -> Result<()> {
        self.launch_as(&self.algorithm, x, w, y)
    }

    fn launch_as(
        &self,
        algorithm: &Algorithm,
        x: &Matrix<T>,
        w: &Matrix<T>,
        y: &mut Matrix<T>,
    ) -> Result<()> {
        self.layout.same(Layout::of(&self.library.device, x, (w.rows(), w.cols()), y)?)?;
        usable(&self.library.device, "W", w)?;
        if w.stride() != self.ldw {
            return Err(invalid("stride of W", w.stride(), self.ldw.to_string()));
        }
        let library = &self.library;
        let (alpha, beta) = (1f32, 0f32);
        let address = |matrix: &Matrix<T>| matrix.address() as *mut c_void;
        // SAFETY: the descriptors say what the operands were just checked to be, the operands and the bias
        // are allocated, and their memory outlives the work that is queued (`Memory`); alpha and beta are
        // read before the call returns (pointer mode host).
        unsafe {
            call!(
                library.functions,
                cublasLtMatmul(
                    library.handle,
                    self.operation.raw,
                    (&raw const alpha).cast(),
                    address(w),
                    self.w.raw,
                    address(x),
                    self.x.raw,
                    (&raw const beta).cast(),
                    address(y),
                    self.y.raw,
                    address(y),
                    self.y.raw,
                    algorithm,
                    library.workspace.address() as *mut c_void,
                    WORKSPACE as usize,
                    library.stream,
                )
            )
        }?;
        Ok(())
    }

    /// Takes the fastest of the heuristic's proposals.
    pub(super) fn choose(
        &mut self,
        operands: &mut [(&Matrix<T>, &Matrix<T>, &mut Matrix<T>)],
    ) -> Result<()> {
        let mut able = Vec::new();
        for algorithm in self.proposals()? {
            let (x, w, y) = &mut operands[0];
            match self.launch_as(&algorithm, x, w, y) {
                Ok(()) => able.push(algorithm),
                Err(error) => {
                    tracing::debug!(%error, "a proposal of cuBLASLt's heuristic does not run")
                }
            }
        }
        let device = Arc::clone(&self.library.device);
        let sets = operands.len();
        let micros = device.time(able.len() * ROUNDS, &mut |i| {
            let (x, w, y) = &mut operands[i % sets];
            self.launch_as(&able[i % able.len()], x, w, y)
        })?;
        let median = |algorithm: usize| {
            let of_it = micros.iter().skip(algorithm).step_by(able.len()).skip(WARM_UP);
            Times::new(of_it.copied().collect()).map_or(f64::INFINITY, |times| times.median)
        };
        let best = (0..able.len()).min_by(|&a, &b| median(a).total_cmp(&median(b)));
        let none = || PeerError::Unsupported {
            library: "cuBLASLt",
            what: "algorithm that runs on these operands".to_owned(),
        };
        self.algorithm = able[best.ok_or_else(none)?];
        Ok(())
    }

    /// What the heuristic proposes, best guess first.
    fn proposals(&self) -> Result<Vec<Algorithm>> {
        let functions = &self.library.functions;
        let mut raw = null_mut();
        // SAFETY: the pointer is to a live local.
        unsafe { call!(functions, cublasLtMatmulPreferenceCreate(&mut raw)) }?;
        let preference = Object { raw, destroy: functions.cublasLtMatmulPreferenceDestroy };
        let mut proposals = [Proposal::default(); PROPOSALS];
        let (mut found, workspace) = (0, WORKSPACE);
        // SAFETY: the library copies the value; the array has room for as many results as are asked for, and
        // all objects live.
        unsafe {
            call!(
                functions,
                cublasLtMatmulPreferenceSetAttribute(
                    preference.raw,
                    MATMUL_PREF_MAX_WORKSPACE_BYTES,
                    (&raw const workspace).cast(),
                    size_of::<u64>(),
                )
            )?;
            call!(
                functions,
                cublasLtMatmulAlgoGetHeuristic(
                    self.library.handle,
                    self.operation.raw,
                    self.w.raw,
                    self.x.raw,
                    self.y.raw,
                    self.y.raw,
                    preference.raw,
                    PROPOSALS as c_int,
                    proposals.as_mut_ptr(),
                    &mut found,
                )
            )?;
        }
        let found = usize::try_from(found).unwrap_or(0);
        let valid = proposals.into_iter().take(found).filter(|proposal| proposal.state == 0);
        Ok(valid.map(|proposal| proposal.algorithm).collect())
    }
}
