//! The judge: the operation in f64, and the magnitude of its summands, for the tolerance.

use rayon::prelude::*;

use crate::element::{Element, OutputOf};
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::gemm::{Weights, check_operands};
use crate::matrix::MatRef;
use crate::product::{Block, ROWS_TOGETHER, product};
use crate::tile::Real;
use layout::instance::Accumulator;

/// Largest K whose sums in f32 can be bounded: half a unit of relative error.
pub const MAX_DEPTH: usize = 1 << 23;

/// What Y has to be, for some of its rows.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The extents of all of Y.
    pub(crate) shape: (usize, usize),
    /// Output features: columns of the product.
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Products that are summed for an element, of a sparse W the kept ones.
    pub(crate) terms: usize,
    pub(crate) accumulator: Accumulator,
    pub(crate) alpha: f64,
    pub(crate) roundings: u32,
    /// What [`Epilogue::evaluation`] says.
    pub(crate) evaluation: (f64, f64),
    pub(crate) max_slope: f64,
    pub(crate) gated: bool,
    rows: Vec<usize>,
    /// Magnitudes of the row scales of `rows`; empty where there are none.
    scales: Vec<f64>,
    reference: Vec<f64>,
    magnitude: Vec<f64>,
}

/// One row of a [`Judged`].
pub(crate) struct JudgedRow<'a> {
    /// Which row of Y it is.
    pub row: usize,
    /// What its elements are.
    pub reference: &'a [f64],
    /// The magnitudes of the product's elements.
    pub magnitude: &'a [f64],
    /// The magnitude of its scale.
    pub scale: f64,
}

impl Judged {
    /// The same result, to be expected of a product that was summed in another type than f32 (see
    /// [`tolerance`](crate::tolerance)).
    pub fn accumulated_in(self, accumulator: Accumulator) -> Self {
        Self { accumulator, ..self }
    }

    /// The rows of Y that were judged.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The exact result, rounded to f64: `[rows().len(), columns of Y]`, row-major.
    pub fn reference(&self) -> &[f64] {
        &self.reference
    }

    /// `S = |alpha| * sum |x||w| + |beta * c| + |bias|` for each element of the product,
    /// `[rows().len(), N]`: never below it, and above it by at most K * 2^-23 of it.
    pub fn magnitude(&self) -> &[f64] {
        &self.magnitude
    }

    /// The `i`-th judged row.
    pub(crate) fn row(&self, i: usize) -> JudgedRow<'_> {
        let columns = self.shape.1;
        JudgedRow {
            row: self.rows[i],
            reference: &self.reference[i * columns..][..columns],
            magnitude: &self.magnitude[i * self.n..][..self.n],
            scale: self.scales.get(i).copied().unwrap_or(1.0),
        }
    }
}

/// Judges every row of Y.
///
/// # Errors
/// As [`judge_rows`].
pub fn judge<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
) -> Result<Judged, Error> {
    let rows: Vec<usize> = (0..x.rows()).collect();
    judge_rows(x, w, epilogue, &rows)
}

