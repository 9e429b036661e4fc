//! `reference`: SparseFlow on the CPU, in two roles.
//!
//! It **computes** `Y[M,N] = act(alpha * X[M,K] . W[N,K]^T + beta * C[M,N] + bias[N])` in f32 with W
//! dense or 2:4 sparse (the CPU backend), and it **judges** any other computation of it: the same
//! operation in f64 from the same rounded inputs, with a derived error bound for every element.
//! Pruning and packing follow `layout::packed24`, activations `layout::activation`; nothing is
//! defined twice.
//!
//! All matrices are row-major with K contiguous in X and W. Every result is the same, bit for bit,
//! whatever the number of threads and whatever vector instructions the machine has: each element is
//! one sum in the order of K, and every product is exact in the type it is summed in. (A product of
//! bf16 below or above the range of f32 is the one exception, where fused and unfused sums differ.)
//!
//! | module | what it does |
//! |---|---|
//! | [`element`] | the number types: f16 and bf16 in, those, f32 and int8 out |
//! | [`matrix`] | [`MatRef`] and [`MatMut`], checked row-major views |
//! | [`mod@prune`] | pruning to 2:4 in place |
//! | [`pack`] | [`Packed`]: prune and pack, pack, unpack, validate |
//! | [`epilogue`] | [`Epilogue`]: alpha, beta, C, bias, activation, gating, row scales, in f32 and in f64 |
//! | [`mod@gemm`] | [`gemm()`] in f32, dense and sparse; [`Weights`] |
//! | [`mod@judge`] | [`judge()`], [`judge_rows`]: the result in f64 and the magnitude of its summands |
//! | [`tolerance`] | [`check`], [`exact`], [`verify`]: is this Y right? For sums in f32 and in f16 |
//! | [`random`] | reproducible inputs |
//! | [`error`] | what can be wrong with an input |
//! | `product` | the blocked, parallel product X.W^T in f32 or f64 that gemm and judge share |
//! | `tile` | its innermost loops, for AVX-512, AVX2 and any other machine |

pub mod element;
pub mod epilogue;
pub mod error;
pub mod gemm;
pub mod judge;
pub mod matrix;
pub mod pack;
mod product;
pub mod prune;
pub mod random;
mod tile;
pub mod tolerance;

pub use element::{Element, OutputOf, Scalar};
pub use epilogue::Epilogue;
pub use error::Error;
pub use gemm::{Weights, gemm};
pub use judge::{Judged, judge, judge_rows};
pub use layout::instance::Accumulator;
pub use matrix::{MatMut, MatRef};
pub use pack::Packed;
pub use prune::prune;
pub use tolerance::{Check, Mismatch, check, exact, verify, verify_accumulated};
