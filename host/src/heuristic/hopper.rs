//! What a Hopper kernel is expected to take. Its blocks are persistent, one to a multiprocessor, so what counts is how
//! many tiles the busiest one computes. Fitted to the times of all kernels on cubes and llama on one H200
//! (docs/tuning.md), later tiles to their times beside those: the choice takes 1.008 (cubes) and 1.004 (llama) times
//! what the tuner finds.

use crate::autotune::Problem;
use crate::device::DeviceInfo;
use crate::epilogue::Fused;
use crate::hopper;
use crate::schedule::{Choice, Schedule};
use layout::hopper::ROWS;
use layout::instance::Instance;

/// Floating-point operations per microsecond and multiprocessor.
const DENSE_RATE: f64 = 814e6 / 132.0;
const SPARSE_RATE: f64 = 1277e6 / 132.0;
/// Bytes per microsecond from memory: of rows of W, and of the tiles of a sparse one.
const DENSE_MEMORY_RATE: f64 = 4.15e6;
const SPARSE_MEMORY_RATE: f64 = 4.37e6;
/// Microseconds of a launch, of one of clusters besides, until the first 64 columns of K have come, and of what
/// is left of the epilogue of 128x256 accumulators.
const LAUNCH: f64 = 3.96;
const CLUSTER: f64 = 0.5;
const FILL: f64 = 0.95;
const EPILOGUE: f64 = 0.12;
/// Microseconds that split-K adds, and per 100 kB of partial sums that a multiprocessor writes and reads. Stream-K
/// adds as much, and computes on all multiprocessors to the end.
const SPLIT_K: f64 = 2.1;
const SPLIT_K_100KB: f64 = 3.5;

/// Bytes in flight, of all blocks together, with which a sparse W for few tokens streams fastest; what it loses per
/// multiple of them beyond, and per share of them below.
const IN_FLIGHT: f64 = 14.5e6;
const BEYOND: f64 = 0.08;
const BELOW: f64 = 0.12;
/// Most tokens of a tile for which that was measured.
const FEW_TOKENS: usize = 64;

/// Microseconds in which two blocks of a cluster exchange half of 128x256 sums, and until blocks that are not
/// persistent follow others.
const EXCHANGE: f64 = 2.4;
const RESTART: f64 = 2.0;

/// The rate of a tile relative to that of 256x128.
fn efficiency(kernel: &Instance) -> f64 {
    match (kernel.family.is_sparse(), kernel.bm, kernel.bn, kernel.bk) {
        (_, _, 192, _) => 1.04,
        (false, 256, ..) if kernel.slices == 2 => 0.95,
        (false, 256, ..) if kernel.cluster == 1 => 0.994,
        (false, 192, ..) => 1.015,
        (false, 128, ..) => 0.93,
        (false, 64, ..) => 0.74,
        (false, 16, ..) => 0.25,
        (true, 256, ..) if kernel.cluster == 1 => 0.98,
        (true, 192, ..) => 1.045,
        (true, 160, ..) => 1.004,
        (true, 128, 256, _) => 0.97,
        (true, 128, _, 128) => 0.9,
        (true, 128, ..) => 0.866,
        (true, 64, ..) => 0.69,
        (true, 32, ..) => 0.424,
        (true, 16, ..) => 0.267,
        _ => 1.0,
    }
}

/// The same of a narrow tile of three consumers.
const NARROW: f64 = 0.94;
/// See [`fused`]: bias alone costs 1.4% where it costs others nothing, and peers beside it tell of more.
const EXPOSED: f64 = 1.03;

/// Tiles of the busiest multiprocessor, in whole ones.
fn rounds(kernel: &Instance, m: usize, n: usize, device: &DeviceInfo) -> f64 {
    let Some(shape) = kernel.hopper() else { return 0.0 };
    let (m, n) = (m as u32, n as u32);
    let workers = (device.multiprocessors / shape.cluster).max(1);
    let columns = hopper::columns(shape, m, n, device);
    let (wide, narrow) = columns.share(m.div_ceil(shape.bm), n, workers);
    let features = (shape.bn - ROWS) as f64 / shape.bn as f64;
    wide as f64 + narrow as f64 * features * efficiency(kernel) / NARROW
}

