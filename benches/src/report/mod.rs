//! The rows that were measured, and the three ways they are shown.

pub mod json;
mod peers;
pub mod table;
mod tuned;

pub use peers::Peer;

use crate::cases::{Case, Group};
use crate::check::Verdict;
use crate::contest::paired_ratio;
use crate::emulator::{self, Emulation};
use crate::environment::Environment;
use crate::kernel::Op;
use serde::Serialize;
use sparseflow::measure::Times;

/// A whole measurement.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// In the order in which they were measured.
    pub rows: &'a [Row],
    /// On what.
    pub environment: &'a Environment,
    /// The suites that the rows come from.
    pub groups: &'a [Group],
    /// What later runs found.
    pub soak: Option<Soak>,
}

/// A measured row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub case: Case,
    /// Name of the backend.
    pub backend: &'static str,
    /// Whether it is right.
    pub check: Verdict,
    /// What the checked launch did, where the emulator ran it to its end.
    pub emulation: Option<Emulation>,
    /// The vendor's libraries on the same operands.
    pub peers: Vec<Peer>,
    /// Times of the same kernel without an epilogue, from the same stretch, where the row has more.
    pub bare: Option<Times>,
    /// Of each later run that computed it again: its median time, where it was right and is timed.
    pub later_runs_us: Vec<Option<f64>>,
    times: Option<Times>,
    bytes: u64,
}

impl Row {
    /// A row whose kernel cannot do without moving `bytes`. Times of a wrong result count for nothing.
    pub fn new(
        case: Case,
        backend: &'static str,
        check: Verdict,
        times: Option<Times>,
        bytes: u64,
    ) -> Self {
        let times = times.filter(|_| check.passed);
        Self {
            case,
            backend,
            check,
            emulation: None,
            peers: Vec::new(),
            bare: None,
            later_runs_us: Vec::new(),
            times,
            bytes,
        }
    }

    /// The same row with what its launch did.
    pub fn counted(self, emulation: Option<Emulation>) -> Self {
        Self { emulation, ..self }
    }

    /// The same row beside what peers made of it.
    pub fn beside(self, peers: Vec<Peer>) -> Self {
        Self { peers, ..self }
    }

    /// The same row beside the times of its kernel without an epilogue.
    pub fn against(self, bare: Option<Times>) -> Self {
        Self { bare, ..self }
    }

    /// A later run gave other bits: the row is wrong after all.
    pub fn fail(&mut self, fault: String) {
        self.check = Verdict::bits(Some(fault));
        self.times = None;
    }

    /// How much longer it takes than its kernel without an epilogue: [`paired_ratio`].
    pub fn bare_ratio(&self) -> Option<f64> {
        paired_ratio(&self.times()?.samples, &self.bare.as_ref()?.samples)
    }

    /// Whether it ran on the emulator, where counters take the place of times.
    pub fn is_emulated(&self) -> bool {
        self.backend == emulator::BACKEND
    }

    /// Its times, where it is right.
    pub fn times(&self) -> Option<&Times> {
        self.times.as_ref()
    }

    /// 2MNK over the median time, in 10^12 a second, whether or not W is sparse.
    pub fn tflops(&self) -> Option<f64> {
        self.times().and_then(|times| self.tflops_in(times))
    }

    /// The same of any `times` of this row's product.
    pub fn tflops_in(&self, times: &Times) -> Option<f64> {
        let gemm = self.case.op != Op::Compress;
        gemm.then(|| self.case.shape.flops() / times.median / 1e6)
    }

    /// What was computed of that: half, where W is sparse.
    pub fn tflops_executed(&self) -> Option<f64> {
        let share = if self.case.op == Op::Sparse { 0.5 } else { 1.0 };
        self.tflops().map(|tflops| tflops * share)
    }

    /// The bytes that had to be moved over the median time: X, W as stored, C and Y of a product, the
    /// W read of a compression. In 10^9 a second.
    pub fn gb_per_s(&self) -> Option<f64> {
        self.times().map(|times| self.bytes as f64 / times.median / 1e3)
    }
}

/// What `--runs` found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Soak {
    /// Runs that were asked for.
    pub runs: u32,
    /// Rows that were computed and checked, over all runs.
    pub rows: usize,
    /// Of them the wrong ones; a row that was wrong is not computed again.
    pub errors: usize,
}

