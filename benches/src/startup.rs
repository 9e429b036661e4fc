//! `--startup`: how long a process takes to its first result, and what a call costs the host after that.
//!
//! The program starts itself anew for each sample, with the driver's cache of compiled kernels turned off,
//! and takes medians.

use crate::cli::{BackendName, Cli, Usage};
use crate::kernel::{Op, dtype_name};
use crate::problem::Number;
use crate::suites::Shape;
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use layout::instance::Dtype;
use reference::{MatRef, Packed};
use serde::{Deserialize, Serialize};
use sparseflow::autotune::Tuner;
use sparseflow::cache::Store;
use sparseflow::measure::Times;
use sparseflow::{CudaDevice, Device, EmulatedDevice, Epilogue, Error, Matrix, PackedWeight};
use sparseflow::{Plan, Weight, gemm};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// The product that a process computes first, where none is asked for.
const SHAPE: Shape = Shape { m: 4096, n: 4096, k: 4096 };
/// Processes, where `--repeat` does not say.
const PROCESSES: u32 = 5;
/// Calls that are averaged.
const CALLS: usize = 10_000;
/// Calls between two waits for the device, whose queue must not fill.
const BATCH: usize = 100;
/// M, N and K of the product that is called repeatedly.
const TINY: usize = 64;

/// What one process took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The kernel, and its schedule.
    choice: String,
    /// From the first call of the driver to the first result, in milliseconds.
    total_ms: f64,
    /// Of that: loading the driver's library.
    library_ms: f64,
    /// `cuInit`.
    init_ms: f64,
    /// Making the context, stream and what a device needs besides.
    context_ms: f64,
    /// Allocating the operands and copying them there.
    operands_ms: f64,
    /// Compiling the kernel.
    compile_ms: f64,
    /// Launching it and copying Y back.
    result_ms: f64,
    /// The host's part of a repeated call in microseconds: of `Plan::launch`,
    plan_call_us: f64,
    /// of `Tuner::gemm` where the choice is known,
    tuner_call_us: f64,
    /// of `gemm`.
    gemm_call_us: f64,
}

/// Medians of all processes.
#[derive(Debug, Serialize)]
pub struct Startup {
    op: String,
    dtype: &'static str,
    shape: String,
    processes: usize,
    median: Sample,
    samples: Vec<Sample>,
}

/// Measures fresh processes.
///
/// # Errors
/// [`Usage`] for what has no start-up; what a process says that fails.
pub fn measure(cli: &Cli) -> Result<Startup> {
    let (op, dtype, shape) = product(cli)?;
    let program = std::env::current_exe().context("finding this program")?;
    let mut samples = Vec::new();
    for _ in 0..cli.repeat.unwrap_or(PROCESSES) {
        let output = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .arg("--startup-process")
            .env("CUDA_CACHE_DISABLE", "1")
            .stderr(Stdio::inherit())
            .output()
            .context("starting this program again")?;
        ensure!(output.status.success(), "a process that was started anew failed");
        samples.push(serde_json::from_slice(&output.stdout).context("reading its report")?);
    }
    let median = median(&samples).context("no process was started")?;
    let (op, dtype, shape) = (op.to_string(), dtype_name(dtype), shape.to_string());
    Ok(Startup { op, dtype, shape, processes: samples.len(), median, samples })
}

fn median(samples: &[Sample]) -> Option<Sample> {
    let of =
        |figure: fn(&Sample) -> f64| Some(Times::new(samples.iter().map(figure).collect())?.median);
    Some(Sample {
        choice: samples.first()?.choice.clone(),
        total_ms: of(|s| s.total_ms)?,
        library_ms: of(|s| s.library_ms)?,
        init_ms: of(|s| s.init_ms)?,
        context_ms: of(|s| s.context_ms)?,
        operands_ms: of(|s| s.operands_ms)?,
        compile_ms: of(|s| s.compile_ms)?,
        result_ms: of(|s| s.result_ms)?,
        plan_call_us: of(|s| s.plan_call_us)?,
        tuner_call_us: of(|s| s.tuner_call_us)?,
        gemm_call_us: of(|s| s.gemm_call_us)?,
    })
}

/// The product that the command line asks for.
fn product(cli: &Cli) -> Result<(Op, Dtype, Shape)> {
    let op = cli.op.first().copied().unwrap_or(Op::Dense);
    if op == Op::Compress || cli.backend == BackendName::Cpu {
        let text = "--startup: measures a product of GPU or emulator";
        return Err(Usage(text.to_owned()).into());
    }
    let dtype = cli.dtype.first().copied().unwrap_or(Dtype::F16);
    Ok((op, dtype, cli.shape.first().copied().unwrap_or(SHAPE)))
}

/// What a fresh process does: measures itself, and says so as JSON.
///
/// # Errors
/// No GPU, a wrong result, or what the device says.
pub fn process(cli: &Cli) -> Result<String> {
    let (op, dtype, shape) = product(cli)?;
    let sample = match dtype {
        Dtype::F16 => sample::<f16>(cli, op, shape),
        Dtype::Bf16 => sample::<bf16>(cli, op, shape),
    }?;
    Ok(serde_json::to_string(&sample)?)
}

