//! Whether a row is right.

use crate::emulator;
use reference::{Check, Element, Mismatch, Packed};

/// The outcome of a row's check.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether everything is right.
    pub passed: bool,
    /// How it was found out: `f64`, every element against the reference in f64 with the derived
    /// bound; `bits`, bit for bit; `emulator`, a kernel broke a rule that the emulator watches over,
    /// and there is no result.
    pub method: &'static str,
    /// Of an `f64` check, its figures.
    pub errors: Option<Errors>,
    /// What is wrong.
    pub fault: Option<String>,
}

/// How far Y is from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Largest absolute error.
    pub max_abs: f64,
    /// Frobenius norm of the error over that of the reference.
    pub rel_fro: f64,
    /// The bound at the element that comes nearest to its own, or exceeds it most.
    pub tolerance: f64,
}

impl Verdict {
    /// Of a comparison bit for bit, that found `difference`.
    pub fn bits(difference: Option<String>) -> Self {
        Self { passed: difference.is_none(), method: "bits", errors: None, fault: difference }
    }

    /// Of a launch that the emulator rejected.
    pub fn rejected(fault: String) -> Self {
        Self { passed: false, method: emulator::BACKEND, errors: None, fault: Some(fault) }
    }
}

impl From<Check> for Verdict {
    fn from(check: Check) -> Self {
        let Check { passed, wrong, elements, max_abs, rel_fro, tolerance, worst, .. } = check;
        let fault = worst.filter(|_| !passed).map(|Mismatch { row, col, got, want, bound }| {
            format!(
                "y[{row}, {col}] is {got}, must be {want:.6} within {bound:.1e}; \
                 {wrong} of {elements} elements wrong"
            )
        });
        let errors = Some(Errors { max_abs, rel_fro, tolerance });
        Self { passed, method: "f64", errors, fault }
    }
}

/// Where two packed matrices of the same extents first differ, in bits.
pub fn packed_difference<T: Element>(got: &Packed<T>, want: &Packed<T>) -> Option<String> {
    difference("value", got.values(), want.values(), T::bits)
        .or_else(|| difference("metadata word", got.metadata(), want.metadata(), |word| word))
}

/// Where two lists of the same length first differ, in bits.
pub fn difference<T: Copy>(
    what: &str,
    got: &[T],
    want: &[T],
    bits: impl Fn(T) -> u32,
) -> Option<String> {
    let differ = |(&got, &want): (&T, &T)| bits(got) != bits(want);
    // First: a count without an early end is vectorised, a search is not.
    let wrong = got.iter().zip(want).filter(|&pair| differ(pair)).count();
    let at = got.iter().zip(want).position(differ)?;
    let (got, want, of) = (bits(got[at]), bits(want[at]), want.len());
    Some(format!("{what} {at} is {got:#x}, must be {want:#x}; {wrong} of {of} wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use reference::{Epilogue, MatRef, check, judge};

    #[test]
    fn a_wrong_element_is_named() {
        let ones = [f16::ONE; 8];
        let one = MatRef::contiguous(&ones, 2, 4).unwrap();
        let judged = judge(one, one, &Epilogue::<f16>::default()).unwrap();
        let mut y = [f16::from_f32(4.0); 4];
        let verdict = |y: &[f16]| {
            Verdict::from(check(&judged, MatRef::contiguous(y, 2, 2).unwrap()).unwrap())
        };
        assert!(verdict(&y).passed);
        assert_eq!(verdict(&y).fault, None);
        y[2] = f16::NAN;
        assert!(!verdict(&y).passed);
        let fault = verdict(&y).fault.unwrap();
        assert!(fault.starts_with("y[1, 0] is NaN, must be 4.000000 within"), "{fault}");
        assert!(fault.ends_with("1 of 4 elements wrong"), "{fault}");
    }

    #[test]
    fn a_wrong_bit_is_named() {
        let pack =
            |w: &[f16]| Packed::prune_and_pack(MatRef::contiguous(w, 1, 4).unwrap()).unwrap();
        let [a, b] = [[1.0, 2.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0]];
        let [a, b] = [a, b].map(|w| pack(&w.map(f16::from_f32)));
        assert_eq!(packed_difference(&a, &a), None);
        let difference = packed_difference(&a, &b).unwrap();
        assert_eq!(difference, "metadata word 0 is 0x44444444, must be 0x44444448; 1 of 32 wrong");
    }
}
