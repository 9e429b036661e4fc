//! Is this Y right? The bound is derived, not tuned.
//!
//! Let `u = 2^-24` be the unit roundoff of f32, `z` the exact sum before the activation, and
//! `S = |alpha| * sum |x||w| + |beta * c| + |bias|`, which bounds `|z|`.
//!
//! - The K products of 16-bit floats are exact in f32. Summing them in f32, in any order, errs by at
//!   most `(K - 1) u sum |x||w|` (Jeannerod and Rump 2013: no second-order term). Where products
//!   underflow, each errs by up to half of f32's smallest number besides: `K * 2^-150`.
//! - An epilogue adds at most `E` roundings of quantities that S bounds (`E` is
//!   `layout::params::EPILOGUE_ROUNDINGS`, which covers evaluating the activation, and one more for a row
//!   scale; 0 without an epilogue).
//! - Hopper's kernels evaluate GELU and SiLU in the type of Y where that has 16 bits (`layout::pair`), which is as if
//!   z had an error of `P u_out S + s_out` (P is `layout::pair::PAIR_ROUNDINGS`, 0 for all other epilogues).
//! - The activation enlarges an error of `z` by at most its largest slope.
//!
//! Before the output is rounded the error is therefore at most
//!
//! ```text
//! d = (R + E u + P u_out) * S + T       of z, with R = K u and T = max(|alpha|, 1) * K * 2^-149 + (P > 0) s_out
//! e = slope * d               of act(z)
//! ```
//!
//! **Gated** outputs are `act(g) * v`. As `|act(g)| <= |g|`, and the product is rounded once,
//!
//! ```text
//! e = slope * d_g * S_v + S_g * d_v + slope * d_g * d_v + u * S_g * S_v
//! ```
//!
//! Where v alone is infinite, y is an infinity or NaN by the sign of `act(g)`, which may be all error: any of them
//! is let pass, and 0, which is NaN as int8.
//!
//! A **row scale** multiplies e by its magnitude.
//!
//! Rounding to the output type, of unit roundoff `u_out` and smallest subnormal `s_out`, adds at most
//! `u_out * |ref| + s_out / 2` (and `u_out * e`, which is left out: that makes the bound stricter by
//! a part in 256 of `e` at most), so **`|y - ref| <= u_out |ref| + s_out / 2 + e`**.
//!
//! Infinity is right where `|ref| + e` reaches the magnitude that rounds to it, and a finite y where
//! `|ref| - e` does not. A reference that is NaN or infinite asks for just that. Where an infinite
//! input ends in a finite reference (ReLU of -Inf), nothing is rounded, and y must equal it. The
//! bound says nothing once partial sums may leave the range of f32 (`S / |alpha|` or `S + e` beyond it,
//! possible in bf16 only): they may become infinite, then NaN, and 0 after an activation, and all of that is
//! let pass there.
//!
//! **int8** has `u_out = 0` and `s_out = 1`, and saturates: `ref` is limited to -128..=127 first, so that
//! `|y - ref| <= 1/2 + e` lets a value within e of where two integers meet go either way, and no other. A NaN
//! asks for 0.
//!
//! # Sums in f16
//!
//! A tensor core that accumulates in f16 adds the exact products of a block to the running sum and rounds it to
//! f16, to nearest. What is assumed of it is what was found on V100, T4 and A100 (Fasi, Higham, Mikaitis and
//! Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021), with the narrowest
//! block of the generations from sm_80 on: 8 products, two roundings in an `mma.m16n8k16`, and two in an
//! `mma.sp.m16n8k32`, which has 16 products as well. Inside a block the 9 addends may be truncated to 24 bits of
//! the largest. With `c = 2 * ceil(products / 16)` roundings of running sums, each by half of 2^-10 of at most
//! `sum |x||w|` or by half of f16's smallest number, and by the argument above,
//!
//! ```text
//! R = c * (2^-11 + 9 * 2^-23)      T = max(|alpha|, 1) * (c * 2^-25 + K * 2^-149)
//! ```
//!
//! Running sums that may reach f16's overflow, `sum |x||w| (1 + R) >= 65520`, are treated as those that leave
//! the range of f32.

use rayon::prelude::*;

use crate::element::{Element, OutputOf, Scalar};
use crate::epilogue::Epilogue;
use crate::error::Error;
use crate::gemm::{Weights, check_y};
use crate::judge::{Judged, judge_rows};
use crate::matrix::MatRef;
use half::f16;
use layout::instance::Accumulator;

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

/// What an element should be.
struct Expected {
    reference: f64,
    /// How far off it may be before it is rounded to the output type: 0 where an input is infinite, and
    /// infinite where it may be anything.
    error: f64,
    /// Whether partial sums may have overflowed.
    overflows: bool,
}

/// The errors that a product and its epilogue may have.
struct Errors {
    /// Of z in relation to S, and besides.
    relative: f64,
    absolute: f64,
    slope: f64,
    /// From which S on partial sums may overflow.
    limit: f64,
}

impl Errors {
    fn of(judged: &Judged) -> Self {
        let k = judged.k as f64;
        let smallest = f32::SMALLEST_SUBNORMAL;
        let (sum, tiny, limit) = match judged.accumulator {
            Accumulator::F32 => (k * f32::UNIT_ROUNDOFF, k * smallest, f32::MAX_FINITE),
            Accumulator::F16 => {
                let roundings = 2.0 * judged.terms.div_ceil(16) as f64;
                let sum = roundings * (f16::UNIT_ROUNDOFF + 18.0 * f32::UNIT_ROUNDOFF);
                let tiny = roundings * f16::SMALLEST_SUBNORMAL / 2.0 + k * smallest;
                (sum, tiny, f16::OVERFLOW)
            }
        };
        Self {
            relative: sum + judged.roundings as f64 * f32::UNIT_ROUNDOFF + judged.evaluation.0,
            absolute: tiny * judged.alpha.max(1.0) + judged.evaluation.1,
            slope: judged.max_slope,
            limit: limit * judged.alpha / (1.0 + sum),
        }
    }

