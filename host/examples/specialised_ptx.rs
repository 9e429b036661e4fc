//! Writes the PTX that a driver gets for launches of the largest kernels, parameters compiled in, to
//! `DIR/<architecture>/<kernel>.<form>.ptx`: for `scripts/check-ptx.sh`, which assembles them.
//!
//!     cargo run -p sparseflow --example specialised_ptx -- target/ptx/specialised

use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::{Dtype, Instance};
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::{
    Choice, Device, EmulatedDevice, Epilogue, Matrix, PackedWeight, Plan, Schedule, Weight, kernels,
};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Accumulators of a block from which on a kernel for sm_80 is one of the largest.
const LARGE: u32 = 128 * 256;

/// Operands of any product, contiguous.
struct Operands<T> {
    x: Matrix<T>,
    w: Matrix<T>,
    packed: PackedWeight<T>,
    bias: Matrix<T>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: specialised_ptx DIR")?;
    let directory = Path::new(&directory);
    // Nothing is launched but the packing of W.
    let device = EmulatedDevice::open(1);
    write::<f16>(&device, Dtype::F16, directory)?;
    write::<bf16>(&device, Dtype::Bf16, directory)
}

fn write<T>(device: &Arc<dyn Device>, dtype: Dtype, directory: &Path) -> Result<(), Box<dyn Error>>
where
    T: Value + reference::Element + OutputOf<T>,
    f32: OutputOf<T>,
{
    let ones =
        |rows, cols| Matrix::from_slice(device, &vec![T::from_f32(1.0); rows * cols], rows, cols);
    let w = ones(64, 64)?;
    let operands = Operands {
        x: ones(64, 64)?,
        packed: PackedWeight::prune_and_pack(&w)?,
        w,
        bias: ones(1, 64)?,
    };
    for kernel in kernels::all().filter(|kernel| kernel.dtype == dtype) {
        if !kernel.family.is_hopper() && kernel.bm * kernel.bn < LARGE {
            continue;
        }
        let directory = directory.join(if kernel.family.is_hopper() { "sm_90a" } else { "sm_80" });
        std::fs::create_dir_all(&directory)?;
        let bare = operands.ptx::<T>(kernel, Schedule::Tiles, &Epilogue::default())?;
        std::fs::write(directory.join(format!("{}.bare.ptx", kernel.name)), bare)?;
        // All at once: what is found last, f32 out and tiles that are shared.
        let full = Epilogue {
            bias: Some(&operands.bias),
            activation: Activation::Gelu,
            ..Default::default()
        };
        let full = operands.ptx::<f32>(kernel, Schedule::SplitK(2), &full)?;
        std::fs::write(directory.join(format!("{}.full.ptx", kernel.name)), full)?;
    }
    Ok(())
}

impl<T: Value + reference::Element> Operands<T> {
    fn ptx<O: OutputOf<T>>(
        &self,
        kernel: &'static Instance,
        schedule: Schedule,
        epilogue: &Epilogue<'_, T, O>,
    ) -> Result<String, Box<dyn Error>> {
        let w = match kernel.family.is_sparse() {
            true => Weight::Sparse(&self.packed),
            false => Weight::Dense(&self.w),
        };
        let mut y = Matrix::uninitialized(self.x.device(), self.x.rows(), w_rows(&w))?;
        let choice = Choice { kernel, schedule };
        Ok(Plan::new(Some(choice), &self.x, w, epilogue, &mut y)?.ptx()?)
    }
}

fn w_rows<T: Value + reference::Element>(w: &Weight<'_, T>) -> usize {
    match w {
        Weight::Dense(w) => w.rows(),
        Weight::Sparse(w) => w.n(),
    }
}
