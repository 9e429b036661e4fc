//! Where rows are computed.

use crate::cli::BackendName;
use crate::cpu;
use crate::emulator::{self, Emulation};
use crate::gpu;
use crate::kernel::Kernel;
use crate::peers::{Outcome, Peers};
use crate::problem::{Number, OutputNumber, Problem};
use anyhow::{Context, Result};
use reference::Packed;
use sparseflow::epilogue::Fused;
use sparseflow::measure::Times;
use sparseflow::{CudaDevice, Device, EmulatedDevice, kernels};
use std::sync::Arc;

/// Where rows are computed.
pub enum Backend {
    /// A GPU.
    Cuda(Arc<dyn Device>),
    /// The PTX that a GPU would run, on the CPU.
    Emulator(Arc<dyn Device>),
    /// The crate `reference`.
    Cpu,
}

/// Times of a row, and of what took turns with it.
pub struct Timed {
    /// The row's.
    pub row: Times,
    /// Those of the same kernel without an epilogue, Y in the type of X, where the row has more.
    pub bare: Option<Times>,
    /// Those of the peers, in the order in which they were asked for.
    pub peers: Vec<Times>,
}

impl Timed {
    /// Of a row that nothing took turns with.
    pub fn alone(row: Times) -> Self {
        Self { row, bare: None, peers: Vec::new() }
    }
}

/// The operands of a product in place, ready for any kernel and epilogue; Y of type `O`.
pub trait Gemm<T, O> {
    /// What is wrong with the W that the backend packed, if anything.
    fn fault(&self) -> Option<&str>;

    /// Computes Y once, over elements that are all `over`, or NaN (-1 as int8) where it is `None`.
    fn y(&mut self, kernel: Kernel, fused: Fused, over: Option<O>) -> Result<Vec<O>>;

    /// What each peer makes of it, over NaN.
    fn peers(&mut self, fused: Fused) -> Vec<Outcome<T>>;

    /// Times it, and in turns with it those peers; on a GPU also the kernel without the epilogue.
    fn time(&mut self, kernel: Kernel, fused: Fused, with: &[&'static str]) -> Result<Timed>;
}

/// A W in place to be pruned and packed.
pub trait Compress<T> {
    /// Packs it once, over ones. `Err` inside: what came out is not a packed matrix, and why.
    fn packed(&mut self) -> Result<Result<Packed<T>, String>>;

    /// The product of a few rows of X with the W that each peer compressed over ones.
    fn peers(&mut self) -> Vec<Outcome<T>>;

    /// Times it, and in turns with it those peers.
    fn time(&mut self, with: &[&'static str]) -> Result<Timed>;
}

impl Backend {
    /// The backend that was asked for. `auto` says on stderr when there is no GPU. `seed` decides in
    /// which order an emulator's warps run.
    ///
    /// # Errors
    /// No GPU where one was asked for, or one that fails.
    pub fn open(name: BackendName, seed: u64) -> Result<Self> {
        match name {
            BackendName::Cpu => return Ok(Self::Cpu),
            BackendName::Emulator => return Ok(Self::Emulator(EmulatedDevice::open(seed))),
            BackendName::Auto | BackendName::Cuda => {}
        }
        match CudaDevice::open(0) {
            Ok(device) => Ok(Self::Cuda(device)),
            Err(error) if name == BackendName::Auto && error.is_no_gpu() => {
                eprintln!("bench: measuring the CPU reference, there is no GPU ({error})");
                Ok(Self::Cpu)
            }
            Err(error) => Err(error).context("opening GPU 0"),
        }
    }

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cuda(_) => "cuda",
            Self::Emulator(_) => emulator::BACKEND,
            Self::Cpu => "cpu",
        }
    }

    /// The GPU, where there is one.
    pub fn gpu(&self) -> Option<&Arc<dyn Device>> {
        match self {
            Self::Cuda(device) => Some(device),
            Self::Emulator(_) | Self::Cpu => None,
        }
    }

    /// The device that runs PTX: a GPU, or what takes its place.
    pub fn device(&self) -> Option<&Arc<dyn Device>> {
        match self {
            Self::Cuda(device) | Self::Emulator(device) => Some(device),
            Self::Cpu => None,
        }
    }

    /// Whether its times mean anything.
    pub fn is_timed(&self) -> bool {
        !matches!(self, Self::Emulator(_))
    }

    /// Does `run`, which launches `kernel` once; on the emulator, with what that launch did.
    ///
    /// # Errors
    /// Those of `run`.
    pub fn counted<R>(
        &self,
        kernel: Kernel,
        run: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Option<Emulation>)> {
        match self {
            Self::Emulator(device) => emulator::counted(&**device, kernel.name(), run),
            Self::Cuda(_) | Self::Cpu => Ok((run()?, None)),
        }
    }

    /// The kernels made for it.
    pub fn kernels(&self) -> Vec<Kernel> {
        match self {
            Self::Cuda(_) | Self::Emulator(_) => Kernel::gpu().collect(),
            Self::Cpu => Kernel::cpu().collect(),
        }
    }

    /// Why it cannot run one of them, or `None` where it can.
    pub fn obstacle(&self, kernel: Kernel) -> Option<String> {
        match (self.device(), kernel) {
            (Some(device), Kernel::Gemm(choice)) => kernels::obstacle(choice.kernel, device.info()),
            _ => None,
        }
    }

    /// Puts the operands of a product in place. `repeat` is how often a timing runs; `peers` are those
    /// to measure beside it.
    ///
    /// # Errors
    /// What the device says.
    pub fn gemm<'a, T: Number, O: OutputNumber<T>>(
        &self,
        problem: &'a Problem<T>,
        sparse: bool,
        repeat: Option<u32>,
        peers: Option<&Peers>,
    ) -> Result<Box<dyn Gemm<T, O> + 'a>> {
        Ok(match self {
            Self::Cuda(device) | Self::Emulator(device) => {
                Box::new(gpu::GpuGemm::new(device, problem, sparse, repeat, peers)?)
            }
            Self::Cpu => Box::new(cpu::CpuGemm { problem, sparse, repeat }),
        })
    }

    /// Puts W in place to be packed. `repeat` is how often a timing runs.
    ///
    /// # Errors
    /// What the device says.
    pub fn compress<'a, T: Number>(
        &self,
        problem: &'a Problem<T>,
        repeat: Option<u32>,
        peers: Option<&Peers>,
    ) -> Result<Box<dyn Compress<T> + 'a>> {
        Ok(match self {
            Self::Cuda(device) | Self::Emulator(device) => {
                Box::new(gpu::GpuCompress::new(device, problem, repeat, peers)?)
            }
            Self::Cpu => Box::new(cpu::CpuCompress { problem, repeat }),
        })
    }
}
