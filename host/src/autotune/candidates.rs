//! What is worth measuring for a problem: kernels and schedules, the most promising first.

use super::Problem;
use crate::device::DeviceInfo;
use crate::error::Result;
use crate::kernels;
use crate::schedule::{Choice, MAX_SLICES, Schedule};
use layout::instance::{Family, Instance};

/// Numbers of slices that are tried.
const SLICES: [u32; 13] = [2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, MAX_SLICES];
/// Fewest K-blocks of a slice: fewer do not fill the pipeline.
const LEAST_K_BLOCKS: u64 = 4;
/// Waves after which a ragged last one no longer counts: 1 of 16 blocks' time at most.
const MANY_WAVES: u64 = 16;
/// How many times the lowest estimate a candidate's may be. The estimate knows neither memory nor clock.
const HOPELESS: f64 = 2.0;
/// Most candidates.
const MOST: usize = 24;

/// The candidates for `problem`: `heuristic` first, the others by [`estimate`].
///
/// # Errors
/// [`Error::NoKernel`](crate::Error::NoKernel) where the device can run none.
pub fn enumerate(problem: &Problem, heuristic: Choice, device: &DeviceInfo) -> Result<Vec<Choice>> {
    let mut instances = kernels::eligible(problem.sparse, problem.dtype, device)?;
    // The wmma kernels are there for comparison.
    instances.retain(|i| i.family != Family::WmmaDense && kernels::takes(i, problem));
    let lowest = instances.iter().map(|i| i.bm).min();
    instances.retain(|i| (i.bm as usize) < 4 * problem.m || Some(i.bm) == lowest);
    let mut candidates = Vec::new();
    for kernel in instances {
        for schedule in schedules(problem, kernel, device) {
            let choice = Choice { kernel, schedule };
            if let Some(estimate) = estimate(problem, choice, device) {
                candidates.push((estimate, choice));
            }
        }
    }
    candidates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let limit = candidates.first().map_or(0.0, |(lowest, _)| HOPELESS * lowest);
    candidates.retain(|&(estimate, choice)| estimate <= limit && choice != heuristic);
    let others = candidates.into_iter().map(|(_, choice)| choice).take(MOST - 1);
    Ok(std::iter::once(heuristic).chain(others).collect())
}

/// The schedules that can make sense: slices where tiles do not fill the device, stream-K where they
/// leave a part of it idle at the end.
fn schedules(problem: &Problem, kernel: &Instance, device: &DeviceInfo) -> Vec<Schedule> {
    let (tiles, k_blocks) = extents(problem, kernel);
    let resident = (device.multiprocessors as u64 * kernel.blocks_per_sm as u64).max(1);
    let mut schedules = vec![Schedule::Tiles];
    if !tiles.is_multiple_of(resident) && tiles < MANY_WAVES * resident {
        schedules.push(Schedule::StreamK);
    }
    let slices = SLICES.into_iter().filter(|&slices| {
        let filled = slices == 2 || tiles * slices as u64 <= 2 * resident;
        tiles < resident && filled && k_blocks / slices as u64 >= LEAST_K_BLOCKS
    });
    schedules.extend(slices.map(Schedule::SplitK));
    schedules
}

/// Tiles of Y, and K-blocks of each.
fn extents(problem: &Problem, kernel: &Instance) -> (u64, u64) {
    let tiles = problem.m.div_ceil(kernel.bm as usize) * problem.n.div_ceil(kernel.bn as usize);
    (tiles as u64, problem.k.div_ceil(kernel.bk as usize).max(1) as u64)
}

