//! Reproducible inputs: the same for a seed on every machine and with any number of threads.
//!
//! Row r of a matrix is drawn from stream r of ChaCha8, so a matrix with more rows begins with the
//! rows of a smaller one. Give X and W different seeds, else their rows are equal.

use layout::packed24::Float16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::element::{Element, Scalar};

/// How elements are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Uniform in [-1, 1), rounded to the type (so 1 itself can occur).
    Uniform,
    /// Close to normal, mean 0 and variance 1: the sum of four uniform numbers, within 3.47.
    Normal,
    /// -2, -1, 0, 1 or 2. All sums are exact in f32 up to K = 2^22, whatever the order, and results
    /// are exact in the output type as well up to K = [`exact_depth`].
    Integers,
    /// Uniform, but each eighth element is a signed zero, a one, a subnormal or the smallest normal
    /// number, and about every fourth row holds one Inf, NaN or largest finite number.
    Special,
}

/// The largest K at which a product of two [`Fill::Integers`] matrices is exact in `O` without any
/// rounding: 512 for f16, 64 for bf16, 2^22 for f32.
pub fn exact_depth<O: Scalar>() -> usize {
    (1.0 / O::UNIT_ROUNDOFF) as usize / 4
}

/// A matrix `[rows, cols]`, contiguous. Panics, as any vector, beyond the address space.
pub fn matrix<T: Element>(fill: Fill, seed: u64, rows: usize, cols: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; rows * cols];
    let root = ChaCha8Rng::seed_from_u64(seed);
    out.par_chunks_mut(cols.max(1)).enumerate().for_each(|(row, out)| {
        let mut rng = root.clone();
        rng.set_stream(row as u64);
        match fill {
            Fill::Uniform => out.fill_with(|| T::from_f32(uniform(rng.next_u32()))),
            Fill::Normal => out.fill_with(|| T::from_f32(normal(rng.next_u64()))),
            Fill::Integers => {
                out.fill_with(|| T::from_f32(((rng.next_u32() as u64 * 5) >> 32) as f32 - 2.0))
            }
            Fill::Special => special(&mut rng, out),
        }
    });
    out
}

fn uniform(random: u32) -> f32 {
    const STEP: f32 = 1.0 / (1 << 23) as f32;
    (random >> 8) as f32 * STEP - 1.0
}

fn normal(random: u64) -> f32 {
    let sum: u32 = (0..4).map(|i| (random >> (16 * i) & 0xFFFF) as u32).sum();
    // Four uniform numbers of 0..65536 have standard deviation 65536 / sqrt(3).
    (sum as f32 - 2.0 * 65535.0) * (1.732_050_8 / 65536.0)
}

fn special<T: Element>(rng: &mut ChaCha8Rng, row: &mut [T]) {
    const SIGN: u16 = 0x8000;
    let infinity = T::Format::INFINITY;
    let smallest_normal = infinity & infinity.wrapping_neg();
    let one = T::from_f32(1.0).bits16();
    let small = [0, one, 1, smallest_normal - 1, smallest_normal, smallest_normal / 3];
    let rare = [infinity, infinity | SIGN, infinity | 1, infinity - 1, (infinity - 1) | SIGN];
    for x in row.iter_mut() {
        let random = rng.next_u32();
        let pick = small[(random >> 3 & 0xFFF) as usize % small.len()];
        *x = match random & 7 {
            0 => T::from_bits16(pick | (random >> 16) as u16 & SIGN),
            _ => T::from_f32(uniform(random)),
        };
    }
    let (whether, place) = (rng.next_u32(), rng.next_u64() as usize);
    if whether.is_multiple_of(4) && !row.is_empty() {
        let pick = rare[(whether / 4) as usize % rare.len()];
        row[place % row.len()] = T::from_bits16(pick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn rows_do_not_depend_on_threads_or_height() {
        let wide: Vec<f16> = matrix(Fill::Normal, 7, 40, 33);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone: Vec<f16> = pool.install(|| matrix(Fill::Normal, 7, 13, 33));
        assert_eq!(alone, wide[..13 * 33]);
        assert_ne!(wide[..33], wide[33..66]);
        assert_ne!(wide, matrix::<f16>(Fill::Normal, 8, 40, 33));
    }

    #[test]
    fn moments_are_as_said() {
        for (fill, variance, limit) in
            [(Fill::Uniform, 1.0 / 3.0, 1.0), (Fill::Normal, 1.0, 3.47), (Fill::Integers, 2.0, 2.0)]
        {
            let x: Vec<f64> =
                matrix::<f16>(fill, 1, 100, 1000).iter().map(|x| x.to_f64()).collect();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let second = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            assert!(mean.abs() < 0.02 && (second / variance - 1.0).abs() < 0.02, "{mean} {second}");
            assert!(x.iter().all(|x| x.abs() <= limit));
        }
    }

    #[test]
    fn special_has_everything() {
        let x = matrix::<bf16>(Fill::Special, 3, 200, 64);
        let has = |f: fn(bf16) -> bool| assert!(x.iter().any(|&x| f(x)));
        has(|x| x.is_nan());
        has(|x| x == bf16::INFINITY);
        has(|x| x == bf16::NEG_INFINITY);
        has(|x| x == bf16::MAX);
        has(|x| x.to_bits() == 0x8000);
        has(|x| x.to_bits() == 0x8001);
        has(|x| x.to_bits() == 0x007F);
        has(|x| x == bf16::MIN_POSITIVE);
        assert!(x.iter().filter(|x| !x.is_finite()).count() < 100);
    }

    #[test]
    fn exact_depths() {
        assert_eq!(
            [exact_depth::<f16>(), exact_depth::<bf16>(), exact_depth::<f32>()],
            [512, 64, 1 << 22]
        );
    }

    #[test]
    fn nothing_asked_for() {
        assert!(matrix::<f16>(Fill::Special, 1, 0, 5).is_empty());
        assert!(matrix::<f16>(Fill::Special, 1, 5, 0).is_empty());
    }
}
