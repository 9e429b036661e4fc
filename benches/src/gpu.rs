//! Rows on a GPU, or on the emulator in its place. Where launches are timed, operands lie there several
//! times over, and launches rotate among them, so that none finds in L2 what the one before it has read.

use crate::backend::{Compress, Gemm, Timed};
use crate::check::packed_difference;
use crate::contest;
use crate::kernel::Kernel;
use crate::peers::{CUSPARSELT, Outcome, PeerCompress, PeerGemm, Peers};
use crate::problem::{Number, OutputNumber, Problem};
use anyhow::{Context, Result, bail};
use layout::params::Output;
use reference::Packed;
use sparseflow::epilogue::Fused;
use sparseflow::measure::rotation;
use sparseflow::{
    Choice, Device, EmulatedDevice, Epilogue, Error, Matrix, PackedWeight, Plan, Weight,
};
use std::sync::Arc;

/// Sets of operands to rotate among, of which a launch reads `bytes`; one where nothing is timed.
fn sets(device: &dyn Device, bytes: u64) -> usize {
    match device.as_any().is::<EmulatedDevice>() {
        true => 1,
        false => rotation(bytes, device.info().l2_bytes),
    }
}

/// X and W of one launch.
struct Set<T> {
    x: Matrix<T>,
    w: Operand<T>,
}

enum Operand<T> {
    Dense(Matrix<T>),
    Sparse(PackedWeight<T>),
}

impl<T> Operand<T> {
    fn dense(&self) -> Option<&Matrix<T>> {
        match self {
            Self::Dense(w) => Some(w),
            Self::Sparse(_) => None,
        }
    }

    fn weight(&self) -> Weight<'_, T> {
        match self {
            Self::Dense(w) => Weight::Dense(w),
            Self::Sparse(w) => Weight::Sparse(w),
        }
    }
}

/// What the epilogue of one form takes and gives, bias aside.
struct Form<T: Number, O: OutputNumber<T>> {
    fused: Fused,
    row_scale: Option<Matrix<f32>>,
    /// One for each set.
    ends: Vec<End<T, O>>,
}

/// C and Y of one launch.
struct End<T: Number, O: OutputNumber<T>> {
    c: Option<Matrix<O::Addend>>,
    y: Matrix<O>,
}

impl<T: Number, O: OutputNumber<T>> Form<T, O> {
    fn new(
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        fused: Fused,
        sets: usize,
    ) -> Result<Self> {
        let (m, n) = (problem.shape.m, problem.shape.n);
        let extras = problem.extras::<O>(fused);
        let end = |_| {
            let c = || Matrix::from_slice(device, &extras.c, m, n);
            let c = fused.residual.then(c).transpose()?;
            Ok(End { c, y: Matrix::poisoned(device, m, problem.columns(fused))? })
        };
        let row_scale = || Matrix::from_slice(device, &extras.row_scale, 1, m);
        Ok(Self {
            fused,
            row_scale: (!extras.row_scale.is_empty()).then(row_scale).transpose()?,
            ends: (0..sets).map(end).collect::<Result<_, Error>>()?,
        })
    }

    /// Launches of `choice` on each set.
    fn plans<'a>(
        &'a mut self,
        choice: Choice,
        bias: &'a Matrix<T>,
        sets: &'a [Set<T>],
    ) -> Result<Vec<Plan<'a>>, Error> {
        let Self { fused, row_scale, ends } = self;
        let plan = |(set, End { c, y }): (&'a Set<T>, &'a mut End<T, O>)| {
            let epilogue = Epilogue {
                alpha: 1.0,
                beta: if fused.residual { 1.0 } else { 0.0 },
                c: c.as_ref(),
                bias: fused.bias.then_some(bias),
                activation: fused.activation,
                gated: fused.gated,
                row_scale: row_scale.as_ref(),
            };
            Plan::new(Some(choice), &set.x, set.w.weight(), &epilogue, y)
        };
        sets.iter().zip(ends).map(plan).collect()
    }
}

