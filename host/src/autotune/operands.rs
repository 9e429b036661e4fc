//! Random operands for a problem, several times over, in device memory of the tuner's own.

use super::Problem;
use crate::device::{Device, Memory};
use crate::epilogue::{Epilogue, Fused};
use crate::error::Result;
use crate::gemm::{Plan, Weight, stores};
use crate::matrix::{Matrix, OutputOf, Value};
use crate::measure::rotation;
use crate::packed::PackedWeight;
use crate::schedule::Choice;
use layout::packed24::LEGAL_NIBBLES;
use layout::params::{ALIGNED_EPILOGUE, ALIGNED_STORE, ALIGNED_W, ALIGNED_X, Output};
use reference::Element;
use reference::random::{Fill, matrix};
use std::sync::Arc;

/// Random elements are drawn in rows of so many.
const COLS: usize = 4096;
/// Most rows that are drawn; larger operands repeat them.
const MOST_ROWS: usize = 1024;
/// Most words of metadata that are drawn.
const MOST_WORDS: usize = 1 << 18;
/// The seed that they are drawn from.
const SEED: u64 = 0x2463;

/// What one launch takes.
struct Set<T: Element, O: OutputOf<T>> {
    x: Matrix<T>,
    w: Operand<T>,
    bias: Option<Matrix<T>>,
    c: Option<Matrix<O::Addend>>,
    row_scale: Option<Matrix<f32>>,
    y: Matrix<O>,
    /// Of X, W and Y.
    bytes: u64,
}

enum Operand<T> {
    Dense(Matrix<T>),
    Sparse(PackedWeight<T>),
}

impl<T> Operand<T> {
    fn weight(&self) -> Weight<'_, T> {
        match self {
            Self::Dense(w) => Weight::Dense(w),
            Self::Sparse(w) => Weight::Sparse(w),
        }
    }
}

/// Sets to rotate among, so that no launch finds in L2 what the one before it has read.
pub struct Operands<T: Element, O: OutputOf<T>> {
    fused: Fused,
    sets: Vec<Set<T, O>>,
}

impl<T: Element + Value, O: OutputOf<T>> Operands<T, O> {
    /// As many sets as [`rotation`] asks for, one where it fills L2 four times, or as many as fit the device.
    ///
    /// # Errors
    /// Not even one fits, or what the device says.
    pub fn new(device: &Arc<dyn Device>, problem: &Problem) -> Result<Self> {
        let Problem { m, n, k, .. } = *problem;
        let rows = m.max(n).saturating_mul(n.max(k)).div_ceil(COLS).clamp(1, MOST_ROWS);
        let random = matrix::<T>(Fill::Uniform, SEED, rows, COLS);
        let words = if problem.sparse { MOST_WORDS } else { 0 };
        let metadata: Vec<u32> =
            random.iter().take(words).map(|value| legal_metadata(value.bits16())).collect();
        let set = || Set::new(device, problem, &random, &metadata);
        let first = set()?;
        // A launch that takes so much finds nothing of its own beginning in L2.
        let alone = first.bytes >= 4 * device.info().l2_bytes;
        let wanted = if alone { 1 } else { rotation(first.bytes, device.info().l2_bytes) };
        let mut sets = vec![first];
        while sets.len() < wanted {
            match set() {
                Ok(set) => sets.push(set),
                Err(error) => {
                    let made = sets.len();
                    tracing::warn!(%error, made, wanted, "tuning with fewer sets of operands");
                    break;
                }
            }
        }
        Ok(Self { fused: problem.fused, sets })
    }

    /// Launches of `choice`, one for each set.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plans(&mut self, choice: Choice) -> Result<Vec<Plan<'_>>> {
        let fused = self.fused;
        self.sets.iter_mut().map(|set| set.plan(choice, fused)).collect()
    }
}

