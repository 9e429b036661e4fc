//! Which kernel and schedule to use for a shape, without measuring: a model of what each would cost.
//!
//! A block computes its tile at the rate that its kernel reaches at its best, a multiprocessor runs its
//! blocks side by side, waves of blocks follow each other, and what has to be read sets a floor. The
//! constants were fitted to the tuner's times of cubes and llama on one H200 (docs/tuning.md); on another
//! GPU the number of multiprocessors scales them, and the tuner knows better. Hopper's kernels have a model of their
//! own, `hopper`.

mod hopper;

use crate::autotune::Problem;
use crate::device::DeviceInfo;
use crate::error::Result;
use crate::kernels;
use crate::schedule::{Choice, Schedule};
use layout::instance::{Family, Instance};

/// Floating-point operations per microsecond and multiprocessor of the best dense and sparse kernels.
const DENSE_RATE: f64 = 490e6 / 132.0;
const SPARSE_RATE: f64 = 705e6 / 132.0;
/// Bytes per microsecond from memory, and from L2 to all multiprocessors.
const MEMORY_RATE: f64 = 4.1e6;
const L2_RATE: f64 = 5.5e6;
/// Share of the traffic from L2 that is not hidden.
const L2_SHARE: f64 = 0.15;
/// A multiprocessor with q of its b blocks reaches (q / b) to this power of its rate.
const OCCUPANCY: f64 = 0.37;
/// Microseconds of a launch, and of a wave.
const LAUNCH: f64 = 4.0;
const WAVE: f64 = 1.0;
/// Microseconds that sharing tiles adds: stream-K, and per 128x256 accumulators of a multiprocessor's
/// blocks; split-K, and per 100 kB of partial sums that a multiprocessor writes and reads.
const STREAM_K: f64 = 11.2;
const STREAM_K_TILE: f64 = 1.5;
const SPLIT_K: f64 = 2.0;
const SPLIT_K_100KB: f64 = 1.0;
/// Waves from which on it does not matter whether the last one is full.
const MANY_WAVES: f64 = 6.0;
/// Slices of K that are considered, and the fewest K-blocks of one.
const SLICES: [u32; 6] = [2, 3, 4, 6, 8, 12];
const LEAST_SLICE: usize = 4;

/// The rate of a tile relative to that of the family's best.
fn efficiency(kernel: &Instance) -> f64 {
    match (kernel.family.is_sparse(), kernel.bm, kernel.bn, kernel.bk) {
        (false, 128, 256, 32) => 0.965,
        (false, 128, 128, _) => 0.93,
        (false, 64, 128, 64) => 0.72,
        (false, 64, 64, 128) => 0.66,
        (false, 64, 64, 64) => 0.6,
        (false, 32, ..) => 0.4,
        (false, 16, ..) => 0.25,
        (true, 256, 128, 64) => 0.96,
        (true, 128, 128, 64) => 0.98,
        (true, 64, 256, 64) => 0.68,
        (true, 64, 128, 64) => 0.78,
        (true, 64, 64, 64) => 0.58,
        (true, 32, 128, 128) => 0.45,
        (true, 32, ..) => 0.35,
        (true, 16, _, 64) => 0.2,
        (true, 16, ..) => 0.25,
        _ => 1.0,
    }
}

