//! The rows, one after the other: computed over poison, checked, and only then timed. On the emulator
//! the checked run is counted, and nothing is timed. With `--runs` all of it is computed again after that, and
//! compared with what was checked.

mod soak;

use crate::backend::{Backend, Timed};
use crate::cases::Case;
use crate::check::{Verdict, difference, packed_difference};
use crate::emulator::caught;
use crate::kernel::Op;
use crate::npy::{self, Dumped};
use crate::peers::{Outcome, PROBE_ROWS, Peers};
use crate::problem::{Extras, Number, OutputNumber, Problem};
use crate::report::{Peer, Row};
use anyhow::{Context, Result};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use layout::instance::Dtype;
use layout::params::Output;
use reference::random::Fill;
use reference::{Judged, MatRef, check};
use sparseflow::epilogue::Fused;
use sparseflow::peers::fused_form;
use std::any::Any;
use std::collections::HashMap;
use std::path::Path;

/// How rows are measured.
pub struct Settings<'a> {
    /// How often all rows are computed, the first time checked in full.
    pub runs: u32,
    /// Timed launches of a row, in each run.
    pub repeat: Option<u32>,
    /// Seed of the inputs.
    pub seed: u64,
    /// How the random inputs are drawn.
    pub fill: Fill,
    /// Where inputs and outputs are written.
    pub dump: Option<&'a Path>,
    /// The vendor's libraries to measure beside the rows.
    pub peers: Option<&'a Peers>,
}

/// A measurement under way.
pub struct Run<'a> {
    backend: &'a Backend,
    settings: &'a Settings<'a>,
    progress: ProgressBar,
    rows: Vec<Row>,
    /// The run under way, from 1.
    run: u32,
    /// Of a later run, the row that is next.
    next: usize,
    /// By row, the Y that was checked (a vector), where there are later runs.
    checked: HashMap<usize, Box<dyn Any>>,
}

/// The operands of one shape.
enum Operands {
    F16(Problem<f16>),
    Bf16(Problem<bf16>),
}

impl Operands {
    fn new(case: &Case, Settings { seed, fill, .. }: &Settings<'_>) -> Self {
        match case.dtype {
            Dtype::F16 => Self::F16(Problem::new(case.shape, *seed, *fill)),
            Dtype::Bf16 => Self::Bf16(Problem::new(case.shape, *seed, *fill)),
        }
    }
}

