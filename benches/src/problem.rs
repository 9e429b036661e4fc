//! The operands of one shape, and what its results have to be.

use layout::params::Output;
use reference::random::{Fill, matrix};
use reference::{Element, Epilogue, Error, Judged, MatMut, MatRef, Packed, Scalar, Weights};
use reference::{judge, prune};
use sparseflow::epilogue::Fused;
use sparseflow::matrix::{OutputOf, Value};
use std::cell::OnceCell;

use crate::npy::Dumped;
use crate::suites::Shape;

/// An element type that is measured: of X, W, bias, and of Y and C where nothing else is asked for.
pub trait Number: Element + Value + Dumped + OutputNumber<Self> {}
impl<T: Element + Value + Dumped + OutputNumber<T>> Number for T {}

/// A type that Y is measured in where X and W are of type `T`.
pub trait OutputNumber<T: Element>: OutputOf<T, Addend: Dumped> + Dumped {}
impl<T: Element, O: OutputOf<T, Addend: Dumped> + Dumped> OutputNumber<T> for O {}

/// Standard deviation that the row scales bring an int8 Y to, about: few of its elements saturate.
const INT8_DEVIATION: f64 = 32.0;

/// What an epilogue takes besides bias; empty where it does not.
pub struct Extras<T: Element, O: OutputOf<T>> {
    /// C, `[M, N]`, whose factor beta is 1.
    pub c: Vec<O::Addend>,
    /// Factors of the rows of an int8 Y, `[M]`.
    pub row_scale: Vec<f32>,
}

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
        matrix(self.fill, self.seed_of(operand), rows, cols)
    }

    fn seed_of(&self, operand: u64) -> u64 {
        self.seed.wrapping_mul(3).wrapping_add(operand)
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

    /// What `fused` takes besides bias where Y is of type `O`.
    pub fn extras<O: OutputNumber<T>>(&self, fused: Fused) -> Extras<T, O> {
        let Shape { m, n, k } = self.shape;
        let c: Vec<T> = if fused.residual { self.random(3, m, n) } else { Vec::new() };
        let mut row_scale = Vec::new();
        if O::OUTPUT == Output::Int8 {
            let variance = match self.fill {
                Fill::Uniform => 1.0 / 3.0,
                Fill::Normal | Fill::Special => 1.0,
                Fill::Integers => 2.0,
            };
            let of_product = (k as f64).sqrt() * variance;
            let of_y = if fused.gated { of_product * of_product } else { of_product };
            // Half as much to one and a half times as much, no two rows alike.
            let random: Vec<T> = matrix(Fill::Uniform, self.seed_of(4), 1, m);
            let scale = |r: &T| ((1.0 + r.to_f64() / 2.0) * INT8_DEVIATION / of_y) as f32;
            row_scale = random.iter().map(scale).collect();
        }
        Extras { c: c.iter().map(|c| O::Addend::from_f32(c.to_f32())).collect(), row_scale }
    }

    /// The epilogue as the reference takes it.
    pub fn epilogue<'a, O: OutputNumber<T>>(
        &'a self,
        fused: Fused,
        extras: &'a Extras<T, O>,
    ) -> Result<Epilogue<'a, T, O>, Error> {
        let Shape { m, n, .. } = self.shape;
        let c = || MatRef::contiguous(&extras.c, m, n);
        Ok(Epilogue {
            alpha: 1.0,
            beta: if fused.residual { 1.0 } else { 0.0 },
            c: fused.residual.then(c).transpose()?,
            bias: fused.bias.then(|| self.bias()),
            activation: fused.activation,
            gated: fused.gated,
            row_scale: (O::OUTPUT == Output::Int8).then_some(&extras.row_scale),
        })
    }

    /// Columns of Y.
    pub fn columns(&self, fused: Fused) -> usize {
        if fused.gated { self.shape.n / 2 } else { self.shape.n }
    }

    /// Bytes of W as a product reads it.
    pub fn w_bytes(&self, sparse: bool) -> Result<u64, Error> {
        Ok(match self.weights(sparse)? {
            Weights::Dense(w) => (w.rows() * w.cols() * size_of::<T>()) as u64,
            Weights::Sparse(w) => (size_of_val(w.values()) + size_of_val(w.metadata())) as u64,
        })
    }

    /// Bytes that a product cannot do without: X, W and C read once, Y written once.
    pub fn gemm_bytes<O: OutputNumber<T>>(&self, sparse: bool, fused: Fused) -> Result<u64, Error> {
        let Shape { m, n, k } = self.shape;
        let c = if fused.residual { m * n * size_of::<O::Addend>() } else { 0 };
        let y = m * self.columns(fused) * size_of::<O>();
        Ok(self.w_bytes(sparse)? + (m * k * size_of::<T>() + c + y) as u64)
    }

    /// What every element of Y has to be, in f64.
    pub fn judge<O: OutputNumber<T>>(
        &self,
        sparse: bool,
        fused: Fused,
        extras: &Extras<T, O>,
    ) -> Result<Judged, Error> {
        judge(self.x_view()?, self.weights(sparse)?, &self.epilogue(fused, extras)?)
    }

    /// What every element of the product of [`Self::rows_of_x`] with the pruned W has to be, in f64.
    pub fn judge_rows(&self, rows: usize) -> Result<Judged, Error> {
        let x = self.rows_of_x(rows);
        let epilogue = Epilogue::<T>::default();
        judge(MatRef::contiguous(&x, rows, self.shape.k)?, self.weights(true)?, &epilogue)
    }
}