/// About how long the multiprocessor with the most to do is busy, in multiply-adds. It orders candidates
/// and drops hopeless ones; nothing else relies on it. `None` where the schedule comes to no more than
/// whole tiles, or cannot be launched.
fn estimate(problem: &Problem, choice: Choice, device: &DeviceInfo) -> Option<f64> {
    let kernel = choice.kernel;
    let grid = choice.grid(problem.m, problem.n, problem.k, device).ok()?;
    if grid.units == 0 && choice.schedule != Schedule::Tiles {
        return None;
    }
    let (bm, bn, bk) = (kernel.bm as f64, kernel.bn as f64, kernel.bk as f64);
    let (_, k_blocks) = extents(problem, kernel);
    let blocks = grid.blocks.div_ceil(device.multiprocessors.max(1)) as f64;
    // Filling the pipeline; and where tiles are shared, partial sums, written and read in f32, in terms of
    // the bytes that a K-block loads.
    let shared = if grid.units > 0 { 8.0 * bm * bn / (2.0 * bk * (bm + bn)) } else { 0.0 };
    let whole = grid.waves as u64 * k_blocks + grid.units as u64;
    let units = whole as f64 + kernel.stages as f64 + shared;
    // A smaller tile loads more for each multiply-add: a 64x64 tile at 0.6 of the rate of 128x256.
    let unit = bm * bn * bk * (1.0 + 48.0 / bm + 48.0 / bn);
    Some(blocks * units * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heuristic;
    use layout::instance::Dtype;

    fn h200() -> DeviceInfo {
        DeviceInfo {
            name: "test".to_owned(),
            sm: (9, 0),
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_bytes: 227 * 1024,
            memory_bytes: 0,
            driver: String::new(),
        }
    }

    fn candidates(sparse: bool, m: usize, n: usize, k: usize) -> Vec<Choice> {
        let problem = Problem::new(sparse, Dtype::F16, m, n, k);
        let heuristic = heuristic::select(&problem, &h200()).unwrap();
        let candidates = enumerate(&problem, heuristic, &h200()).unwrap();
        assert_eq!(candidates[0], heuristic);
        for (at, candidate) in candidates.iter().enumerate() {
            let kernel = candidate.kernel;
            assert_eq!(candidates.iter().position(|other| other == candidate), Some(at));
            assert!(kernel.family.is_sparse() == sparse && kernel.dtype == Dtype::F16);
            assert_ne!(kernel.family, Family::WmmaDense);
        }
        candidates
    }

    #[test]
    fn a_device_that_is_full_many_times_over_needs_no_sharing() {
        for sparse in [false, true] {
            let candidates = candidates(sparse, 16384, 8192, 8192);
            assert!(candidates.iter().all(|c| c.schedule == Schedule::Tiles), "{candidates:?}");
            assert!(candidates.len() >= 2);
        }
    }

    #[test]
    fn few_tiles_are_split() {
        let candidates = candidates(false, 256, 1024, 16384);
        let splits = |c: &&Choice| matches!(c.schedule, Schedule::SplitK(_));
        assert!(candidates.iter().filter(splits).count() >= 3, "{candidates:?}");
        assert!(candidates.iter().any(|c| c.schedule == Schedule::StreamK));
        assert!(candidates.len() <= MOST);
        let short = self::candidates(false, 256, 1024, 256);
        assert!(!short.iter().any(|c| matches!(c.schedule, Schedule::SplitK(_))), "{short:?}");
    }

    #[test]
    fn ragged_waves_are_shared_by_stream_k() {
        // 160 tiles of 128x256 on 132 multiprocessors.
        let ragged = candidates(true, 1280, 4096, 4096);
        let large = |c: &&Choice| c.kernel.bm == 128 && c.kernel.bn == 256;
        assert!(ragged.iter().filter(large).any(|c| c.schedule == Schedule::StreamK), "{ragged:?}");
        let even = candidates(true, 128 * 12, 256 * 11, 4096);
        assert!(!even.iter().filter(large).any(|c| c.schedule == Schedule::StreamK), "{even:?}");
    }

    #[test]
    fn a_tile_far_beyond_m_is_left_out() {
        let lowest = candidates(true, 8, 14336, 4096).iter().map(|c| c.kernel.bm).min().unwrap();
        for m in [1, 8, 16] {
            let heights: Vec<u32> =
                candidates(true, m, 14336, 4096).iter().map(|c| c.kernel.bm).collect();
            let fits = |&bm: &u32| bm == lowest || (bm as usize) < 4 * m;
            assert!(heights.iter().all(fits), "M = {m}: {heights:?}");
        }
        assert!(candidates(true, 4096, 14336, 4096).iter().all(|c| c.kernel.bm > 32));
    }
}
