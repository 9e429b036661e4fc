//! Rows on a GPU, or on the emulator in its place. Where launches are timed, operands lie there several
//! times over, and launches rotate among them, so that none finds in L2 what the one before it has read.

use crate::backend::{Compress, Gemm};
use crate::check::packed_difference;
use crate::contest;
use crate::kernel::Kernel;
use crate::peers::{CUSPARSELT, Outcome, PeerCompress, PeerGemm, Peers};
use crate::problem::{Number, Problem};
use anyhow::{Result, bail};
use reference::Packed;
use sparseflow::epilogue::Fused;
use sparseflow::measure::{Times, rotation};
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

/// A product.
pub struct GpuGemm<T> {
    device: Arc<dyn Device>,
    first: Set<T>,
    others: Vec<Set<T>>,
    bias: Matrix<T>,
    fault: Option<String>,
    repeat: Option<u32>,
    /// `Err`: why no peer takes part.
    peers: Option<Result<PeerGemm<T>, String>>,
}

impl<T: Number> GpuGemm<T> {
    /// Uploads the operands; a sparse W is pruned and packed by the GPU and compared with the
    /// reference. Peers get operands of their own where they cannot take ours.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn new(
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        sparse: bool,
        repeat: Option<u32>,
        peers: Option<&Peers>,
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
        let others: Vec<Set<T>> = (1..sets).map(|_| set()).collect::<Result<_>>()?;
        let bias = Matrix::from_slice(device, problem.bias(), 1, n)?;
        let peers = match peers {
            Some(peers) => {
                let sets = std::iter::once(&first).chain(&others);
                let operands: Vec<_> = sets.map(|set| (&set.x, set.w.dense())).collect();
                let pruned = if sparse { problem.pruned()? } else { Vec::new() };
                let product = PeerGemm::new(peers, &operands, &bias, &pruned);
                Some(product.map_err(|error| error.to_string()))
            }
            None => None,
        };
        Ok(Self {
            device: Arc::clone(device),
            first,
            others,
            bias,
            fault: fault.map(|fault| format!("W was packed wrongly: {fault}")),
            repeat,
            peers,
        })
    }
}

fn plan<'a, T: Number>(
    choice: Choice,
    fused: Fused,
    bias: &'a Matrix<T>,
    set: &'a mut Set<T>,
) -> Result<Plan<'a>, Error> {
    let bias = fused.bias.then_some(bias);
    let epilogue = Epilogue { bias, activation: fused.activation, ..Default::default() };
    Plan::new(Some(choice), &set.x, set.w.weight(), &epilogue, &mut set.y)
}

fn choice(kernel: Kernel) -> Result<Choice> {
    match kernel {
        Kernel::Gemm(choice) => Ok(choice),
        other => bail!("{} is no product of the GPU", other.name()),
    }
}

impl<T: Number> Gemm<T> for GpuGemm<T> {
    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn y(&mut self, kernel: Kernel, fused: Fused) -> Result<Vec<T>> {
        self.first.y.poison()?;
        plan(choice(kernel)?, fused, &self.bias, &mut self.first)?.launch()?;
        Ok(self.first.y.to_vec()?)
    }

    fn peers(&mut self, fused: Fused) -> Vec<Outcome<T>> {
        match &mut self.peers {
            Some(Ok(peers)) => peers.outcomes(fused),
            Some(Err(reason)) => vec![("peers", Err(reason.clone()))],
            None => Vec::new(),
        }
    }

    fn time(&mut self, kernel: Kernel, fused: Fused, with: &[&'static str]) -> Result<Vec<Times>> {
        let choice = choice(kernel)?;
        let sets = std::iter::once(&mut self.first).chain(&mut self.others);
        let plans: Vec<Plan<'_>> =
            sets.map(|set| plan(choice, fused, &self.bias, set)).collect::<Result<_, Error>>()?;
        let peers = &mut self.peers;
        contest::time(&*self.device, self.repeat, 1 + with.len(), |contestant, i| {
            match (contestant.checked_sub(1), &mut *peers) {
                (Some(peer), Some(Ok(peers))) => peers.launch(with[peer], i),
                _ => plans[i % plans.len()].launch(),
            }
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

    fn time(&mut self, with: &[&'static str]) -> Result<Vec<Times>> {
        contest::time(&*self.device, self.repeat, 1 + with.len(), |contestant, i| {
            match (contestant, &self.peer) {
                (1.., Some(Ok(peer))) => peer.launch(i),
                _ => {
                    let (w, packed) = &self.sets[i % self.sets.len()];
                    packed.compress(w)
                }
            }
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

#[cfg(test)]
mod tests;
