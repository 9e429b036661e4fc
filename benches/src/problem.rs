//! The operands of one shape, and what its results have to be.

use reference::random::{Fill, matrix};
use reference::{Element, Epilogue, Error, Judged, MatMut, MatRef, Packed, Weights, judge, prune};
use sparseflow::epilogue::Fused;
use sparseflow::matrix::{OutputOf, Value};
use std::cell::OnceCell;

use crate::suites::Shape;

/// An element type that is measured: of X, W, bias and Y alike.
pub trait Number: Element + Value + OutputOf<Self> {}
impl<T: Element + Value + OutputOf<T>> Number for T {}

/// Random operands, each made when it is first used.
pub struct Problem<T> {
    /// The extents.
    pub shape: Shape,
    seed: u64,
    fill: Fill,
    x: OnceCell<Vec<T>>,
    w: OnceCell<Vec<T>>,
    bias: OnceCell<Vec<T>>,
    packed: OnceCell<Result<Packed<T>, Error>>,
}

impl<T: Number> Problem<T> {
    /// The operands of `shape` that belong to `seed`, drawn as `fill` says.
    pub fn new(shape: Shape, seed: u64, fill: Fill) -> Self {
        Self {
            shape,
            seed,
            fill,
            x: OnceCell::new(),
            w: OnceCell::new(),
            bias: OnceCell::new(),
            packed: OnceCell::new(),
        }
    }

    /// Operand number `operand`, with random numbers of its own.
    fn random(&self, operand: u64, rows: usize, cols: usize) -> Vec<T> {
        let seed = self.seed.wrapping_mul(3).wrapping_add(operand);
        matrix(self.fill, seed, rows, cols)
    }

    /// X, `[M, K]`.
    pub fn x(&self) -> &[T] {
        self.x.get_or_init(|| self.random(0, self.shape.m, self.shape.k))
    }

    /// The first rows of an X of any M, `[rows, K]`.
    pub fn rows_of_x(&self, rows: usize) -> Vec<T> {
        self.random(0, rows, self.shape.k)
    }

    /// W before pruning, `[N, K]`.
    pub fn w(&self) -> &[T] {
        self.w.get_or_init(|| self.random(1, self.shape.n, self.shape.k))
    }

    /// bias, `[N]`.
    pub fn bias(&self) -> &[T] {
        self.bias.get_or_init(|| self.random(2, 1, self.shape.n))
    }

    /// X to compute with.
    pub fn x_view(&self) -> Result<MatRef<'_, T>, Error> {
        MatRef::contiguous(self.x(), self.shape.m, self.shape.k)
    }

    /// W before pruning, to compute with.
    pub fn w_view(&self) -> Result<MatRef<'_, T>, Error> {
        MatRef::contiguous(self.w(), self.shape.n, self.shape.k)
    }

    /// W pruned and packed by the reference.
    pub fn packed(&self) -> Result<&Packed<T>, Error> {
        let pack = || self.w_view().and_then(Packed::prune_and_pack);
        self.packed.get_or_init(pack).as_ref().map_err(Error::clone)
    }

    /// W as a product takes it.
    pub fn weights(&self, sparse: bool) -> Result<Weights<'_, T>, Error> {
        Ok(match sparse {
            true => Weights::Sparse(self.packed()?),
            false => Weights::Dense(self.w_view()?),
        })
    }

    /// W pruned in place, `[N, K]`: what unpacking a packed W has to give.
    pub fn pruned(&self) -> Result<Vec<T>, Error> {
        let mut w = self.w().to_vec();
        prune(&mut MatMut::contiguous(&mut w, self.shape.n, self.shape.k)?);
        Ok(w)
    }

    /// The epilogue as the reference takes it.
    pub fn epilogue(&self, fused: Fused) -> Epilogue<'_, T> {
        let bias = fused.bias.then(|| self.bias());
        Epilogue { bias, activation: fused.activation, ..Default::default() }
    }

    /// Bytes of W as a product reads it.
    pub fn w_bytes(&self, sparse: bool) -> Result<u64, Error> {
        Ok(match self.weights(sparse)? {
            Weights::Dense(w) => (w.rows() * w.cols() * size_of::<T>()) as u64,
            Weights::Sparse(w) => (size_of_val(w.values()) + size_of_val(w.metadata())) as u64,
        })
    }

    /// Bytes that a product cannot do without: X and W read once, Y written once.
    pub fn gemm_bytes(&self, sparse: bool) -> Result<u64, Error> {
        let Shape { m, n, k } = self.shape;
        Ok(self.w_bytes(sparse)? + ((m * k + m * n) * size_of::<T>()) as u64)
    }

    /// What every element of Y has to be, in f64.
    pub fn judge(&self, sparse: bool, fused: Fused) -> Result<Judged, Error> {
        judge(self.x_view()?, self.weights(sparse)?, &self.epilogue(fused))
    }

    /// What every element of the product of [`Self::rows_of_x`] with the pruned W has to be, in f64.
    pub fn judge_rows(&self, rows: usize) -> Result<Judged, Error> {
        let x = self.rows_of_x(rows);
        let epilogue = Epilogue::<T>::default();
        judge(MatRef::contiguous(&x, rows, self.shape.k)?, self.weights(true)?, &epilogue)
    }
}