impl<'a> Run<'a> {
    /// Measures `cases`. Rows come back even where one of them ends in an error.
    pub fn all(
        cases: &[Case],
        backend: &'a Backend,
        settings: &'a Settings<'a>,
    ) -> (Vec<Row>, Result<()>) {
        // Draws on stderr, and only where that is a terminal.
        let progress = ProgressBar::new(cases.len() as u64 * u64::from(settings.runs));
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
            progress.set_style(style);
        }
        let mut run = Self {
            backend,
            settings,
            progress,
            rows: Vec::new(),
            run: 1,
            next: 0,
            checked: HashMap::new(),
        };
        let result = run.runs(cases);
        run.progress.finish_and_clear();
        (run.rows, result)
    }

    fn runs(&mut self, cases: &[Case]) -> Result<()> {
        let same = |a: &Case, b: &Case| (a.dtype, a.shape) == (b.dtype, b.shape);
        // Between runs operands stay on the host: drawing and packing them would take most of the time.
        let mut shapes: Vec<_> = cases.chunk_by(same).map(|cases| (cases, None)).collect();
        for run in 1..=self.settings.runs {
            (self.run, self.next) = (run, 0);
            for (cases, kept) in &mut shapes {
                let operands =
                    kept.take().unwrap_or_else(|| Operands::new(&cases[0], self.settings));
                match &operands {
                    Operands::F16(problem) => self.shape(problem, cases)?,
                    Operands::Bf16(problem) => self.shape(problem, cases)?,
                }
                *kept = (run < self.settings.runs).then_some(operands);
            }
        }
        Ok(())
    }

    /// Rows of one type and shape.
    fn shape<T: Number>(&mut self, problem: &Problem<T>, cases: &[Case]) -> Result<()> {
        cases.chunk_by(|a, b| (a.op, a.output) == (b.op, b.output)).try_for_each(|cases| {
            let sparse = cases[0].op == Op::Sparse;
            let measured = match (cases[0].op, cases[0].output) {
                (Op::Compress, _) => self.compress(problem, cases),
                (_, Output::Input) => self.gemm::<T, T>(problem, sparse, cases),
                (_, Output::F32) => self.gemm::<T, f32>(problem, sparse, cases),
                (_, Output::Int8) => self.gemm::<T, i8>(problem, sparse, cases),
            };
            measured.with_context(|| format!("measuring {}, run {}", cases[0], self.run))
        })
    }

    /// Rows that multiply by the same W to a Y of type `O`. Those with the same epilogue are judged once.
    fn gemm<T: Number, O: OutputNumber<T>>(
        &mut self,
        problem: &Problem<T>,
        sparse: bool,
        cases: &[Case],
    ) -> Result<()> {
        if self.run > 1 {
            return self.gemm_again::<T, O>(problem, sparse, cases);
        }
        let (m, name) = (problem.shape.m, self.backend.name());
        self.progress.set_message(cases[0].to_string());
        let repeat = self.settings.repeat;
        let bytes = |case: &Case| problem.gemm_bytes::<O>(sparse, case.fused);
        let made = self.backend.gemm::<T, O>(problem, sparse, repeat, self.settings.peers);
        let mut gemm = match caught(made)? {
            Ok(gemm) => gemm,
            Err(fault) => return self.reject(cases, &Verdict::rejected(fault), bytes),
        };
        if let Some(fault) = gemm.fault() {
            return self.reject(cases, &Verdict::bits(Some(fault.to_owned())), bytes);
        }
        for cases in cases.chunk_by(|a, b| a.fused == b.fused) {
            let fused = cases[0].fused;
            let n = problem.columns(fused);
            let extras = problem.extras::<O>(fused);
            let mut judged = problem.judge(sparse, fused, &extras)?;
            let outcomes = gemm.peers(fused);
            let peers = match fused_form(fused) {
                // Peers have another form of the epilogue, which is judged by itself.
                Some(form) if form != fused && !outcomes.is_empty() => {
                    judge_peers(outcomes, form, &problem.judge(sparse, form, &extras)?, (m, n))?
                }
                _ => judge_peers(outcomes, fused, &judged, (m, n))?,
            };
            for case in cases {
                self.progress.set_message(case.to_string());
                let run = || gemm.y(case.kernel, case.fused, None);
                let (y, emulation) = match caught(self.backend.counted(case.kernel, run))? {
                    Ok(result) => result,
                    Err(fault) => {
                        self.reject(&[*case], &Verdict::rejected(fault), bytes)?;
                        continue;
                    }
                };
                judged = judged.accumulated_in(case.kernel.accumulator());
                let mut verdict = Verdict::from(check(&judged, MatRef::contiguous(&y, m, n)?)?);
                self.dump_gemm(problem, sparse, case, (&extras, &y))?;
                if O::OUTPUT == Output::Int8 && verdict.passed {
                    // -1, what it was computed over, is a number: what was not written shows over another.
                    let again = gemm.y(case.kernel, case.fused, Some(O::from_f32(85.0)))?;
                    if let Some(fault) = difference("element", &again, &y, O::bits) {
                        verdict = Verdict::bits(Some(format!("over another poison {fault}")));
                    }
                }
                if self.settings.runs > 1 {
                    self.checked.insert(self.rows.len(), Box::new(y));
                }
                let timed = verdict.passed && self.backend.is_timed();
                let (times, peers) = match timed {
                    true => contest(&peers, |with| gemm.time(case.kernel, case.fused, with))?,
                    false => (None, peers.clone()),
                };
                let (times, bare) = times.map_or((None, None), |t| (Some(t.row), t.bare));
                let row = Row::new(*case, name, verdict, times, bytes(case)?);
                self.push(row.counted(emulation).beside(peers).against(bare));
            }
        }
        Ok(())
    }

    /// Rows that prune and pack the same W.
    fn compress<T: Number>(&mut self, problem: &Problem<T>, cases: &[Case]) -> Result<()> {
        if self.run > 1 {
            return self.compress_again(problem, cases);
        }
        self.progress.set_message(cases[0].to_string());
        let (repeat, backend) = (self.settings.repeat, self.backend);
        let bytes = |_: &Case| problem.w_bytes(false);
        let mut compress = match caught(backend.compress(problem, repeat, self.settings.peers))? {
            Ok(compress) => compress,
            Err(fault) => return self.reject(cases, &Verdict::rejected(fault), bytes),
        };
        let outcomes = compress.peers();
        let peers = match outcomes.is_empty() {
            true => Vec::new(),
            false => {
                let judged = problem.judge_rows(PROBE_ROWS)?;
                judge_peers(outcomes, Fused::default(), &judged, (PROBE_ROWS, problem.shape.n))?
            }
        };
        for case in cases {
            let run = || compress.packed();
            let (packed, emulation) = match caught(self.backend.counted(case.kernel, run))? {
                Ok(result) => result,
                Err(fault) => {
                    self.reject(&[*case], &Verdict::rejected(fault), bytes)?;
                    continue;
                }
            };
            let fault = match packed {
                Ok(packed) => {
                    let (unpacked, pruned) = (packed.unpack(), problem.pruned()?);
                    self.dump("w", &unpacked, &[problem.shape.n, problem.shape.k])?;
                    packed_difference(&packed, problem.packed()?)
                        .or_else(|| difference("element", &unpacked, &pruned, T::bits))
                }
                Err(reason) => Some(reason),
            };
            let verdict = Verdict::bits(fault);
            let timed = verdict.passed && self.backend.is_timed();
            let (times, peers) = match timed {
                true => contest(&peers, |with| compress.time(with))?,
                false => (None, peers.clone()),
            };
            let times = times.map(|times| times.row);
            let row = Row::new(*case, self.backend.name(), verdict, times, bytes(case)?);
            self.push(row.counted(emulation).beside(peers));
        }
        Ok(())
    }

    /// Rows that come to no result.
    fn reject(
        &mut self,
        cases: &[Case],
        verdict: &Verdict,
        bytes: impl Fn(&Case) -> Result<u64, reference::Error>,
    ) -> Result<()> {
        for case in cases {
            let (name, bytes) = (self.backend.name(), bytes(case)?);
            self.push(Row::new(*case, name, verdict.clone(), None, bytes));
        }
        Ok(())
    }

    fn push(&mut self, row: Row) {
        self.rows.push(row);
        self.progress.inc(1);
    }

    fn dump_gemm<T: Number, O: OutputNumber<T>>(
        &self,
        problem: &Problem<T>,
        sparse: bool,
        case: &Case,
        (extras, y): (&Extras<T, O>, &[O]),
    ) -> Result<()> {
        if self.settings.dump.is_none() {
            return Ok(());
        }
        let (m, n, k) = (problem.shape.m, problem.shape.n, problem.shape.k);
        self.dump("x", problem.x(), &[m, k])?;
        match sparse {
            true => self.dump("w", &problem.packed()?.unpack(), &[n, k])?,
            false => self.dump("w", problem.w(), &[n, k])?,
        }
        if case.fused.bias {
            self.dump("bias", problem.bias(), &[n])?;
        }
        if case.fused.residual {
            self.dump("c", &extras.c, &[m, n])?;
        }
        if !extras.row_scale.is_empty() {
            self.dump("row_scale", &extras.row_scale, &[m])?;
        }
        self.dump("y", y, &[m, problem.columns(case.fused)])
    }

    /// Writes an operand of the row that is being measured.
    fn dump<T: Dumped>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<()> {
        match self.settings.dump {
            Some(directory) => npy::dump(directory, self.rows.len(), name, data, shape),
            None => Ok(()),
        }
    }
}

