//! Rows on the CPU: the crate `reference` in f32.

use crate::backend::{Compress, Gemm, Timed};
use crate::kernel::Kernel;
use crate::peers::Outcome;
use crate::problem::{Extras, Number, OutputNumber, Problem};
use anyhow::{Context, Result};
use reference::{MatMut, Packed, Scalar, gemm};
use sparseflow::epilogue::Fused;
use sparseflow::measure::Times;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs of a timing where the command line does not say.
const REPEAT: u32 = 5;
/// Such a timing ends with the run in which this is over.
const ENOUGH: Duration = Duration::from_millis(500);

/// A product.
pub struct CpuGemm<'a, T> {
    /// Its operands.
    pub problem: &'a Problem<T>,
    /// Whether W is sparse.
    pub sparse: bool,
    /// Runs of a timing.
    pub repeat: Option<u32>,
}

impl<T: Number> CpuGemm<'_, T> {
    fn run<O: OutputNumber<T>>(
        &self,
        fused: Fused,
        extras: &Extras<T, O>,
        y: &mut [O],
    ) -> Result<()> {
        let problem = self.problem;
        let mut y = MatMut::contiguous(y, problem.shape.m, problem.columns(fused))?;
        let epilogue = problem.epilogue(fused, extras)?;
        Ok(gemm(problem.x_view()?, problem.weights(self.sparse)?, &epilogue, &mut y)?)
    }

    fn filled<O: Scalar>(&self, fused: Fused, with: O) -> Vec<O> {
        vec![with; self.problem.shape.m * self.problem.columns(fused)]
    }
}

impl<T: Number, O: OutputNumber<T>> Gemm<T, O> for CpuGemm<'_, T> {
    fn fault(&self) -> Option<&str> {
        None
    }

    fn y(&mut self, _: Kernel, fused: Fused, over: Option<O>) -> Result<Vec<O>> {
        let mut y = self.filled(fused, over.unwrap_or(O::from_f32(f32::NAN)));
        self.run(fused, &self.problem.extras(fused), &mut y)?;
        Ok(y)
    }

    fn peers(&mut self, _: Fused) -> Vec<Outcome<T>> {
        Vec::new()
    }

    fn time(&mut self, _: Kernel, fused: Fused, _: &[&'static str]) -> Result<Timed> {
        let (extras, mut y) = (self.problem.extras(fused), self.filled(fused, O::ZERO));
        Ok(Timed::alone(time(self.repeat, || self.run(fused, &extras, black_box(&mut y)))?))
    }
}

/// Pruning and packing W.
pub struct CpuCompress<'a, T> {
    /// Where W is.
    pub problem: &'a Problem<T>,
    /// Runs of a timing.
    pub repeat: Option<u32>,
}

impl<T: Number> Compress<T> for CpuCompress<'_, T> {
    fn packed(&mut self) -> Result<Result<Packed<T>, String>> {
        Ok(Ok(Packed::prune_and_pack(self.problem.w_view()?)?))
    }

    fn peers(&mut self) -> Vec<Outcome<T>> {
        Vec::new()
    }

    fn time(&mut self, _: &[&'static str]) -> Result<Timed> {
        let times = time(self.repeat, || {
            black_box(Packed::prune_and_pack(self.problem.w_view()?)?);
            Ok(())
        })?;
        Ok(Timed::alone(times))
    }
}

fn time(repeat: Option<u32>, mut run: impl FnMut() -> Result<()>) -> Result<Times> {
    let mut samples = Vec::new();
    let begin = Instant::now();
    for _ in 0..repeat.unwrap_or(REPEAT) {
        let start = Instant::now();
        run()?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
        if repeat.is_none() && begin.elapsed() > ENOUGH {
            break;
        }
    }
    Times::new(samples).context("no run was timed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn what_is_asked_for_is_run_and_no_more() {
        let runs = |repeat, pause| {
            let mut runs = 0;
            let times = time(repeat, || {
                runs += 1;
                sleep(pause);
                Ok(())
            });
            assert_eq!(times.unwrap().samples.len(), runs);
            runs
        };
        assert_eq!(runs(Some(9), Duration::ZERO), 9);
        assert_eq!(runs(None, Duration::ZERO), 5);
        assert_eq!(runs(None, Duration::from_millis(300)), 2);
    }
}
