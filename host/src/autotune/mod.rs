//! The autotuner: which kernel and schedule are the fastest for a problem, by measurement.
//!
//! A [`Tuner`] looks in memory, then in its [`Store`], and only then measures: the candidates that
//! arithmetic does not rule out, on random operands of its own, interleaved, the clearly slower dropped
//! early, the two best head to head (`contest`). The choice of [`heuristic`] always takes part.
//!
//! ```no_run
//! use layout::activation::Activation;
//! use sparseflow::autotune::Tuner;
//! use sparseflow::cache::Store;
//! # use sparseflow::{CudaDevice, Matrix, PackedWeight, Weight};
//!
//! # fn layer(x: &Matrix<half::f16>, w: &PackedWeight<half::f16>) -> sparseflow::Result<()> {
//! # let device = CudaDevice::open(0)?;
//! let tuner = Tuner::new(&device, Store::open_default());
//! let y = tuner.linear(x, Weight::Sparse(w), None, Activation::Silu)?; // measures once per shape
//! # Ok(()) }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `problem` | [`Problem`]: what a record is for, and the key it is stored under |
//! | `candidates` | what is worth measuring, by arithmetic |
//! | `operands` | random operands, several times over |
//! | `contest` | the fastest of the candidates, given a way to time them |

mod candidates;
mod contest;
mod operands;
mod problem;

pub use problem::Problem;

use crate::cache::{Candidate, Record, Store};
use crate::device::Device;
use crate::epilogue::Epilogue;
use crate::error::Result;
use crate::gemm::{Plan, Weight};
use crate::heuristic;
use crate::matrix::{Matrix, OutputOf, Value};
use crate::schedule::Choice;
use contest::Deadlines;
use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::Dtype;
use layout::params::Output;
use operands::Operands;
use reference::Element;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// Time that measuring one problem may take, about: a launch that is under way is not cut short.
const BUDGET: Duration = Duration::from_millis(1800);
/// Share of it after which no kernel is begun to be compiled: a driver whose cache is cold takes up to 0.7 seconds
/// for one, and compiles one at a time, however many threads ask (docs/tuning.md).
const COMPILING: f64 = 0.45;
/// Share of it after which the final begins.
const SCREENING: f64 = 0.85;
/// Time on the device before the first launch that counts in microseconds, so that the host is ahead; and the
/// most launches for that.
const LEAD_IN_US: f64 = 400.0;
const MOST_LEAD_IN: usize = 4;
/// From how long a launch on, in microseconds, its first time is reliable, and how many times the fastest so far
/// drops a candidate at once.
const LONG_US: f64 = 1000.0;
const HOPELESS: f64 = 2.0;

/// Finds, keeps and uses the fastest choice for each problem on one device.
pub struct Tuner {
    device: Arc<dyn Device>,
    store: Store,
    budget: Duration,
    measures: bool,
    known: RwLock<HashMap<Problem, Choice>>,
    /// Held while measuring: two contests at a time would disturb each other.
    measuring: Mutex<()>,
}

impl Tuner {
    /// A tuner for `device` that measures what `store` does not know.
    pub fn new(device: &Arc<dyn Device>, store: Store) -> Self {
        Self {
            device: Arc::clone(device),
            store,
            budget: BUDGET,
            measures: true,
            known: RwLock::default(),
            measuring: Mutex::default(),
        }
    }

    /// The same, but it never measures: where the store has no record, [`heuristic`] chooses.
    pub fn without_measuring(self) -> Self {
        Self { measures: false, ..self }
    }

    /// The same, with another budget for one problem than 1.8 seconds. Rounds that every decision needs
    /// are run in any case.
    pub fn with_budget(self, budget: Duration) -> Self {
        Self { budget, ..self }
    }

    /// The choice for `problem`: from memory, from the store, measured, or of the heuristic, in this
    /// order. What cannot be measured (out of memory, say) is left to the heuristic, with a warning.
    ///
    /// # Errors
    /// [`Error::NoKernel`](crate::Error::NoKernel) where the device can run none.
    pub fn choice(&self, problem: &Problem) -> Result<Choice> {
        if let Some(choice) = self.known(problem) {
            return Ok(choice);
        }
        let record = match self.measures && !problem.is_empty() {
            true => self.record(problem).map(Some).unwrap_or_else(|error| {
                tracing::warn!(%error, ?problem, "not tuned, the heuristic chooses");
                None
            }),
            false => self.stored(problem),
        };
        let choice = match record {
            Some(record) => record.choice,
            None => self.heuristic(problem)?,
        };
        self.learn(problem, choice);
        Ok(choice)
    }

