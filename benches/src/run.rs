//! The rows, one after the other: computed over poison, checked, and only then timed. On the emulator
//! the checked run is counted, and nothing is timed.

use crate::backend::Backend;
use crate::cases::Case;
use crate::check::{Verdict, difference, packed_difference};
use crate::emulator::caught;
use crate::kernel::Op;
use crate::npy;
use crate::peers::{Outcome, PROBE_ROWS, Peers};
use crate::problem::{Number, Problem};
use crate::report::{Peer, Row};
use anyhow::{Context, Result};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use layout::instance::Dtype;
use reference::random::Fill;
use reference::{Judged, MatRef, check};
use sparseflow::epilogue::Fused;
use sparseflow::measure::Times;
use sparseflow::peers::fused_form;
use std::path::Path;

/// How rows are measured.
pub struct Settings<'a> {
    /// Timed launches of a row.
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
}

impl<'a> Run<'a> {
    /// Measures `cases`. Rows come back even where one of them ends in an error.
    pub fn all(
        cases: &[Case],
        backend: &'a Backend,
        settings: &'a Settings<'a>,
    ) -> (Vec<Row>, Result<()>) {
        // Draws on stderr, and only where that is a terminal.
        let progress = ProgressBar::new(cases.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
            progress.set_style(style);
        }
        let mut run = Self { backend, settings, progress, rows: Vec::new() };
        let same = |a: &Case, b: &Case| (a.dtype, a.shape) == (b.dtype, b.shape);
        let result = cases.chunk_by(same).try_for_each(|cases| match cases[0].dtype {
            Dtype::F16 => run.shape::<f16>(cases),
            Dtype::Bf16 => run.shape::<bf16>(cases),
        });
        run.progress.finish_and_clear();
        (run.rows, result)
    }

    /// Rows of one type and shape.
    fn shape<T: Number>(&mut self, cases: &[Case]) -> Result<()> {
        let problem = Problem::<T>::new(cases[0].shape, self.settings.seed, self.settings.fill);
        cases.chunk_by(|a, b| a.op == b.op).try_for_each(|cases| {
            let context = || format!("measuring {}", cases[0]);
            match cases[0].op {
                Op::Dense => self.gemm(&problem, false, cases).with_context(context),
                Op::Sparse => self.gemm(&problem, true, cases).with_context(context),
                Op::Compress => self.compress(&problem, cases).with_context(context),
            }
        })
    }

    /// Rows that multiply by the same W. Those with the same epilogue are judged once.
    fn gemm<T: Number>(
        &mut self,
        problem: &Problem<T>,
        sparse: bool,
        cases: &[Case],
    ) -> Result<()> {
        let (m, n, name) = (problem.shape.m, problem.shape.n, self.backend.name());
        self.progress.set_message(cases[0].to_string());
        let (bytes, repeat) = (problem.gemm_bytes(sparse)?, self.settings.repeat);
        let mut gemm =
            match caught(self.backend.gemm(problem, sparse, repeat, self.settings.peers))? {
                Ok(gemm) => gemm,
                Err(fault) => {
                    self.reject(cases, &Verdict::rejected(fault), bytes);
                    return Ok(());
                }
            };
        if let Some(fault) = gemm.fault() {
            self.reject(cases, &Verdict::bits(Some(fault.to_owned())), bytes);
            return Ok(());
        }
        for cases in cases.chunk_by(|a, b| a.fused == b.fused) {
            let fused = cases[0].fused;
            let mut judged = problem.judge(sparse, fused)?;
            let outcomes = gemm.peers(fused);
            let peers = match fused_form(fused) {
                // Peers have another form of the epilogue, which is judged by itself.
                Some(form) if form != fused && !outcomes.is_empty() => {
                    judge_peers(outcomes, form, &problem.judge(sparse, form)?, (m, n))?
                }
                _ => judge_peers(outcomes, fused, &judged, (m, n))?,
            };
            for case in cases {
                self.progress.set_message(case.to_string());
                let run = || gemm.y(case.kernel, case.fused);
                let (y, emulation) = match caught(self.backend.counted(case.kernel, run))? {
                    Ok(result) => result,
                    Err(fault) => {
                        self.reject(&[*case], &Verdict::rejected(fault), bytes);
                        continue;
                    }
                };
                judged = judged.accumulated_in(case.kernel.accumulator());
                let verdict = Verdict::from(check(&judged, MatRef::contiguous(&y, m, n)?)?);
                self.dump_gemm(problem, sparse, case, &y)?;
                drop(y);
                let timed = verdict.passed && self.backend.is_timed();
                let (times, peers) = match timed {
                    true => contest(&peers, |with| gemm.time(case.kernel, case.fused, with))?,
                    false => (None, peers.clone()),
                };
                let row = Row::new(*case, name, verdict, times, bytes);
                self.push(row.counted(emulation).beside(peers));
            }
        }
        Ok(())
    }