/// By how much `problem`'s epilogue slows `kernel` more than others: by [`EXPOSED`], if its tiles are then finished
/// while nothing multiplies.
pub fn fused(kernel: &Instance, problem: &Problem) -> f64 {
    let Some(shape) = kernel.hopper() else { return 1.0 };
    let bare = problem.fused == Fused::default();
    if hopper::overlaps(shape, true) && !hopper::overlaps(shape, bare) { EXPOSED } else { 1.0 }
}

/// How much longer W takes to stream than at best, for `tiles` tiles, of all tokens, on `sms` multiprocessors.
fn streaming(choice: Choice, tiles: f64, sms: f64) -> f64 {
    let kernel = choice.kernel;
    if !kernel.family.is_sparse() || kernel.bm as usize > FEW_TOKENS {
        return 1.0;
    }
    let slices = match choice.schedule {
        Schedule::SplitK(slices) => slices as f64,
        _ => 1.0,
    };
    let ahead = (kernel.stages * kernel.family.stage_bytes(kernel.bm, kernel.bn, kernel.bk)) as f64;
    let share = (tiles * slices).min(sms) * ahead / IN_FLIGHT;
    1.0 + if share > 1.0 { BEYOND * (share - 1.0) } else { BELOW * (1.0 - share) }
}

/// Microseconds for `[m, n, k]`.
pub fn cost(choice: Choice, m: usize, n: usize, k: usize, device: &DeviceInfo) -> f64 {
    let kernel = choice.kernel;
    let sparse = kernel.family.is_sparse();
    let slices = kernel.slices as f64;
    let (bm, bn) = (kernel.bm as usize, kernel.bn as usize);
    let cluster = (kernel.cluster / kernel.slices) as usize;
    // A cluster's tiles, and what of a multiprocessor's time one takes.
    let (tiles_m, tiles_n) = (m.div_ceil(bm) as f64, n.div_ceil(bn * cluster) as f64);
    let tiles = tiles_m * tiles_n;
    let sms = device.multiprocessors.max(1) as f64;
    let workers = (sms / cluster as f64).floor().max(1.0);
    let rate = if sparse { SPARSE_RATE } else { DENSE_RATE };
    let area = (bm * bn) as f64;
    let work = 2.0 * area * k as f64 / (rate * efficiency(kernel));
    let epilogue = EPILOGUE * area / 32768.0;
    let partial = |parts: f64| SPLIT_K + SPLIT_K_100KB * parts * area * 8.0 / sms / 1e5;
    let (compute, sharing) = match choice.schedule {
        Schedule::Tiles if kernel.slices > 1 => {
            let clusters = (device.multiprocessors / kernel.cluster).max(1) as f64;
            let waves = (tiles / clusters).ceil();
            let exchange = EXCHANGE * area / 32768.0 * waves + RESTART * (waves - 1.0);
            (waves * (work / slices + epilogue), exchange)
        }
        Schedule::Tiles => (rounds(kernel, m, n, device) * (work + epilogue), 0.0),
        Schedule::SplitK(slices) => {
            let slices = slices as f64;
            let waves = (tiles * slices / workers).ceil();
            (waves * (work / slices + epilogue), partial(slices * tiles * cluster as f64))
        }
        Schedule::StreamK => {
            let each = tiles / workers;
            (each * work + each.ceil() * epilogue, partial(2.0 * sms))
        }
    };
    // Values and metadata, or 16-bit elements.
    let w = (n * k) as f64 * if sparse { 1.125 } else { 2.0 };
    let (x, y) = ((m * k * 2) as f64, (m * n * 2) as f64);
    let memory = (x + w + y) / if sparse { SPARSE_MEMORY_RATE } else { DENSE_MEMORY_RATE };
    let memory = if tiles_m > 1.0 { memory } else { memory * streaming(choice, tiles, sms) };
    let fill = FILL * kernel.bk as f64 / 64.0;
    let clusters = if kernel.cluster > 1 { CLUSTER } else { 0.0 };
    // The larger of the two, and a little of the other.
    (compute.powi(3) + memory.powi(3)).cbrt() + LAUNCH + clusters + fill + sharing
}