/// Checks what peers made of a row whose Y has those extents.
fn judge_peers<T: Number>(
    outcomes: Vec<Outcome<T>>,
    form: Fused,
    judged: &Judged,
    (m, n): (usize, usize),
) -> Result<Vec<Peer>> {
    let judge = |(name, outcome): Outcome<T>| {
        let outcome = match outcome {
            Ok(y) => Ok(Verdict::from(check(judged, MatRef::contiguous(&y, m, n)?)?)),
            Err(reason) => Err(reason),
        };
        Ok(Peer { name, form, outcome, times: None })
    };
    outcomes.into_iter().map(judge).collect()
}

/// Times a row in turns with those peers that were right. Where one of them fails on the way, the row is
/// timed alone.
fn contest(
    peers: &[Peer],
    mut time: impl FnMut(&[&'static str]) -> Result<Timed>,
) -> Result<(Option<Timed>, Vec<Peer>)> {
    let mut peers = peers.to_vec();
    let right: Vec<_> = peers.iter().filter(|peer| peer.is_right()).map(|peer| peer.name).collect();
    let mut timed = match time(&right) {
        Err(error) if matches!(error.downcast_ref(), Some(sparseflow::Error::Peer(_))) => {
            for peer in peers.iter_mut().filter(|peer| peer.is_right()) {
                peer.outcome = Err(format!("while it was timed: {error}"));
            }
            time(&[])?
        }
        timed => timed?,
    };
    let mut times = std::mem::take(&mut timed.peers).into_iter();
    for peer in peers.iter_mut().filter(|peer| peer.is_right()) {
        peer.times = times.next();
    }
    Ok((Some(timed), peers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparseflow::Error;
    use sparseflow::measure::Times;
    use sparseflow::peers::PeerError;

    fn peer(name: &'static str, outcome: Result<Verdict, String>) -> Peer {
        Peer { name, form: Fused::default(), outcome, times: None }
    }

    fn peers() -> Vec<Peer> {
        let wrong = Verdict::bits(Some("y[0, 0] is NaN".to_owned()));
        vec![
            peer("refused", Err("no such shape".to_owned())),
            peer("right", Ok(Verdict::bits(None))),
            peer("wrong", Ok(wrong)),
            peer("also right", Ok(Verdict::bits(None))),
        ]
    }

    fn timed(ours: f64, peers: &[f64]) -> Timed {
        let times = |&sample: &f64| Times::new(vec![sample]).unwrap();
        Timed { peers: peers.iter().map(times).collect(), ..Timed::alone(times(&ours)) }
    }

    fn medians(peers: &[Peer]) -> Vec<Option<f64>> {
        peers.iter().map(|peer| peer.times.as_ref().map(|times| times.median)).collect()
    }

    #[test]
    fn only_peers_that_were_right_are_timed() {
        let (ours, peers) = contest(&peers(), |with| {
            assert_eq!(with, ["right", "also right"]);
            Ok(timed(1.0, &[2.0, 3.0]))
        })
        .unwrap();
        assert_eq!(ours.unwrap().row.median, 1.0);
        assert_eq!(medians(&peers), [None, Some(2.0), None, Some(3.0)]);
    }

    #[test]
    fn a_peer_that_fails_while_it_is_timed_leaves_the_row_alone() {
        let (ours, peers) = contest(&peers(), |with| match with {
            [] => Ok(timed(1.0, &[])),
            _ => {
                let (call, name) = ("launch", "INTERNAL_ERROR".to_owned());
                Err(Error::from(PeerError::Refused { call, code: 7, name }).into())
            }
        })
        .unwrap();
        assert_eq!(ours.unwrap().row.median, 1.0);
        assert_eq!(medians(&peers), [None; 4]);
        let reason = peers[1].outcome.as_ref().unwrap_err();
        assert_eq!(reason, "while it was timed: launch: INTERNAL_ERROR (7)");
        assert!(peers[2].outcome.is_ok());
    }

    #[test]
    fn an_error_of_the_device_ends_the_run() {
        let result = contest(&peers(), |_| anyhow::bail!("the GPU is gone"));
        assert_eq!(result.err().unwrap().to_string(), "the GPU is gone");
    }
}