/// What `choice` is expected to take for `[m, n, k]`, in microseconds.
pub(crate) fn cost(choice: Choice, m: usize, n: usize, k: usize, device: &DeviceInfo) -> f64 {
    let kernel = choice.kernel;
    if kernel.family.is_hopper() {
        return hopper::cost(choice, m, n, k, device);
    }
    let sparse = kernel.family.is_sparse();
    let (bm, bn) = (kernel.bm as usize, kernel.bn as usize);
    let (tiles_m, tiles_n) = (m.div_ceil(bm) as f64, n.div_ceil(bn) as f64);
    let tiles = tiles_m * tiles_n;
    let (sms, resident) = (device.multiprocessors.max(1) as f64, kernel.blocks_per_sm as f64);
    let rate = if sparse { SPARSE_RATE } else { DENSE_RATE };
    let work = 2.0 * (bm * bn) as f64 * k as f64 / (rate * efficiency(kernel));
    let occupied = |blocks: f64| (blocks / resident).powf(OCCUPANCY).min(1.0);
    let slots = sms * resident;
    let in_waves = |blocks: f64, work: f64| {
        let full = (blocks / slots).floor();
        let most = ((blocks - full * slots) / sms).ceil();
        let last = if most > 0.0 { most * work / occupied(most) } else { 0.0 };
        full * resident * work + last
    };
    let (compute, sharing) = match choice.schedule {
        Schedule::Tiles => (in_waves(tiles, work) + tiles / slots * WAVE, 0.0),
        Schedule::SplitK(slices) => {
            let partial = slices as f64 * tiles * (bm * bn * 8) as f64 / sms / 1e5;
            let slices = slices as f64;
            (in_waves(tiles * slices, work / slices), SPLIT_K + SPLIT_K_100KB * partial)
        }
        Schedule::StreamK => {
            let k_blocks = k.div_ceil(kernel.bk as usize) as f64;
            let blocks = (tiles * k_blocks / sms).clamp(1.0, resident);
            let fix_up = STREAM_K_TILE * resident * (bm * bn) as f64 / 32768.0;
            (tiles * work / sms / occupied(blocks) + fix_up, STREAM_K)
        }
    };
    // Values and metadata, or 16-bit elements.
    let w = (n * k) as f64 * if sparse { 1.125 } else { 2.0 };
    let (x, y) = ((m * k * 2) as f64, (m * n * 2) as f64);
    let memory = (x + w + y) / MEMORY_RATE + L2_SHARE * (x * tiles_n + w * tiles_m) / L2_RATE;
    // The larger of the two, and a little of the other.
    (compute.powi(3) + memory.powi(3)).cbrt() + LAUNCH + sharing
}

/// The kernel and schedule for `Y[m, n]` over `k` that are expected to be fastest. wmma kernels are for
/// comparison and are only chosen by name.
///
/// # Errors
/// [`Error::NoKernel`](crate::Error::NoKernel) where the device can run none.
pub fn select(problem: &Problem, device: &DeviceInfo) -> Result<Choice> {
    let Problem { sparse, dtype, m, n, k, .. } = *problem;
    let mut eligible = kernels::eligible(sparse, dtype, device)?;
    eligible.retain(|kernel| kernel.family != Family::WmmaDense && kernels::takes(kernel, problem));
    let mut best: Option<(f64, Choice)> = None;
    for &kernel in &eligible {
        for schedule in schedules(kernel, m, n, k, device) {
            let choice = Choice { kernel, schedule };
            let cost = cost(choice, m, n, k, device) * hopper::fused(kernel, problem);
            // Where nothing tells two apart, the smaller tile, or fewer stages: they begin sooner.
            let size = |Choice { kernel, .. }: Choice| (kernel.bm * kernel.bn, kernel.stages);
            let better = best.is_none_or(|(least, chosen)| {
                cost < least || cost == least && size(choice) < size(chosen)
            });
            if better {
                best = Some((cost, choice));
            }
        }
    }
    Ok(best.map_or_else(|| eligible[0].into(), |(_, choice)| choice))
}