/// A product with a Y of type `O`.
pub struct GpuGemm<'a, T: Number, O: OutputNumber<T>> {
    device: Arc<dyn Device>,
    problem: &'a Problem<T>,
    sets: Vec<Set<T>>,
    bias: Matrix<T>,
    /// Of the epilogue that was computed last.
    form: Option<Form<T, O>>,
    fault: Option<String>,
    repeat: Option<u32>,
    /// `Err`: why no peer takes part.
    peers: Option<Result<PeerGemm<T>, String>>,
}

impl<'a, T: Number, O: OutputNumber<T>> GpuGemm<'a, T, O> {
    /// Uploads the operands; a sparse W is pruned and packed by the GPU and compared with the
    /// reference. Peers get operands of their own where they cannot take ours.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn new(
        device: &Arc<dyn Device>,
        problem: &'a Problem<T>,
        sparse: bool,
        repeat: Option<u32>,
        peers: Option<&Peers>,
    ) -> Result<Self> {
        let (m, n, k) = (problem.shape.m, problem.shape.n, problem.shape.k);
        let upload_w = || Matrix::from_slice(device, problem.w(), n, k);
        let to_pack = if sparse { Some(upload_w()?) } else { None };
        let set = |_| -> Result<Set<T>> {
            let w = match &to_pack {
                Some(w) => Operand::Sparse(PackedWeight::prune_and_pack(w)?),
                None => Operand::Dense(upload_w()?),
            };
            Ok(Set { x: Matrix::from_slice(device, problem.x(), m, k)?, w })
        };
        let first = set(0)?;
        let fault = match (&first.w, &to_pack) {
            (Operand::Sparse(packed), Some(w)) => match pack_over_ones(packed, w)? {
                Ok(packed) => packed_difference(&packed, problem.packed()?),
                Err(reason) => Some(reason),
            },
            _ => None,
        };
        let count = sets(&**device, problem.gemm_bytes::<T>(sparse, Fused::default())?);
        let others = (1..count).map(set);
        let sets: Vec<Set<T>> = std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?;
        let bias = Matrix::from_slice(device, problem.bias(), 1, n)?;
        let peers = match peers {
            Some(peers) => {
                let operands: Vec<_> = sets.iter().map(|set| (&set.x, set.w.dense())).collect();
                let pruned = if sparse { problem.pruned()? } else { Vec::new() };
                let product = PeerGemm::new(peers, &operands, &bias, &pruned);
                Some(product.map_err(|error| error.to_string()))
            }
            None => None,
        };
        Ok(Self {
            device: Arc::clone(device),
            problem,
            sets,
            bias,
            form: None,
            fault: fault.map(|fault| format!("W was packed wrongly: {fault}")),
            repeat,
            peers,
        })
    }

    /// Takes what `fused` needs out of its place, or makes it. Another form's memory is freed first.
    fn take_form(&mut self, fused: Fused) -> Result<Form<T, O>> {
        match self.form.take() {
            Some(form) if form.fused == fused => Ok(form),
            _ => Form::new(&self.device, self.problem, fused, self.sets.len()),
        }
    }
}

fn choice(kernel: Kernel) -> Result<Choice> {
    match kernel {
        Kernel::Gemm(choice) => Ok(choice),
        other => bail!("{} is no product of the GPU", other.name()),
    }
}