    /// Rows that prune and pack the same W.
    fn compress<T: Number>(&mut self, problem: &Problem<T>, cases: &[Case]) -> Result<()> {
        self.progress.set_message(cases[0].to_string());
        let (bytes, repeat) = (problem.w_bytes(false)?, self.settings.repeat);
        let backend = self.backend;
        let mut compress = match caught(backend.compress(problem, repeat, self.settings.peers))? {
            Ok(compress) => compress,
            Err(fault) => {
                self.reject(cases, &Verdict::rejected(fault), bytes);
                return Ok(());
            }
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
                    self.reject(&[*case], &Verdict::rejected(fault), bytes);
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
            let row = Row::new(*case, self.backend.name(), verdict, times, bytes);
            self.push(row.counted(emulation).beside(peers));
        }
        Ok(())
    }

    /// Rows that come to no result.
    fn reject(&mut self, cases: &[Case], verdict: &Verdict, bytes: u64) {
        for case in cases {
            self.push(Row::new(*case, self.backend.name(), verdict.clone(), None, bytes));
        }
    }

    fn push(&mut self, row: Row) {
        self.rows.push(row);
        self.progress.inc(1);
    }

    fn dump_gemm<T: Number>(
        &self,
        problem: &Problem<T>,
        sparse: bool,
        case: &Case,
        y: &[T],
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
        self.dump("y", y, &[m, n])
    }

    /// Writes an operand of the row that is being measured.
    fn dump<T: Number>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<()> {
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
    mut time: impl FnMut(&[&'static str]) -> Result<Vec<Times>>,
) -> Result<(Option<Times>, Vec<Peer>)> {
    let mut peers = peers.to_vec();
    let right: Vec<_> = peers.iter().filter(|peer| peer.is_right()).map(|peer| peer.name).collect();
    let times = match time(&right) {
        Err(error) if matches!(error.downcast_ref(), Some(sparseflow::Error::Peer(_))) => {
            for peer in peers.iter_mut().filter(|peer| peer.is_right()) {
                peer.outcome = Err(format!("while it was timed: {error}"));
            }
            time(&[])?
        }
        times => times?,
    };
    let mut times = times.into_iter();
    let ours = times.next();
    for peer in peers.iter_mut().filter(|peer| peer.is_right()) {
        peer.times = times.next();
    }
    Ok((ours, peers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparseflow::Error;
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

    fn times(samples: &[f64]) -> Vec<Times> {
        samples.iter().filter_map(|&sample| Times::new(vec![sample])).collect()
    }

    fn medians(peers: &[Peer]) -> Vec<Option<f64>> {
        peers.iter().map(|peer| peer.times.as_ref().map(|times| times.median)).collect()
    }

    #[test]
    fn only_peers_that_were_right_are_timed() {
        let (ours, peers) = contest(&peers(), |with| {
            assert_eq!(with, ["right", "also right"]);
            Ok(times(&[1.0, 2.0, 3.0]))
        })
        .unwrap();
        assert_eq!(ours.unwrap().median, 1.0);
        assert_eq!(medians(&peers), [None, Some(2.0), None, Some(3.0)]);
    }

    #[test]
    fn a_peer_that_fails_while_it_is_timed_leaves_the_row_alone() {
        let (ours, peers) = contest(&peers(), |with| match with {
            [] => Ok(times(&[1.0])),
            _ => {
                let (call, name) = ("launch", "INTERNAL_ERROR".to_owned());
                Err(Error::from(PeerError::Refused { call, code: 7, name }).into())
            }
        })
        .unwrap();
        assert_eq!(ours.unwrap().median, 1.0);
        assert_eq!(medians(&peers), [None; 4]);
        let reason = peers[1].outcome.as_ref().unwrap_err();
        assert_eq!(reason, "while it was timed: launch: INTERNAL_ERROR (7)");
        assert!(peers[2].outcome.is_ok());
    }

    #[test]
    fn an_error_of_the_device_ends_the_run() {
        let result = contest(&peers(), |_| anyhow::bail!("the GPU is gone"));
        assert_eq!(result.unwrap_err().to_string(), "the GPU is gone");
    }
}
