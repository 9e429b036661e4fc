//! Rows on a GPU, or on the emulator in its place. Where launches are timed, operands lie there several
//! times over, and launches rotate among them, so that none finds in L2 what the one before it has read.

use crate::backend::{Compress, Gemm};
use crate::check::packed_difference;
use crate::kernel::Kernel;
use crate::problem::{Number, Problem};
use anyhow::{Context, Result, bail};
use layout::instance::Instance;
use reference::Packed;
use sparseflow::epilogue::Fused;
use sparseflow::measure::{self, Repeats, Times, rotation};
use sparseflow::{Device, EmulatedDevice, Epilogue, Error, Matrix, PackedWeight, Plan, Weight};
use std::sync::Arc;

/// Time on the device that brings the clock up again after the pause of a check, in microseconds.
const WARM_UP_US: f64 = 20_000.0;
/// Most launches that are queued for that.
const MOST_WARM_UPS: f64 = 1000.0;

/// Sets of operands to rotate among, of which a launch reads `bytes`; one where nothing is timed.
fn sets(device: &dyn Device, bytes: u64) -> usize {
    match device.as_any().is::<EmulatedDevice>() {
        true => 1,
        false => rotation(bytes, device.info().l2_bytes),
    }
}

/// The operands of one launch.
struct Set<T> {
    x: Matrix<T>,
    w: Operand<T>,
    y: Matrix<T>,
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

/// A product.
pub struct GpuGemm<T> {
    device: Arc<dyn Device>,
    first: Set<T>,
    others: Vec<Set<T>>,
    bias: Matrix<T>,
    fault: Option<String>,
    repeat: Option<u32>,
}

impl<T: Number> GpuGemm<T> {
    /// Uploads the operands; a sparse W is pruned and packed by the GPU and compared with the
    /// reference.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn new(
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        sparse: bool,
        repeat: Option<u32>,
    ) -> Result<Self> {
        let (m, n, k) = (problem.shape.m, problem.shape.n, problem.shape.k);
        let upload_w = || Matrix::from_slice(device, problem.w(), n, k);
        let to_pack = if sparse { Some(upload_w()?) } else { None };
        let set = || -> Result<Set<T>> {
            let w = match &to_pack {
                Some(w) => Operand::Sparse(PackedWeight::prune_and_pack(w)?),
                None => Operand::Dense(upload_w()?),
            };
            let x = Matrix::from_slice(device, problem.x(), m, k)?;
            Ok(Set { x, w, y: Matrix::poisoned(device, m, n)? })
        };
        let first = set()?;
        let fault = match (&first.w, &to_pack) {
            (Operand::Sparse(packed), Some(w)) => match pack_over_ones(packed, w)? {
                Ok(packed) => packed_difference(&packed, problem.packed()?),
                Err(reason) => Some(reason),
            },
            _ => None,
        };
        let sets = sets(&**device, problem.gemm_bytes(sparse)?);
        Ok(Self {
            device: Arc::clone(device),
            first,
            others: (1..sets).map(|_| set()).collect::<Result<_>>()?,
            bias: Matrix::from_slice(device, problem.bias(), 1, n)?,
            fault: fault.map(|fault| format!("W was packed wrongly: {fault}")),
            repeat,
        })
    }
}

fn plan<'a, T: Number>(
    instance: &'static Instance,
    fused: Fused,
    bias: &'a Matrix<T>,
    set: &'a mut Set<T>,
) -> Result<Plan<'a>, Error> {
    let bias = fused.bias.then_some(bias);
    let epilogue = Epilogue { bias, activation: fused.activation, ..Default::default() };
    Plan::new(Some(instance.into()), &set.x, set.w.weight(), &epilogue, &mut set.y)
}

fn instance(kernel: Kernel) -> Result<&'static Instance> {
    match kernel {
        Kernel::Gemm(instance) => Ok(instance),
        other => bail!("{} is no product of the GPU", other.name()),
    }
}

impl<T: Number> Gemm<T> for GpuGemm<T> {
    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn y(&mut self, kernel: Kernel, fused: Fused) -> Result<Vec<T>> {
        self.first.y.poison()?;
        plan(instance(kernel)?, fused, &self.bias, &mut self.first)?.launch()?;
        Ok(self.first.y.to_vec()?)
    }

    fn time(&mut self, kernel: Kernel, fused: Fused) -> Result<Times> {
        let instance = instance(kernel)?;
        let sets = std::iter::once(&mut self.first).chain(&mut self.others);
        let plans: Vec<Plan<'_>> =
            sets.map(|set| plan(instance, fused, &self.bias, set)).collect::<Result<_, Error>>()?;
        time(&*self.device, self.repeat, |i| plans[i % plans.len()].launch())
    }
}

/// Pruning and packing W.
pub struct GpuCompress<T> {
    device: Arc<dyn Device>,
    sets: Vec<(Matrix<T>, PackedWeight<T>)>,
    repeat: Option<u32>,
}

impl<T: Number> GpuCompress<T> {
    /// Uploads W.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn new(
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        repeat: Option<u32>,
    ) -> Result<Self> {
        let sets = sets(&**device, problem.w_bytes(false)?);
        let set = |_| {
            let w = Matrix::from_slice(device, problem.w(), problem.shape.n, problem.shape.k)?;
            let packed = PackedWeight::prune_and_pack(&w)?;
            Ok((w, packed))
        };
        let sets = (0..sets).map(set).collect::<Result<_, Error>>()?;
        Ok(Self { device: Arc::clone(device), sets, repeat })
    }
}

impl<T: Number> Compress<T> for GpuCompress<T> {
    fn packed(&mut self) -> Result<Result<Packed<T>, String>> {
        let (w, packed) = &self.sets[0];
        pack_over_ones(packed, w)
    }

    fn time(&mut self) -> Result<Times> {
        time(&*self.device, self.repeat, |i| {
            let (w, packed) = &self.sets[i % self.sets.len()];
            packed.compress(w)
        })
    }
}

/// Packs `w` over ones. `Err` inside: what came out is not a packed matrix, and why.
fn pack_over_ones<T: Number>(
    packed: &PackedWeight<T>,
    w: &Matrix<T>,
) -> Result<Result<Packed<T>, String>> {
    packed.poison()?;
    packed.compress(w)?;
    match packed.to_host() {
        Ok(packed) => Ok(Ok(packed)),
        Err(Error::Reference(error)) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn time(
    device: &dyn Device,
    repeat: Option<u32>,
    mut launch: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Times> {
    let none = "no launch was timed";
    let Repeats { warm_up, timed } = Repeats::default();
    let trial = Repeats { warm_up: 2, timed: 3 };
    let trial = measure::time(device, trial, &mut launch)?.context(none)?;
    let more = (WARM_UP_US / trial.median.max(1.0)).min(MOST_WARM_UPS) as usize;
    let timed = repeat.map_or(timed, |repeat| repeat as usize);
    let repeats = Repeats { warm_up: warm_up.max(more), timed };
    measure::time(device, repeats, launch)?.context(none)
}

#[cfg(test)]
mod tests;
