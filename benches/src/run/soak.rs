//! The runs after the first: the kernels give the same bits for the same inputs, so a Y that was checked in
//! full checks all later ones, at the cost of a copy to the host and a comparison.

use super::Run;
use crate::cases::Case;
use crate::check::{difference, packed_difference};
use crate::emulator::caught;
use crate::problem::{Number, OutputNumber, Problem};
use anyhow::{Context, Result};

impl Run<'_> {
    /// Computes the rows of [`Run::gemm`] again, over poison, and compares them with the Y that was checked.
    pub(super) fn gemm_again<T: Number, O: OutputNumber<T>>(
        &mut self,
        problem: &Problem<T>,
        sparse: bool,
        cases: &[Case],
    ) -> Result<()> {
        let made = self.backend.gemm::<T, O>(problem, sparse, self.settings.repeat, None);
        let mut gemm = match caught(made)? {
            Ok(gemm) => gemm,
            Err(fault) => return self.all_differ(cases, &fault),
        };
        if let Some(fault) = gemm.fault().map(str::to_owned) {
            return self.all_differ(cases, &fault);
        }
        for case in cases {
            self.progress.set_message(format!("{case}, run {}", self.run));
            if !self.rows[self.next].check.passed {
                self.passed_over();
                continue;
            }
            let y = caught(gemm.y(case.kernel, case.fused, None))?;
            let checked = self.checked.get(&self.next).and_then(|y| y.downcast_ref::<Vec<O>>());
            let checked = checked.context("no checked Y was kept")?;
            let fault = match y {
                Ok(y) => difference("element", &y, checked, O::bits),
                Err(fault) => Some(fault),
            };
            let timed = fault.is_none() && self.backend.is_timed();
            let time = || gemm.time(case.kernel, case.fused, &[]);
            let times = timed.then(time).transpose()?;
            self.again(fault, times.map(|times| times.row.median));
        }
        Ok(())
    }

    /// Packs W again and compares it with the reference.
    pub(super) fn compress_again<T: Number>(
        &mut self,
        problem: &Problem<T>,
        cases: &[Case],
    ) -> Result<()> {
        let made = self.backend.compress(problem, self.settings.repeat, None);
        let mut compress = match caught(made)? {
            Ok(compress) => compress,
            Err(fault) => return self.all_differ(cases, &fault),
        };
        for _ in cases {
            if !self.rows[self.next].check.passed {
                self.passed_over();
                continue;
            }
            let fault = match caught(compress.packed())? {
                Ok(Ok(packed)) => packed_difference(&packed, problem.packed()?),
                Ok(Err(fault)) | Err(fault) => Some(fault),
            };
            let timed = fault.is_none() && self.backend.is_timed();
            let times = timed.then(|| compress.time(&[])).transpose()?;
            self.again(fault, times.map(|times| times.row.median));
        }
        Ok(())
    }

    /// Rows whose operands already went wrong.
    fn all_differ(&mut self, cases: &[Case], fault: &str) -> Result<()> {
        for _ in cases {
            match self.rows[self.next].check.passed {
                true => self.again(Some(fault.to_owned()), None),
                false => self.passed_over(),
            }
        }
        Ok(())
    }

    /// The next row was wrong in an earlier run.
    fn passed_over(&mut self) {
        self.next += 1;
        self.progress.inc(1);
    }

    /// The next row was computed again.
    fn again(&mut self, fault: Option<String>, median_us: Option<f64>) {
        let row = &mut self.rows[self.next];
        row.later_runs_us.push(median_us);
        if let Some(fault) = fault {
            row.fail(format!("run {}: {fault}", self.run));
        }
        self.passed_over();
    }
}