impl<T: Number, O: OutputNumber<T>> Gemm<T, O> for GpuGemm<'_, T, O> {
    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn y(&mut self, kernel: Kernel, fused: Fused, over: Option<O>) -> Result<Vec<O>> {
        let mut form = self.take_form(fused)?;
        let y = &form.ends[0].y;
        match over {
            Some(over) => y.write(&vec![over; y.rows() * y.cols()])?,
            None => y.poison()?,
        }
        form.plans(choice(kernel)?, &self.bias, &self.sets[..1])?[0].launch()?;
        let y = form.ends[0].y.to_vec()?;
        self.form = Some(form);
        Ok(y)
    }

    fn peers(&mut self, fused: Fused) -> Vec<Outcome<T>> {
        match &mut self.peers {
            Some(Ok(peers)) => peers.outcomes(fused, O::OUTPUT),
            Some(Err(reason)) => vec![("peers", Err(reason.clone()))],
            None => Vec::new(),
        }
    }

    fn time(&mut self, kernel: Kernel, fused: Fused, with: &[&'static str]) -> Result<Timed> {
        let choice = choice(kernel)?;
        let mut form = self.take_form(fused)?;
        let is_bare = fused == Fused::default() && O::OUTPUT == Output::Input;
        let mut bare: Option<Form<T, T>> = match is_bare {
            true => None,
            false => {
                let (device, problem) = (&self.device, self.problem);
                Some(Form::new(device, problem, Fused::default(), self.sets.len())?)
            }
        };
        // Contestants: the row, the kernel without its epilogue, the peers.
        let mut ours = vec![form.plans(choice, &self.bias, &self.sets)?];
        if let Some(bare) = &mut bare {
            ours.push(bare.plans(choice, &self.bias, &self.sets)?);
        }
        let (kernels, peers) = (ours.len(), &mut self.peers);
        let contestants = kernels + with.len();
        let launch = |contestant: usize, i: usize| match (ours.get(contestant), &mut *peers) {
            (Some(plans), _) => plans[i % plans.len()].launch(),
            (None, Some(Ok(peers))) => peers.launch(with[contestant - kernels], i),
            (None, _) => Ok(()),
        };
        let times = contest::time(&*self.device, self.repeat, contestants, launch)?;
        drop(ours);
        self.form = Some(form);
        let mut times = times.into_iter();
        Ok(Timed {
            row: times.next().context("the row was not timed")?,
            bare: bare.and_then(|_| times.next()),
            peers: times.collect(),
        })
    }
}

/// Pruning and packing W.
pub struct GpuCompress<T> {
    device: Arc<dyn Device>,
    sets: Vec<(Matrix<T>, PackedWeight<T>)>,
    repeat: Option<u32>,
    /// `Err`: why the peer does not take part.
    peer: Option<Result<PeerCompress<T>, String>>,
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
        peers: Option<&Peers>,
    ) -> Result<Self> {
        let sets = sets(&**device, problem.w_bytes(false)?);
        let set = |_| {
            let w = Matrix::from_slice(device, problem.w(), problem.shape.n, problem.shape.k)?;
            let packed = PackedWeight::prune_and_pack(&w)?;
            Ok((w, packed))
        };
        let peer = peers.and_then(|peers| PeerCompress::open(peers, device, problem, sets));
        let sets = (0..sets).map(set).collect::<Result<_, Error>>()?;
        Ok(Self { device: Arc::clone(device), sets, repeat, peer })
    }
}

impl<T: Number> Compress<T> for GpuCompress<T> {
    fn packed(&mut self) -> Result<Result<Packed<T>, String>> {
        let (w, packed) = &self.sets[0];
        pack_over_ones(packed, w)
    }

    fn peers(&mut self) -> Vec<Outcome<T>> {
        let product = match &mut self.peer {
            Some(Ok(peer)) => peer.product().map_err(|error| error.to_string()),
            Some(Err(reason)) => Err(reason.clone()),
            None => return Vec::new(),
        };
        vec![(CUSPARSELT, product)]
    }

    fn time(&mut self, with: &[&'static str]) -> Result<Timed> {
        let launch = |contestant: usize, i: usize| match (contestant, &self.peer) {
            (1.., Some(Ok(peer))) => peer.launch(i),
            _ => {
                let (w, packed) = &self.sets[i % self.sets.len()];
                packed.compress(w)
            }
        };
        let times = contest::time(&*self.device, self.repeat, 1 + with.len(), launch)?;
        let mut times = times.into_iter();
        let row = times.next().context("the row was not timed")?;
        Ok(Timed { row, bare: None, peers: times.collect() })
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

#[cfg(test)]
mod tests;
