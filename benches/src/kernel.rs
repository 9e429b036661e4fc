//! What a row can be computed with: the kernels of the GPU and those of the CPU.

use clap::ValueEnum;
use layout::instance::{Accumulator, Dtype};
use layout::params::Output;
use sparseflow::{Choice, Schedule, kernels};
use std::fmt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Op {
    /// X.W^T with a dense W
    Dense,
    /// X.W^T with a 2:4 sparse W
    Sparse,
    /// Pruning W to 2:4 and packing it
    Compress,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Compress => "compress",
        })
    }
}

/// Every element type, and its name.
pub const DTYPES: [(&str, Dtype); 2] = [("f16", Dtype::F16), ("bf16", Dtype::Bf16)];

/// The name of an element type.
pub const fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "f16",
        Dtype::Bf16 => "bf16",
    }
}

/// Every type that Y may have, and what it is called on the command line.
pub const OUTPUTS: [(&str, Output); 3] =
    [("input", Output::Input), ("f32", Output::F32), ("int8", Output::Int8)];

/// The name of the type of Y where X is of type `dtype`.
pub const fn output_name(output: Output, dtype: Dtype) -> &'static str {
    match output {
        Output::Input => dtype_name(dtype),
        Output::F32 => "f32",
        Output::Int8 => "int8",
    }
}

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// A GEMM of the GPU, and how its blocks share the work.
    Gemm(Choice),
    /// The compression of the GPU.
    Compress(Dtype),
    /// The crate `reference`.
    Cpu(Op, Dtype),
}

impl Kernel {
    /// Those that run on a GPU.
    pub fn gpu() -> impl Iterator<Item = Self> {
        let compress = DTYPES.map(|(_, dtype)| Self::Compress(dtype));
        kernels::all().map(|instance| Self::Gemm(instance.into())).chain(compress)
    }

    /// Those that run on the CPU.
    pub fn cpu() -> impl Iterator<Item = Self> {
        let ops = Op::value_variants().iter();
        ops.flat_map(|&op| DTYPES.map(|(_, dtype)| Self::Cpu(op, dtype)))
    }

    /// Its name; on a GPU, its entry in the PTX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm(choice) => choice.kernel.name,
            Self::Compress(dtype) => kernels::compress_entry(dtype),
            Self::Cpu(Op::Dense, Dtype::F16) => "cpu_dense_f16",
            Self::Cpu(Op::Dense, Dtype::Bf16) => "cpu_dense_bf16",
            Self::Cpu(Op::Sparse, Dtype::F16) => "cpu_sparse24_f16",
            Self::Cpu(Op::Sparse, Dtype::Bf16) => "cpu_sparse24_bf16",
            Self::Cpu(Op::Compress, Dtype::F16) => "cpu_compress24_f16",
            Self::Cpu(Op::Compress, Dtype::Bf16) => "cpu_compress24_bf16",
        }
    }

    /// How its blocks share the work, where it is a GEMM of the GPU.
    pub fn schedule(self) -> Option<Schedule> {
        match self {
            Self::Gemm(choice) => Some(choice.schedule),
            Self::Compress(_) | Self::Cpu(..) => None,
        }
    }

    /// What it computes.
    pub fn op(self) -> Op {
        match self {
            Self::Gemm(choice) if choice.kernel.family.is_sparse() => Op::Sparse,
            Self::Gemm(_) => Op::Dense,
            Self::Compress(_) => Op::Compress,
            Self::Cpu(op, _) => op,
        }
    }

    /// Element type of its operands.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Gemm(choice) => choice.kernel.dtype,
            Self::Compress(dtype) | Self::Cpu(_, dtype) => dtype,
        }
    }

    /// The type that it sums products in.
    pub fn accumulator(self) -> Accumulator {
        match self {
            Self::Gemm(choice) => choice.kernel.accumulator,
            Self::Compress(_) | Self::Cpu(..) => Accumulator::F32,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gemm(choice) => choice.fmt(f),
            Self::Compress(_) | Self::Cpu(..) => f.pad(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_the_type() {
        let mut names: Vec<_> = Kernel::gpu().chain(Kernel::cpu()).collect();
        let kernels = names.len();
        for kernel in &names {
            assert!(kernel.name().contains(&format!("_{}", dtype_name(kernel.dtype()))));
        }
        names.sort_by_key(|kernel| kernel.name());
        names.dedup_by_key(|kernel| kernel.name());
        assert_eq!(names.len(), kernels);
    }
}