/// Judges the given rows of Y, all columns, at 16 bytes of memory an element of the product.
///
/// The reference is summed in f64, where every product is exact, from the inputs as they are. Of a
/// sparse W only the kept values take part.
///
/// # Errors
/// [`Error::Shape`] where the operands do not fit each other, [`Error::GatedFeatures`] for gates without
/// values, [`Error::Row`] for a row that Y does not have, [`Error::Depth`] for K above [`MAX_DEPTH`].
pub fn judge_rows<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
    rows: &[usize],
) -> Result<Judged, Error> {
    let w = w.into();
    check_operands(x, &w, epilogue)?;
    let (n, k) = (w.n(), w.k());
    if k > MAX_DEPTH {
        return Err(Error::Depth { k, limit: MAX_DEPTH });
    }
    if let Some(&row) = rows.iter().find(|&&row| row >= x.rows()) {
        return Err(Error::Row { row, rows: x.rows() });
    }
    let of_x: Vec<&[T]> = rows.iter().map(|&row| x.row(row)).collect();

    let mut reference = vec![0.0; rows.len() * n];
    product(
        &of_x,
        &w,
        |x: T| x.to_f64(),
        |block| {
            fill(&mut reference, n, block, |i, col, dot, _| epilogue.wide(dot, rows[i], col));
        },
    );

    // sum |x||w| in f32, at a quarter of the cost of f64. The products are exact, or lose 2^-150 to
    // underflow (bf16); adding K numbers >= 0 loses at most a share of (K - 1) * 2^-24 of their sum
    // (Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34, 2013). 1 / (1 - t) <= 1 + 2t for t <= 1/2
    // turns what was found into a bound from above.
    let inflate = 1.0 + k as f64 / (1u64 << 23) as f64;
    let underflow = k as f64 * f32::from_bits(1) as f64;
    let mut magnitude = reference.clone();
    product(
        &of_x,
        &w,
        |x: T| x.to_f32().abs(),
        |block| {
            fill(&mut magnitude, n, block, |i, col, sum: f32, z| {
                let sum = if sum.is_finite() || !z.is_finite() {
                    sum as f64 * inflate + underflow
                } else {
                    // Beyond the range of f32.
                    absolute_sum(of_x[i], &w, col)
                };
                epilogue.magnitude(sum, rows[i], col)
            });
        },
    );

    let columns = epilogue.columns(n);
    let finish = |(i, z): (usize, &mut [f64])| epilogue.finish_wide(rows[i], z);
    reference.par_chunks_mut(n.max(1)).enumerate().for_each(finish);
    if columns < n {
        for i in 1..rows.len() {
            reference.copy_within(i * n..i * n + columns, i * columns);
        }
        reference.truncate(rows.len() * columns);
    }
    let scale_of = |scale: &[f32]| rows.iter().map(|&row| scale[row].abs() as f64).collect();
    Ok(Judged {
        shape: (x.rows(), columns),
        n,
        k,
        terms: if matches!(w, Weights::Sparse(_)) { k.div_ceil(2) } else { k },
        accumulator: Accumulator::F32,
        alpha: epilogue.alpha.abs() as f64,
        roundings: epilogue.roundings(),
        evaluation: epilogue.evaluation(),
        max_slope: epilogue.activation.max_slope(),
        gated: epilogue.gated,
        rows: rows.to_vec(),
        scales: epilogue.row_scale.map_or_else(Vec::new, scale_of),
        reference,
        magnitude,
    })
}

/// Replaces each element of `out` `[rows, n]` that lies in `block` by
/// `value(row, col, product, element)`.
fn fill<R: Real>(
    out: &mut [f64],
    n: usize,
    block: Block<'_, R>,
    value: impl Fn(usize, usize, R, f64) -> f64 + Sync,
) {
    let out = &mut out[block.rows.start * n..block.rows.end * n];
    out.par_chunks_mut((ROWS_TOGETHER * n).max(1)).enumerate().for_each(|(chunk, out)| {
        let start = block.rows.start + chunk * ROWS_TOGETHER;
        block.visit(start..(start + ROWS_TOGETHER).min(block.rows.end), |row, col, dot| {
            let out = &mut out[(row - start) * n + col];
            *out = value(row, col, dot, *out);
        });
    });
}

/// `sum |x||w|` of one row of X with row `n` of W, in f64.
fn absolute_sum<T: Element>(x: &[T], w: &Weights<'_, T>, n: usize) -> f64 {
    let term = |x: T, w: T| (x.to_f64() * w.to_f64()).abs();
    match w {
        Weights::Dense(w) => x.iter().zip(w.row(n)).map(|(&x, &w)| term(x, w)).sum(),
        Weights::Sparse(w) => {
            let groups = x.chunks(4).enumerate().map(|(q, x)| {
                let (positions, kept) = w.group(n, q);
                let terms = positions.into_iter().zip(kept);
                // A position past column K holds +0.
                terms.filter_map(|(i, w)| x.get(i).map(|&x| term(x, w))).sum::<f64>()
            });
            groups.sum()
        }
    }
}