impl Soak {
    /// The sum over `rows`, where there was more than one run.
    pub fn of(runs: u32, rows: &[Row]) -> Option<Self> {
        let errors = rows.iter().filter(|row| !row.check.passed).count();
        let rows = rows.iter().map(|row| 1 + row.later_runs_us.len()).sum();
        (runs > 1).then_some(Self { runs, rows, errors })
    }
}

/// Whether every row is right.
pub fn passed(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.check.passed)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::check::Errors;
    use crate::kernel::Kernel;
    use layout::instance::Dtype;
    use layout::params::Output;
    use ptx_emulator::{Bytes, Counters, GlobalSite, SharedSite};
    use sparseflow::epilogue::Fused;

    /// A row that took 4, 5 and 6 microseconds, right or wrong.
    pub fn row(op: Op, passed: bool) -> Row {
        let dtype = Dtype::F16;
        let shape = "1000x2000x3000".parse().unwrap();
        let kernel = Kernel::Cpu(op, dtype);
        let (fused, output) = (Fused::default(), Output::Input);
        let case = Case { op, kernel, dtype, fused, output, tuned: None, shape };
        let fault = (!passed).then(|| "y[1, 2] is NaN, must be 3".to_owned());
        let errors = Some(Errors { max_abs: 0.25, rel_fro: 0.125, tolerance: 0.5 });
        let check = Verdict { passed, method: "f64", errors, fault };
        Row::new(case, "cpu", check, Times::new(vec![6.0, 5.0, 4.0]), 10_000)
    }

    /// A row of the emulator, with counters where it is right.
    pub fn emulated(op: Op, passed: bool) -> Row {
        let site = |requests, ideal, wavefronts| SharedSite { requests, ideal, wavefronts };
        let counters = Counters {
            families: [("mma", 128), ("ldmatrix", 64)].into(),
            instructions: 4000,
            lane_instructions: 120_000,
            mma: 128,
            barriers: 3,
            divergent_branches: 5,
            bytes: Bytes {
                global_read: 16_384,
                global_written: 8192,
                shared_read: 4096,
                shared_written: 2048,
                local: 0,
            },
            shared_sites: [(10, site(8, 16, 20)), (11, site(1, 1, 1))].into(),
            global_sites: [(12, GlobalSite { requests: 4, sectors: 10, bytes: 64 })].into(),
        };
        let emulation = passed.then_some(Emulation { counters, seconds: 0.25 });
        let row = Row { backend: emulator::BACKEND, times: None, ..row(op, passed) };
        row.counted(emulation)
    }

    #[test]
    fn figures_by_hand() {
        let dense = row(Op::Dense, true);
        assert_eq!((dense.tflops(), dense.tflops_executed()), (Some(2400.0), Some(2400.0)));
        assert_eq!(dense.gb_per_s(), Some(2.0));
        let sparse = row(Op::Sparse, true);
        assert_eq!((sparse.tflops(), sparse.tflops_executed()), (Some(2400.0), Some(1200.0)));
        let compress = row(Op::Compress, true);
        assert_eq!((compress.tflops(), compress.gb_per_s()), (None, Some(2.0)));
    }

    #[test]
    fn runs_are_summed_up() {
        let mut rows = [row(Op::Dense, true), row(Op::Sparse, true), row(Op::Dense, false)];
        assert_eq!(Soak::of(1, &rows), None);
        rows[0].later_runs_us = vec![Some(5.0); 2];
        rows[1].later_runs_us = vec![None];
        rows[1].fail("run 2: element 3 is".to_owned());
        assert!(rows[1].times().is_none() && !rows[1].check.passed);
        assert_eq!(Soak::of(3, &rows), Some(Soak { runs: 3, rows: 6, errors: 2 }));
    }

    #[test]
    fn a_wrong_row_has_no_figures_and_fails_the_report() {
        let wrong = row(Op::Dense, false);
        assert_eq!((wrong.times(), wrong.tflops()), (None, None));
        assert_eq!((wrong.tflops_executed(), wrong.gb_per_s()), (None, None));
        assert!(!passed(&[row(Op::Dense, true), wrong]));
        assert!(passed(&[row(Op::Dense, true)]));
    }
}