/// The schedules that make sense for a kernel.
fn schedules(
    kernel: &Instance,
    m: usize,
    n: usize,
    k: usize,
    device: &DeviceInfo,
) -> Vec<Schedule> {
    let tiles = m.div_ceil(kernel.bm as usize) * n.div_ceil(kernel.bn as usize);
    let slots = device.multiprocessors.max(1) as usize * kernel.blocks_per_sm as usize;
    let k_blocks = k.div_ceil(kernel.bk as usize);
    let mut schedules = vec![Schedule::Tiles];
    // On Hopper stream-K has not paid: partial sums of its large tiles cost more than an idle end.
    let few = (tiles as f64) < MANY_WAVES * slots as f64 && !kernel.family.is_hopper();
    if few && k_blocks >= LEAST_SLICE {
        schedules.push(Schedule::StreamK);
    }
    if tiles < slots && kernel.shares() {
        let long_enough = |&slices: &u32| k_blocks >= LEAST_SLICE * slices as usize;
        schedules.extend(SLICES.into_iter().filter(long_enough).map(Schedule::SplitK));
    }
    schedules
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::instance::Dtype;

    fn device(multiprocessors: u32, shared_bytes: u32) -> DeviceInfo {
        DeviceInfo {
            name: "test".to_owned(),
            sm: (9, 0),
            multiprocessors,
            l2_bytes: 0,
            shared_bytes,
            memory_bytes: 0,
            driver: String::new(),
        }
    }

    #[test]
    fn small_outputs_get_small_tiles_and_short_ones_share_k() {
        let h200 = device(132, 227 * 1024);
        let choice = |m, n, k| select(&Problem::new(true, Dtype::F16, m, n, k), &h200).unwrap();
        let area = |c: Choice| c.kernel.bm * c.kernel.bn;
        assert_eq!(area(choice(4096, 4096, 4096)), 128 * 256);
        assert_eq!(choice(4096, 4096, 4096).schedule, Schedule::Tiles);
        assert_eq!(choice(16, 14336, 4096).kernel.bm, 16);
        assert!(matches!(choice(64, 4096, 14336).schedule, Schedule::SplitK(_)));
        assert!(area(choice(512, 512, 512)) <= 64 * 64);
        assert_eq!(area(choice(1, 1, 1)), 16 * 64);
        assert_eq!(choice(1, 1, 0).schedule, Schedule::Tiles);
    }

    #[test]
    fn an_epilogue_that_a_tile_cannot_hide_is_left_to_others() {
        let h200 = device(132, 227 * 1024);
        let bare = Problem { aligned: 15, ..Problem::new(true, Dtype::F16, 4096, 28672, 8192) };
        let fused = bare.with_epilogue("bias-silu".parse().unwrap(), bare.output);
        let kernel = |problem| select(&problem, &h200).unwrap().kernel.hopper().unwrap();
        let overlaps = |problem, bare| crate::hopper::overlaps(kernel(problem), bare);
        assert!(overlaps(bare, true) && !overlaps(bare, false));
        assert_eq!(overlaps(fused, true), overlaps(fused, false));
    }

    #[test]
    fn blocks_that_fill_the_gpu_get_fewer_stages() {
        let h200 = device(132, 227 * 1024);
        let stages = |m, n, k| {
            let problem = Problem { aligned: 15, ..Problem::new(true, Dtype::F16, m, n, k) };
            let Choice { kernel, .. } = select(&problem, &h200).unwrap();
            assert!(kernel.family.is_hopper(), "{}", kernel.name);
            (kernel.bm, kernel.stages)
        };
        assert_eq!((stages(16, 14336, 4096), stages(64, 14336, 4096)), ((16, 6), (64, 5)));
        // W comes from L2 for all rows of tiles but the first, and nothing tells the two apart.
        assert_eq!(stages(1024, 1024, 1024), (64, 5));
    }

    #[test]
    fn tiles_that_fill_half_of_the_gpu_are_shared_in_clusters() {
        let h200 = device(132, 227 * 1024);
        for sparse in [false, true] {
            let problem = Problem::new(sparse, Dtype::F16, 256, 4096, 14336);
            let choice = select(&problem, &h200).unwrap();
            assert_eq!((choice.kernel.slices, choice.schedule), (2, Schedule::Tiles), "{choice}");
        }
    }

    #[test]
    fn any_shape_and_device_gets_a_choice_that_can_be_planned() {
        for device in [device(0, 99 * 1024), device(1, 99 * 1024), device(108, 163 * 1024)] {
            for sparse in [false, true] {
                for m in [0, 1, 63, 1000, 1 << 20] {
                    for (n, k) in [(0, 5), (1, 1), (4096, 0), (14336, 4096), (1 << 20, 333)] {
                        let problem = Problem::new(sparse, Dtype::Bf16, m, n, k);
                        let choice = select(&problem, &device).unwrap();
                        assert!(choice.grid(m, n, k, &device).is_ok(), "{m}x{n}x{k}: {choice}");
                        assert!(choice.kernel.shared_bytes() <= device.shared_bytes);
                    }
                }
            }
        }
    }
}