fn sample<T: Number>(cli: &Cli, op: Op, shape: Shape) -> Result<Sample> {
    let Shape { m, n, k } = shape;
    // Ones, and every other one of W: 2:4 as it is.
    let x = vec![T::from_f32(1.0); m * k];
    let w: Vec<T> =
        (0..n * k).map(|i| T::from_f32(if i % k % 2 == 0 { 1.0 } else { 0.0 })).collect();
    let packed = match op {
        Op::Sparse => Some(Packed::pack(MatRef::contiguous(&w, n, k)?)?),
        Op::Dense | Op::Compress => None,
    };

    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        let ms = (now - last).as_secs_f64() * 1e3;
        last = now;
        ms
    };
    let (device, library_ms, init_ms) = match cli.backend {
        BackendName::Emulator => (EmulatedDevice::open(cli.seed), lap(), 0.0),
        BackendName::Auto | BackendName::Cuda | BackendName::Cpu => {
            cust::driver_present();
            let library_ms = lap();
            cust::init().map_err(Error::from)?;
            let init_ms = lap();
            (CudaDevice::open(0).context("opening GPU 0")?, library_ms, init_ms)
        }
    };
    let context_ms = lap();
    let x = Matrix::from_slice(&device, &x, m, k)?;
    let operand = match &packed {
        Some(packed) => Operand::Sparse(PackedWeight::from_host(&device, packed)?),
        None => Operand::Dense(Matrix::from_slice(&device, &w, n, k)?),
    };
    let mut y = Matrix::<T>::uninitialized(&device, m, n)?;
    let operands_ms = lap();
    let plan = Plan::new(None, &x, operand.weight(), &Epilogue::default(), &mut y)?;
    let choice = plan.choice();
    plan.compile()?;
    let compile_ms = lap();
    plan.launch()?;
    drop(plan);
    let result = y.to_vec()?;
    let result_ms = lap();

    let want = T::from_f32(k.div_ceil(2) as f32);
    if let Some(wrong) = result.iter().position(|&y| y != want) {
        bail!("y[{}, {}] is {:?}, must be {want:?}", wrong / n, wrong % n, result[wrong]);
    }
    let [plan_call_us, tuner_call_us, gemm_call_us] = calls::<T>(&device)?;
    let stages = [library_ms, init_ms, context_ms, operands_ms, compile_ms, result_ms];
    Ok(Sample {
        choice: choice.to_string(),
        total_ms: stages.iter().sum(),
        library_ms,
        init_ms,
        context_ms,
        operands_ms,
        compile_ms,
        result_ms,
        plan_call_us,
        tuner_call_us,
        gemm_call_us,
    })
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

/// What a repeated call of a tiny product costs the host: a plan's, a tuner's, and `gemm`'s.
fn calls<T: Number>(device: &Arc<dyn Device>) -> Result<[f64; 3]> {
    let ones = vec![T::from_f32(1.0); TINY * TINY];
    let matrix = || Matrix::from_slice(device, &ones, TINY, TINY);
    let (x, w, mut y) = (matrix()?, matrix()?, matrix()?);
    let (w, epilogue) = (Weight::Dense(&w), Epilogue::default());
    let plan = Plan::new(None, &x, w, &epilogue, &mut y)?;
    let of_plan = mean(device, &mut || plan.launch())?;
    drop(plan);
    let tuner = Tuner::new(device, Store::in_memory()).without_measuring();
    let of_tuner = mean(device, &mut || tuner.gemm(&x, w, &epilogue, &mut y))?;
    let of_gemm = mean(device, &mut || gemm(&x, w, &epilogue, &mut y))?;
    Ok([of_plan, of_tuner, of_gemm])
}

/// The mean time of a call on the host in microseconds, the first batch not counted.
fn mean(device: &Arc<dyn Device>, call: &mut dyn FnMut() -> Result<(), Error>) -> Result<f64> {
    // The emulator computes where a GPU only queues.
    let calls = if device.as_any().is::<EmulatedDevice>() { BATCH } else { CALLS };
    let mut seconds = 0.0;
    for batch in 0..=calls / BATCH {
        let started = Instant::now();
        for _ in 0..BATCH {
            call()?;
        }
        let took = started.elapsed().as_secs_f64();
        device.synchronize()?;
        seconds += if batch > 0 { took } else { 0.0 };
    }
    Ok(seconds / calls as f64 * 1e6)
}

impl Startup {
    /// For a terminal.
    pub fn text(&self) -> String {
        let Sample {
            choice,
            total_ms,
            library_ms,
            init_ms,
            context_ms,
            operands_ms,
            compile_ms,
            result_ms,
            plan_call_us,
            tuner_call_us,
            gemm_call_us,
        } = &self.median;
        format!(
            "\
{} {} {}, {choice}; medians of {} fresh processes, the driver's cache off

driver library        {library_ms:9.1} ms
driver init           {init_ms:9.1} ms
context               {context_ms:9.1} ms
operands              {operands_ms:9.1} ms
compiling the kernel  {compile_ms:9.1} ms
launch and copy back  {result_ms:9.1} ms
first result after    {total_ms:9.1} ms

host side of a repeated call, {TINY}x{TINY}x{TINY}
Plan::launch          {plan_call_us:9.2} us
Tuner::gemm           {tuner_call_us:9.2} us
gemm                  {gemm_call_us:9.2} us
",
            self.op, self.dtype, self.shape, self.processes,
        )
    }
}