impl<T: Element + Value, O: OutputOf<T>> Set<T, O> {
    /// Operands with the extents and the alignment of `problem`.
    fn new(
        device: &Arc<dyn Device>,
        problem: &Problem,
        random: &[T],
        metadata: &[u32],
    ) -> Result<Self> {
        let Problem { m, n, k, aligned, .. } = *problem;
        let bytes: &[u8] = bytemuck::cast_slice(random);
        let x = strided(device, m, k, aligned & ALIGNED_X != 0)?;
        fill(x.memory(), bytes)?;
        let (w, w_bytes) = match problem.sparse {
            true => {
                let w = PackedWeight::allocate(device, n, k)?;
                fill(w.values(), bytes)?;
                fill(w.metadata(), bytemuck::cast_slice(metadata))?;
                let bytes = w.bytes();
                (Operand::Sparse(w), bytes)
            }
            false => {
                let w: Matrix<T> = strided(device, n, k, aligned & ALIGNED_W != 0)?;
                fill(w.memory(), bytes)?;
                let bytes = w.memory().bytes();
                (Operand::Dense(w), bytes)
            }
        };
        let fused = problem.fused;
        let columns = if fused.gated { n / 2 } else { n };
        let y: Matrix<O> = y(device, problem, columns)?;
        let c = || strided(device, m, n, aligned & ALIGNED_EPILOGUE != 0);
        let c: Option<Matrix<O::Addend>> = fused.residual.then(c).transpose()?;
        let vector = |cols| Matrix::uninitialized(device, 1, cols);
        let bias: Option<Matrix<T>> = fused.bias.then(|| vector(n)).transpose()?;
        let scaled = problem.output == Output::Int8;
        let scales = || Matrix::uninitialized(device, 1, m);
        let row_scale: Option<Matrix<f32>> = scaled.then(scales).transpose()?;
        // In f32, too, these bits are finite numbers.
        c.iter().try_for_each(|c| fill(c.memory(), bytes))?;
        bias.iter().try_for_each(|bias| fill(bias.memory(), bytes))?;
        row_scale.iter().try_for_each(|scales| fill(scales.memory(), bytes))?;
        let bytes = x.memory().bytes() + w_bytes + y.memory().bytes();
        Ok(Self { x, w, bias, c, row_scale, y, bytes })
    }

    fn plan(&mut self, choice: Choice, fused: Fused) -> Result<Plan<'_>> {
        let Self { x, w, bias, c, row_scale, y, .. } = self;
        let epilogue = epilogue(bias.as_ref(), c.as_ref(), row_scale.as_ref(), fused);
        Plan::new(Some(choice), x, w.weight(), &epilogue, y)
    }
}

fn epilogue<'a, T: Element, O: OutputOf<T>>(
    bias: Option<&'a Matrix<T>>,
    c: Option<&'a Matrix<O::Addend>>,
    row_scale: Option<&'a Matrix<f32>>,
    fused: Fused,
) -> Epilogue<'a, T, O> {
    let beta = if c.is_some() { 1.0 } else { 0.0 };
    let Fused { activation, gated, .. } = fused;
    Epilogue { alpha: 1.0, beta, c, bias, activation, gated, row_scale }
}

/// A matrix whose rows begin at multiples of 16 bytes, or do not.
fn strided<V: Value>(
    device: &Arc<dyn Device>,
    rows: usize,
    cols: usize,
    aligned: bool,
) -> Result<Matrix<V>> {
    let stride = match aligned {
        true => cols.next_multiple_of(8),
        false => cols + usize::from(cols.is_multiple_of(4)),
    };
    Matrix::uninitialized(device, rows, stride)?.view(0, 0, rows, cols)
}

/// A Y aligned as `problem` says.
fn y<V: Value>(device: &Arc<dyn Device>, problem: &Problem, columns: usize) -> Result<Matrix<V>> {
    let Problem { m, fused, output, aligned, .. } = *problem;
    let by_fours = aligned & ALIGNED_EPILOGUE != 0;
    if aligned & ALIGNED_STORE != 0 || !by_fours || !stores(output, fused.gated, fused.residual) {
        return strided(device, m, columns, by_fours);
    }
    // Multiples of 8 bytes, but not of 16.
    let stride = columns.next_multiple_of(4);
    let stride = stride + if stride.is_multiple_of(8) { 4 } else { 0 };
    Matrix::uninitialized(device, m, stride)?.view(0, 0, m, columns)
}

