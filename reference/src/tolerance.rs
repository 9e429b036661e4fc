//! Is this Y right? The bound is derived, not tuned.
//!
//! Let `u = 2^-24` be the unit roundoff of f32, `z` the exact value before the activation, and
//! `S = |alpha| * sum |x||w| + |beta * c| + |bias|`, which bounds `|z|`.
//!
//! - The K products of 16-bit floats are exact in f32. Summing them in f32, in any order, errs by at
//!   most `(K - 1) u sum |x||w|` (Jeannerod and Rump 2013: no second-order term). Where products
//!   underflow, each errs by up to half of f32's smallest number besides: `K * 2^-150`.
//! - An epilogue adds at most `E` roundings of quantities that S bounds (`E` is
//!   `layout::params::EPILOGUE_ROUNDINGS`, which covers evaluating the activation; 0 without one).
//! - The activation enlarges an error of `z` by at most its largest slope.
//!
//! Before the output is rounded the error is therefore at most
//!
//! ```text
//! e = slope * ((K + E) * u * S + K * 2^-149)
//! ```
//!
//! Rounding to the output type, of unit roundoff `u_out` and smallest subnormal `s_out`, adds at most
//! `u_out * |ref| + s_out / 2` (and `u_out * e`, which is left out: that makes the bound stricter by
//! a part in 256 of `e` at most), so **`|y - ref| <= u_out |ref| + s_out / 2 + e`**.
//!
//! Infinity is right where `|ref| + e` reaches the magnitude that rounds to it, and a finite y where
//! `|ref| - e` does not. A reference that is NaN or infinite asks for just that. Where an infinite
//! input ends in a finite reference (ReLU of -Inf), nothing is rounded, and y must equal it. The
//! bound says nothing once partial sums may leave the range of f32 (`S + e` beyond it, possible in
//! bf16 only): an infinite or NaN y is let pass there.

use rayon::prelude::*;

use crate::element::{Element, Scalar};
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::gemm::{Weights, check_y};
use crate::judge::{Judged, judge_rows};
use crate::matrix::MatRef;

/// Rows of Y that [`verify`] judges at a time: 16 bytes an element is what it needs in memory.
const ROWS_AT_A_TIME: usize = 1024;

/// An element of Y beside what it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mismatch {
    /// Row of Y.
    pub row: usize,
    /// Column of Y.
    pub col: usize,
    /// What Y holds.
    pub got: f64,
    /// The reference.
    pub want: f64,
    /// How far they may be apart.
    pub bound: f64,
}

/// The outcome of comparing Y with the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// Whether no element is wrong.
    pub passed: bool,
    /// Elements compared.
    pub elements: usize,
    /// Elements that are wrong.
    pub wrong: usize,
    /// Those of them that are NaN.
    pub nan: usize,
    /// Largest `|y - ref|` where both are finite.
    pub max_abs: f64,
    /// `||y - ref|| / ||ref||` (Frobenius) over the elements where both are finite; 0 for no error.
    pub rel_fro: f64,
    /// The bound at the element [`Self::worst`]; 0 where nothing was compared.
    pub tolerance: f64,
    /// The element whose error is largest in relation to its bound, right or wrong; of several the
    /// first. An error that no bound could allow counts as infinite.
    pub worst: Option<Mismatch>,
}

/// Running totals of a comparison; merged in the order of rows, so that every bit is reproducible.
#[derive(Clone, Copy, Default)]
struct Tally {
    elements: usize,
    wrong: usize,
    nan: usize,
    max_abs: f64,
    error_squared: f64,
    reference_squared: f64,
    worst: Option<(f64, Mismatch)>,
}

impl Tally {
    fn add(&mut self, right: bool, at: Mismatch) {
        let error = (at.got - at.want).abs();
        self.elements += 1;
        self.wrong += !right as usize;
        self.nan += (!right && at.got.is_nan()) as usize;
        if error.is_finite() {
            self.max_abs = self.max_abs.max(error);
            self.error_squared += error * error;
            self.reference_squared += at.want * at.want;
        }
        let ratio = match (right, error <= at.bound) {
            (true, true) if error > 0.0 => error / at.bound,
            (true, _) => 0.0,
            (false, false) if error.is_finite() => error / at.bound,
            (false, _) => f64::INFINITY,
        };
        self.consider(Some((ratio, at)));
    }