    /// What is stored of `problem`, else what measuring it gives, which is then stored.
    ///
    /// # Errors
    /// [`Error::NoKernel`](crate::Error::NoKernel); out of memory; no candidate that runs; what the device
    /// says. A problem with an extent of 0 has nothing to measure.
    pub fn record(&self, problem: &Problem) -> Result<Record> {
        if let Some(record) = self.stored(problem) {
            return Ok(record);
        }
        let _alone = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have measured it meanwhile.
        if let Some(record) = self.stored(problem) {
            return Ok(record);
        }
        let record = self.measure(problem)?;
        self.store.put(&problem.key(self.device.info()), &record);
        self.learn(problem, record.choice);
        Ok(record)
    }

    /// What the store has of `problem`, if the device can run it.
    pub fn stored(&self, problem: &Problem) -> Option<Record> {
        let record = self.store.get(&problem.key(self.device.info()))?;
        let kernel = record.choice.kernel;
        let fits = kernel.family.is_sparse() == problem.sparse
            && kernel.dtype == problem.dtype
            && crate::kernels::obstacle(kernel, self.device.info()).is_none();
        fits.then_some(record)
    }

    /// [`gemm()`](crate::gemm()) with the tuner's choice.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Plan::launch`].
    pub fn gemm<T: Element + Value, O: OutputOf<T>>(
        &self,
        x: &Matrix<T>,
        w: Weight<'_, T>,
        epilogue: &Epilogue<'_, T, O>,
        y: &mut Matrix<O>,
    ) -> Result<()> {
        let problem = Problem::of(x, &w, epilogue, y);
        let choice = match self.known(&problem) {
            Some(choice) => choice,
            None => {
                // What is not a product must not be measured.
                Plan::new(None, x, w, epilogue, y)?;
                self.choice(&problem)?
            }
        };
        Plan::new(Some(choice), x, w, epilogue, y)?.launch()
    }

    /// [`linear`](crate::linear) with the tuner's choice.
    ///
    /// # Errors
    /// As [`Self::gemm`], or out of memory.
    pub fn linear<T: Element + Value + OutputOf<T>>(
        &self,
        x: &Matrix<T>,
        w: Weight<'_, T>,
        bias: Option<&Matrix<T>>,
        activation: Activation,
    ) -> Result<Matrix<T>> {
        let mut y = Matrix::uninitialized(x.device(), x.rows(), w.n())?;
        self.gemm(x, w, &Epilogue { bias, activation, ..Default::default() }, &mut y)?;
        Ok(y)
    }

