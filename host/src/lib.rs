//! `sparseflow`: 2:4-sparse and dense tensor-core GEMM on NVIDIA GPUs, kernels written in Rust.
//!
//! ```text
//! Y[M,N] = act(alpha * X[M,K] . W[N,K]^T + beta * C[M,N] + bias[N])
//! ```
//!
//! M tokens, N output features, K input features; all matrices row-major with K contiguous in X and
//! W; W dense or 2:4 sparse along K.
//!
//! ```no_run
//! use layout::activation::Activation;
//! use sparseflow::{CudaDevice, Matrix, PackedWeight, Weight, linear};
//!
//! # fn main() -> sparseflow::Result<()> {
//! let device = CudaDevice::open(0)?;
//! let x = Matrix::from_slice(&device, &vec![half::f16::ONE; 64 * 4096], 64, 4096)?;
//! let w = Matrix::from_slice(&device, &vec![half::f16::ONE; 1024 * 4096], 1024, 4096)?;
//! let packed = PackedWeight::prune_and_pack(&w)?;
//! let y = linear(&x, Weight::Sparse(&packed), None, Activation::Silu)?;
//! let on_the_host: Vec<half::f16> = y.to_vec()?;
//! # Ok(()) }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`device`] | [`Device`]: what the library needs of a GPU, real or emulated |
//! | [`cuda`] | [`CudaDevice`]: a GPU through the driver; kernels are compiled when first launched |
//! | [`emulated`] | [`EmulatedDevice`]: the same PTX on the CPU, under the emulator's checks |
//! | [`matrix`] | [`Matrix`]: a row-major matrix in device memory |
//! | [`packed`] | [`PackedWeight`]: a 2:4 W in device memory, and the ways to make one |
//! | [`epilogue`] | [`Epilogue`], the names of the fused forms, and how a gated W is laid out |
//! | [`mod@gemm`] | [`gemm()`], [`linear`], [`Plan`]: a checked launch, ready to repeat |
//! | [`kernels`] | the registry: which kernels there are and which a device can run |
//! | [`schedule`] | how thread blocks share the work: tiles, split-K, stream-K; [`Choice`] |
//! | [`heuristic`] | which kernel and schedule to use for a shape |
//! | `hopper` | tensor maps of the operands of Hopper's kernels |
//! | [`autotune`] | [`Tuner`](autotune::Tuner): which kernel and schedule to use, by measurement |
//! | [`cache`] | [`Store`](cache::Store): what the autotuner found, kept in an SQLite file |
//! | [`constants`] | which parameters of a launch are compiled into its kernel |
//! | [`measure`] | [`measure::time`]: median, p95 and spread of repeated launches |
//! | [`peers`] | the vendor's libraries, loaded at run time to be measured beside the kernels |
//! | [`ptx`] | the embedded PTX, one kernel at a time |
//! | [`error`] | [`Error`] |

pub mod autotune;
pub mod cache;
pub mod constants;
pub mod cuda;
pub mod device;
pub mod emulated;
pub mod epilogue;
pub mod error;
pub mod gemm;
pub mod heuristic;
mod hopper;
pub mod kernels;
pub mod matrix;
pub mod measure;
pub mod packed;
pub mod peers;
pub mod ptx;
pub mod schedule;

pub use cuda::CudaDevice;
pub use device::Device;
pub use emulated::EmulatedDevice;
pub use epilogue::Epilogue;
pub use error::{Error, Result};
pub use gemm::{Plan, Weight, gemm, linear};
pub use matrix::Matrix;
pub use packed::PackedWeight;
pub use schedule::{Choice, Schedule};
