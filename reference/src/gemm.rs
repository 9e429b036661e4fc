//! The CPU backend: `Y[M,N] = act(alpha * X[M,K] . W[N,K]^T + beta * C[M,N] + bias[N])` in f32, gated and
//! scaled as the [`Epilogue`] says.

use rayon::prelude::*;

use crate::element::{Element, OutputOf};
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::matrix::{MatMut, MatRef};
use crate::pack::Packed;
use crate::product::{ROWS_TOGETHER, product};

/// W `[N, K]`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a, T> {
    /// Every element given.
    Dense(MatRef<'a, T>),
    /// 2:4 sparse: pruned elements take no part, whatever X holds there.
    Sparse(&'a Packed<T>),
}

impl<'a, T> From<MatRef<'a, T>> for Weights<'a, T> {
    fn from(w: MatRef<'a, T>) -> Self {
        Self::Dense(w)
    }
}

impl<'a, T> From<&'a Packed<T>> for Weights<'a, T> {
    fn from(w: &'a Packed<T>) -> Self {
        Self::Sparse(w)
    }
}

impl<T: Element> Weights<'_, T> {
    /// Output features, rows of W.
    pub fn n(&self) -> usize {
        match self {
            Self::Dense(w) => w.rows(),
            Self::Sparse(w) => w.n(),
        }
    }

    /// Input features, columns of W.
    pub fn k(&self) -> usize {
        match self {
            Self::Dense(w) => w.cols(),
            Self::Sparse(w) => w.k(),
        }
    }
}

/// Checks that X, W and the epilogue fit each other.
pub(crate) fn check_operands<T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: &Weights<'_, T>,
    epilogue: &Epilogue<'_, T, O>,
) -> Result<(), Error> {
    if x.cols() != w.k() {
        return Err(Error::Shape { what: "columns of X", got: x.cols(), want: w.k() });
    }
    epilogue.check(x.rows(), w.n())
}

/// Checks that Y is `m` x `n`.
pub(crate) fn check_y(shape: (usize, usize), m: usize, n: usize) -> Result<(), Error> {
    if shape.0 != m {
        return Err(Error::Shape { what: "rows of Y", got: shape.0, want: m });
    }
    if shape.1 != n {
        return Err(Error::Shape { what: "columns of Y", got: shape.1, want: n });
    }
    Ok(())
}

/// Computes Y `[M, N]` (`[M, N/2]` where gated) from X `[M, K]` and W `[N, K]`, accumulating in f32 and
/// rounding once to `O`.
///
/// A sparse W is multiplied by its kept values only, at half the work. Any extent may be 0: without
/// K, the dot products are 0.
///
/// # Errors
/// [`Error::Shape`] where the operands do not fit each other, [`Error::GatedFeatures`] for gates without
/// values.
pub fn gemm<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
    y: &mut MatMut<'_, O>,
) -> Result<(), Error> {
    let w = w.into();
    check_operands(x, &w, epilogue)?;
    check_y((y.rows(), y.cols()), x.rows(), epilogue.columns(w.n()))?;
    let rows: Vec<&[T]> = (0..x.rows()).map(|m| x.row(m)).collect();
    let pitch = y.pitch();
    product(
        &rows,
        &w,
        |x: T| x.to_f32(),
        |block| {
            let (first, count) = (block.rows.start, block.rows.len());
            let chunks = y.rows_from(first).par_chunks_mut(ROWS_TOGETHER * pitch);
            chunks.take(count.div_ceil(ROWS_TOGETHER)).enumerate().for_each(|(i, y)| {
                let start = first + i * ROWS_TOGETHER;
                let mut gate = 0.0;
                block.visit(start..(start + ROWS_TOGETHER).min(block.rows.end), |row, col, dot| {
                    let z = epilogue.narrow(dot, row, col);
                    let y = &mut y[(row - start) * pitch..];
                    match (epilogue.gated, col % 2) {
                        (false, _) => y[col] = O::from_f32(epilogue.finish_narrow(row, z, None)),
                        // A value is visited right after its gate.
                        (true, 0) => gate = z,
                        (true, _) => {
                            y[col / 2] = O::from_f32(epilogue.finish_narrow(row, gate, Some(z)))
                        }
                    }
                });
            });
        },
    );
    Ok(())
}