    fn consider(&mut self, other: Option<(f64, Mismatch)>) {
        if let Some((ratio, at)) = other
            && self.worst.is_none_or(|(worst, _)| ratio > worst)
        {
            self.worst = Some((ratio, at));
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.elements += other.elements;
        self.wrong += other.wrong;
        self.nan += other.nan;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.error_squared += other.error_squared;
        self.reference_squared += other.reference_squared;
        self.consider(other.worst);
        self
    }

    fn check(self) -> Check {
        let worst = self.worst.map(|(_, at)| at);
        Check {
            passed: self.wrong == 0,
            elements: self.elements,
            wrong: self.wrong,
            nan: self.nan,
            max_abs: self.max_abs,
            rel_fro: match self.error_squared {
                0.0 => 0.0,
                error => (error / self.reference_squared).sqrt(),
            },
            tolerance: worst.map_or(0.0, |at| at.bound),
            worst,
        }
    }
}

/// Compares the judged rows of `y`: `decide(got, reference, magnitude)` gives whether an element is
/// right, what it should be and the bound.
fn compare<O: Scalar>(
    judged: &Judged,
    y: MatRef<'_, O>,
    decide: impl Fn(O, f64, f64) -> (bool, f64, f64) + Sync,
) -> Result<Tally, Error> {
    check_y((y.rows(), y.cols()), judged.shape.0, judged.shape.1)?;
    let tallies: Vec<Tally> = (0..judged.rows().len())
        .into_par_iter()
        .map(|i| {
            let (row, reference, magnitude) = judged.row(i);
            let mut tally = Tally::default();
            let elements = y.row(row).iter().zip(reference).zip(magnitude);
            for (col, ((&got, &reference), &magnitude)) in elements.enumerate() {
                let (right, want, bound) = decide(got, reference, magnitude);
                tally.add(right, Mismatch { row, col, got: got.to_f64(), want, bound });
            }
            tally
        })
        .collect();
    Ok(tallies.into_iter().fold(Tally::default(), Tally::merge))
}

fn tally<O: Scalar>(judged: &Judged, y: MatRef<'_, O>) -> Result<Tally, Error> {
    let (k, slope) = (judged.k as f64, judged.max_slope);
    let share = slope * (k + judged.roundings as f64) * f32::UNIT_ROUNDOFF;
    let underflow = slope * k * f32::SMALLEST_SUBNORMAL;
    compare(judged, y, |got: O, reference, magnitude| {
        let y = got.to_f64();
        if !reference.is_finite() || magnitude == f64::INFINITY {
            return (y == reference || y.is_nan() && reference.is_nan(), reference, 0.0);
        }
        let e = share * magnitude + underflow;
        let bound = O::UNIT_ROUNDOFF * reference.abs() + O::SMALLEST_SUBNORMAL / 2.0 + e;
        let right = if y.is_finite() {
            (y - reference).abs() <= bound && reference.abs() - e < O::OVERFLOW
        } else if magnitude + e >= f32::MAX_FINITE {
            true
        } else {
            // False for NaN.
            y * reference > 0.0 && reference.abs() + e >= O::OVERFLOW
        };
        (right, reference, bound)
    })
}

/// Checks the judged rows of `y` `[M, N]` against the derived bound.
///
/// # Errors
/// [`Error::Shape`] where `y` does not have the shape that was judged.
pub fn check<O: Scalar>(judged: &Judged, y: MatRef<'_, O>) -> Result<Check, Error> {
    tally(judged, y).map(Tally::check)
}

/// Compares the judged rows of `y` `[M, N]` with the reference, rounded to `O`, bit for bit (any NaN
/// equals any other).
///
/// This is for inputs whose every partial sum is exact in f32, so that one rounding, to the output,
/// is all that happens: small integers (see [`random`](crate::random)), alpha and beta powers of two
/// or small integers, no activation but ReLU.
///
/// # Errors
/// [`Error::Shape`] where `y` does not have the shape that was judged.
pub fn exact<O: Scalar>(judged: &Judged, y: MatRef<'_, O>) -> Result<Check, Error> {
    let tally = compare(judged, y, |got: O, reference, _| {
        let want = O::from_f32(reference as f32);
        let both_nan = got.to_f32().is_nan() && want.to_f32().is_nan();
        (got.bits() == want.bits() || both_nan, want.to_f64(), 0.0)
    });
    tally.map(Tally::check)
}

/// Judges all of `y` `[M, N]` and checks it against the derived bound, some rows at a time, so that
/// memory does not grow with M.
///
/// # Errors
/// [`Error::Shape`] where the operands do not fit each other, [`Error::Depth`] for K above
/// [`MAX_DEPTH`](crate::judge::MAX_DEPTH).
pub fn verify<'a, T: Element, O: Scalar>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
    y: MatRef<'_, O>,
) -> Result<Check, Error> {
    let w = w.into();
    // Even without rows, what does not fit is an error.
    let mut total = tally(&judge_rows(x, w, epilogue, &[])?, y)?;
    for start in (0..x.rows()).step_by(ROWS_AT_A_TIME) {
        let rows: Vec<usize> = (start..(start + ROWS_AT_A_TIME).min(x.rows())).collect();
        total = total.merge(tally(&judge_rows(x, w, epilogue, &rows)?, y)?);
    }
    Ok(total.check())
}