    fn known(&self, problem: &Problem) -> Option<Choice> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(problem).copied()
    }

    fn learn(&self, problem: &Problem, choice: Choice) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(*problem, choice);
    }

    fn heuristic(&self, problem: &Problem) -> Result<Choice> {
        heuristic::select(problem, self.device.info())
    }

    fn measure(&self, problem: &Problem) -> Result<Record> {
        if problem.is_empty() {
            let Problem { m, n, k, .. } = problem;
            return Err(crate::error::invalid(
                "problem to measure",
                format!("{m}x{n}x{k}"),
                "without an extent of 0",
            ));
        }
        match (problem.dtype, problem.output) {
            (Dtype::F16, Output::Input) => self.measure_as::<f16, f16>(problem),
            (Dtype::F16, Output::F32) => self.measure_as::<f16, f32>(problem),
            (Dtype::F16, Output::Int8) => self.measure_as::<f16, i8>(problem),
            (Dtype::Bf16, Output::Input) => self.measure_as::<bf16, bf16>(problem),
            (Dtype::Bf16, Output::F32) => self.measure_as::<bf16, f32>(problem),
            (Dtype::Bf16, Output::Int8) => self.measure_as::<bf16, i8>(problem),
        }
    }

    fn measure_as<T: Element + Value, O: OutputOf<T>>(&self, problem: &Problem) -> Result<Record> {
        let started = Instant::now();
        let device = &*self.device;
        let heuristic = self.heuristic(problem)?;
        let mut choices = candidates::enumerate(problem, heuristic, device.info())?;
        let mut operands = Operands::<T, O>::new(&self.device, problem)?;
        // Whole tiles need no workspace.
        let first = operands.plans(heuristic.kernel.into())?;
        let ready = compile(&first[0], &choices, started + self.budget.mul_f64(COMPILING));
        choices.retain(|choice| ready.contains(choice));

        let mut candidates = Vec::new();
        let mut failure = None;
        let mut fastest = f64::INFINITY;
        for choice in choices {
            match warm_up(device, &first, choice) {
                Ok((_, micros)) if micros > LONG_US && micros > HOPELESS * fastest => {
                    tracing::debug!(%choice, micros, fastest, "hopeless");
                }
                Ok((plans, micros)) => {
                    fastest = fastest.min(micros);
                    candidates.push((choice, plans));
                }
                Err(error) => {
                    tracing::warn!(%error, %choice, "dropped from tuning");
                    failure = Some(error);
                }
            }
        }
        if candidates.is_empty() {
            let none = || crate::error::invalid("candidates of the tuner", 0, "at least 1");
            return Err(failure.unwrap_or_else(none));
        }

        let lead_in = ((LEAD_IN_US / fastest).ceil() as usize).clamp(1, MOST_LEAD_IN);
        let mut launched = 0;
        let mut time = |order: &[usize]| {
            let (lead, from) = (order[0], launched);
            launched += lead_in + order.len();
            let mut launch = |i: usize| {
                let (_, plans) = &candidates[i.checked_sub(lead_in).map_or(lead, |i| order[i])];
                plans[(from + i) % plans.len()].launch()
            };
            let mut times = device.time(lead_in + order.len(), &mut launch)?;
            Ok(times.split_off(lead_in))
        };
        let at = candidates.iter().position(|(choice, _)| *choice == heuristic);
        let deadlines = Deadlines { screening: self.budget.mul_f64(SCREENING), last: self.budget };
        let elapsed = || started.elapsed();
        let outcome =
            contest::run(candidates.len(), at.unwrap_or(0), deadlines, &elapsed, &mut time)?;

        let candidate = |((choice, _), timing): (&(Choice, _), &contest::Timing)| Candidate {
            choice: *choice,
            median_us: timing.median_us,
            samples: timing.samples,
        };
        let all: Vec<Candidate> = candidates.iter().zip(&outcome.timings).map(candidate).collect();
        let winner = all[outcome.winner];
        let heuristic_us = at.map(|at| all[at].median_us);
        tracing::info!(
            ?problem,
            choice = %winner.choice,
            median_us = winner.median_us,
            %heuristic,
            heuristic_us,
            candidates = all.len(),
            seconds = started.elapsed().as_secs_f64(),
            "tuned"
        );
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Record {
            choice: winner.choice,
            median_us: winner.median_us,
            samples: winner.samples,
            heuristic: Some(heuristic),
            heuristic_us,
            tuned_at: Some(now.as_secs()),
            candidates: all,
            from_store: false,
        })
    }
}

/// Launches of `choice` beside those of `first`, one of them run: what fails does so here. With the time that
/// it took, in microseconds.
fn warm_up<'a>(
    device: &dyn Device,
    first: &[Plan<'a>],
    choice: Choice,
) -> Result<(Vec<Plan<'a>>, f64)> {
    let plans: Vec<_> = first.iter().map(|plan| plan.with_choice(choice)).collect::<Result<_>>()?;
    let micros = device.time(1, &mut |_| plans.iter().take(1).try_for_each(Plan::launch))?;
    device.synchronize()?;
    Ok((plans, micros.into_iter().sum()))
}

/// Compiles the kernels of `choices`, beginning none after `deadline` but for the first choice's. Those that are
/// ready.
fn compile(first: &Plan<'_>, choices: &[Choice], deadline: Instant) -> Vec<Choice> {
    let mut ready = Vec::new();
    for (at, &choice) in choices.iter().enumerate() {
        if at > 0 && Instant::now() > deadline {
            tracing::debug!(%choice, "no time left to compile it for tuning");
            continue;
        }
        match first.with_choice(choice).and_then(|plan| plan.compile()) {
            Ok(()) => ready.push(choice),
            Err(error) => tracing::warn!(%error, %choice, "dropped from tuning"),
        }
    }
    ready
}