/// Fills `memory` with `block`, over and over.
fn fill(memory: &dyn Memory, block: &[u8]) -> Result<()> {
    let mut at = 0;
    while at < memory.bytes() {
        let length = (memory.bytes() - at).min(block.len() as u64);
        memory.upload(at, &block[..length as usize])?;
        at += length;
    }
    Ok(())
}

/// A word of Packed24 metadata that `seed` decides.
fn legal_metadata(seed: u16) -> u32 {
    let mut state = seed as u32 | 0x1_0000;
    let mut word = 0;
    for _ in 0..8 {
        // A Lehmer generator of 31 bits (Park and Miller 1988).
        state = (state as u64 * 48271 % 0x7FFF_FFFF) as u32;
        word = word << 4 | LEGAL_NIBBLES[state as usize % LEGAL_NIBBLES.len()] as u32;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmulatedDevice;
    use half::{bf16, f16};
    use layout::activation::Activation;
    use layout::instance::Dtype;
    use layout::packed24::is_legal;
    use reference::Scalar;

    #[test]
    fn metadata_is_legal_and_varied() {
        let words: Vec<u32> = (0..1000).map(legal_metadata).collect();
        assert!(words.iter().all(|word| (0..8).all(|i| is_legal((word >> (4 * i) & 15) as u8))));
        let mut different = words.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > 900);
    }

    fn check<T: Element + Value, O: OutputOf<T>>(problem: Problem) {
        let device = EmulatedDevice::open(1);
        let operands = Operands::<T, O>::new(&device, &problem).unwrap();
        assert_eq!(operands.sets.len(), 1, "the emulator has no L2");
        for set in &operands.sets {
            let Set { bias, c, row_scale, .. } = set;
            let epilogue = epilogue(bias.as_ref(), c.as_ref(), row_scale.as_ref(), problem.fused);
            let of = Problem::of(&set.x, &set.w.weight(), &epilogue, &set.y);
            assert_eq!(of, problem);
            assert!(set.x.to_vec().unwrap().iter().any(|x| x.to_f32() != 0.0));
            let c = set.c.as_ref().map(|c| c.to_vec().unwrap()).unwrap_or_default();
            assert!(c.iter().all(|c| c.to_f32().is_finite()));
            // Where W is padded, the padding is random too, which the host refuses.
            if let (Operand::Sparse(w), 64) = (&set.w, problem.k) {
                w.to_host().unwrap();
            }
        }
    }

    #[test]
    fn operands_are_those_of_the_problem() {
        let gelu = Activation::Gelu;
        let bias = Fused { bias: true, activation: gelu, ..Default::default() };
        let residual = Fused { residual: true, ..Default::default() };
        let gated = Fused { gated: true, ..bias };
        for (m, n, k) in [(3, 16, 64), (17, 33, 40), (5, 12, 20), (1, 1, 1)] {
            for sparse in [false, true] {
                let plain = Problem::new(sparse, Dtype::F16, m, n, k);
                check::<f16, f16>(plain);
                check::<f16, f32>(plain.with_epilogue(residual, Output::F32));
                check::<f16, i8>(plain.with_epilogue(residual, Output::Int8));
                if n.is_multiple_of(2) {
                    check::<f16, f16>(plain.with_epilogue(gated, Output::Input));
                }
                let bits = if sparse { ALIGNED_W } else { 0 };
                for aligned in [bits, bits | ALIGNED_X, bits | ALIGNED_EPILOGUE] {
                    let plain = Problem::new(sparse, Dtype::Bf16, m, n, k);
                    check::<bf16, bf16>(Problem { aligned, fused: bias, ..plain });
                    check::<bf16, f32>(Problem { aligned, output: Output::F32, ..plain });
                }
            }
        }
    }
}