    /// Of an element whose product has magnitude `s`, or of gate and value with these.
    fn expect(&self, reference: f64, s: f64, value: Option<f64>, scale: f64) -> Expected {
        let of = |s: f64| self.relative * s + self.absolute;
        let (magnitude, error) = match value {
            None => (s, self.slope * of(s)),
            Some(v) => {
                let gate = self.slope * of(s);
                (s * v, gate * v + s * of(v) + gate * of(v) + f32::UNIT_ROUNDOFF * s * v)
            }
        };
        let (magnitude, error) = (magnitude * scale, error * scale);
        let value = value.unwrap_or(0.0);
        let lost = |s: f64| {
            s.is_finite() && (s + self.slope * of(s) >= f32::MAX_FINITE || s >= self.limit)
        };
        let overflows = lost(s) || lost(value);
        if s.is_finite() && !value.is_finite() {
            // What is left of the gate decides among both infinities and NaN, and may be all error.
            return Expected { reference, error: 0.0, overflows: true };
        }
        if !s.is_finite() {
            return Expected { reference, error: 0.0, overflows };
        }
        let overflows = overflows || magnitude + error >= f32::MAX_FINITE;
        Expected { reference, error, overflows }
    }
}

/// Compares the judged rows of `y`: `decide(got, expected)` gives whether an element is right, what it should
/// be and the bound.
fn compare<O: Scalar>(
    judged: &Judged,
    y: MatRef<'_, O>,
    decide: impl Fn(O, Expected) -> (bool, f64, f64) + Sync,
) -> Result<Tally, Error> {
    check_y((y.rows(), y.cols()), judged.shape.0, judged.shape.1)?;
    let errors = Errors::of(judged);
    let tallies: Vec<Tally> = (0..judged.rows().len())
        .into_par_iter()
        .map(|i| {
            let judged_row = judged.row(i);
            let mut tally = Tally::default();
            let elements = y.row(judged_row.row).iter().zip(judged_row.reference);
            for (col, (&got, &reference)) in elements.enumerate() {
                let s = judged_row.magnitude;
                let (s, value) = match judged.gated {
                    true => (s[2 * col], Some(s[2 * col + 1])),
                    false => (s[col], None),
                };
                let expected = errors.expect(reference, s, value, judged_row.scale);
                let (right, want, bound) = decide(got, expected);
                let row = judged_row.row;
                tally.add(right, Mismatch { row, col, got: got.to_f64(), want, bound });
            }
            tally
        })
        .collect();
    Ok(tallies.into_iter().fold(Tally::default(), Tally::merge))
}

fn tally<O: Scalar>(judged: &Judged, y: MatRef<'_, O>) -> Result<Tally, Error> {
    compare(judged, y, |got: O, expected| {
        let y = got.to_f64();
        let reference = O::saturated(expected.reference);
        let lost = [0.0, O::saturated(f64::INFINITY), O::saturated(f64::NEG_INFINITY)];
        if expected.overflows && (y.is_nan() || lost.contains(&y)) {
            return (true, reference, 0.0);
        }
        if !reference.is_finite() {
            return (y == reference || y.is_nan() && reference.is_nan(), reference, 0.0);
        }
        // An error matters as far as it can move the saturated value.
        let reach = |error: f64| (O::saturated(expected.reference + error) - reference).abs();
        let error = expected.error.min(reach(expected.error).max(reach(-expected.error)));
        let bound = O::UNIT_ROUNDOFF * reference.abs() + O::SMALLEST_SUBNORMAL / 2.0 + error;
        let right = if y.is_finite() {
            (y - reference).abs() <= bound && reference.abs() - error < O::OVERFLOW
        } else {
            // False for NaN.
            y * reference > 0.0 && reference.abs() + error >= O::OVERFLOW
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
    let tally = compare(judged, y, |got: O, expected| {
        let want = O::from_f32(expected.reference as f32);
        let both_nan = got.to_f32().is_nan() && want.to_f32().is_nan();
        (got.bits() == want.bits() || both_nan, want.to_f64(), 0.0)
    });
    tally.map(Tally::check)
}

/// Judges all of `y` and checks it against the derived bound of a product summed in f32, some rows at a time,
/// so that memory does not grow with M.
///
/// # Errors
/// [`Error::Shape`] where the operands do not fit each other, [`Error::GatedFeatures`] for gates without
/// values, [`Error::Depth`] for K above [`MAX_DEPTH`](crate::judge::MAX_DEPTH).
pub fn verify<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
    y: MatRef<'_, O>,
) -> Result<Check, Error> {
    verify_accumulated(x, w, epilogue, y, Accumulator::F32)
}

/// [`verify`] of a product summed in `accumulator`.
///
/// # Errors
/// As [`verify`].
pub fn verify_accumulated<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
    y: MatRef<'_, O>,
    accumulator: Accumulator,
) -> Result<Check, Error> {
    let w = w.into();
    let part =
        |rows: &[usize]| tally(&judge_rows(x, w, epilogue, rows)?.accumulated_in(accumulator), y);
    // Even without rows, what does not fit is an error.
    let mut total = part(&[])?;
    for start in (0..x.rows()).step_by(ROWS_AT_A_TIME) {
        let rows: Vec<usize> = (start..(start + ROWS_AT_A_TIME).min(x.rows())).collect();
        total = total.merge(part(&rows)?);
    }
    Ok(total.check())
}
