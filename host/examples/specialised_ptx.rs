//! Writes the PTX that a driver gets for launches of the largest kernels, parameters compiled in, to
//! `DIR/<architecture>/<kernel>.<form>.ptx`: for `scripts/check-ptx.sh`, which assembles them.
//!
//!     cargo run -p sparseflow --example specialised_ptx -- target/ptx/specialised

use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::Instance;
use reference::Element;
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::{
    Choice, Device, EmulatedDevice, Epilogue, Matrix, PackedWeight, Plan, Schedule, Weight, kernels,
};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// Accumulators of a block from which on a kernel for sm_80 is one of the largest.
const LARGE: u32 = 128 * 256;

/// K of a single stage, and of enough of them for a tile to be finished behind the next.
const SHORT: usize = 64;
const LONG: usize = 512;

/// Operands of a product of 64 features and tokens.
struct Operands<T> {
    k: usize,
    x: Matrix<T>,
    w: Matrix<T>,
    packed: PackedWeight<T>,
    bias: Matrix<T>,
    directory: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: specialised_ptx DIR")?;
    // Nothing is launched but the packing of W.
    let device = EmulatedDevice::open(1);
    for k in [SHORT, LONG] {
        Operands::<f16>::new(&device, &directory, k)?.write()?;
        Operands::<bf16>::new(&device, &directory, k)?.write()?;
    }
    Ok(())
}

impl<T> Operands<T>
where
    T: Value + Element + OutputOf<T>,
    f32: OutputOf<T>,
{
    fn new(device: &Arc<dyn Device>, directory: &str, k: usize) -> Result<Self, Box<dyn Error>> {
        let ones = |rows, columns| {
            Matrix::from_slice(device, &vec![T::from_f32(1.0); rows * columns], rows, columns)
        };
        let (x, w, bias) = (ones(64, k)?, ones(64, k)?, ones(1, 64)?);
        let packed = PackedWeight::prune_and_pack(&w)?;
        Ok(Self { k, x, w, packed, bias, directory: directory.into() })
    }

    /// All forms of all kernels; those that K makes a difference for, where it is long.
    fn write(&self) -> Result<(), Box<dyn Error>> {
        let large = |kernel: &Instance| kernel.family.is_hopper() || kernel.bm * kernel.bn >= LARGE;
        let overlaps =
            |kernel: &Instance| kernel.hopper().is_some_and(|shape| shape.overlapping_blocks() > 0);
        for kernel in kernels::all().filter(|kernel| kernel.dtype == T::DTYPE && large(kernel)) {
            if self.k == LONG && !overlaps(kernel) {
                continue;
            }
            let tiles = Choice { kernel, schedule: Schedule::Tiles };
            let split = Choice { kernel, schedule: Schedule::SplitK(2) };
            let bare = Epilogue::default();
            self.write_one::<T>("bare", tiles, &bare)?;
            let (bias, activation) = (Some(&self.bias), Activation::Gelu);
            let fused = Epilogue { bias, activation, ..Default::default() };
            self.write_one::<T>("fused", tiles, &fused)?;
            if kernel.shares() {
                self.write_one::<T>("split", split, &bare)?;
                let fused = Epilogue { bias, activation, gated: true, ..Default::default() };
                self.write_one::<f32>("gated", tiles, &fused)?;
            }
        }
        Ok(())
    }

    /// One launch, as a driver gets it.
    fn write_one<O: OutputOf<T>>(
        &self,
        form: &str,
        choice: Choice,
        epilogue: &Epilogue<'_, T, O>,
    ) -> Result<(), Box<dyn Error>> {
        let kernel = choice.kernel;
        let w = match kernel.family.is_sparse() {
            true => Weight::Sparse(&self.packed),
            false => Weight::Dense(&self.w),
        };
        let columns = if epilogue.gated { 32 } else { 64 };
        let mut y = Matrix::uninitialized(self.x.device(), 64, columns)?;
        let text = Plan::new(Some(choice), &self.x, w, epilogue, &mut y)?.ptx()?;
        let arch = if kernel.family.is_hopper() { "sm_90a" } else { "sm_80" };
        let directory = self.directory.join(arch);
        std::fs::create_dir_all(&directory)?;
        Ok(std::fs::write(directory.join(format!("{}.{form}-{}.ptx", kernel.name, self.k)), text)?)
    }
}
