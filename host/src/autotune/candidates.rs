//! What is worth measuring for a problem: kernels and schedules, the most promising first.

use super::Problem;
use crate::device::DeviceInfo;
use crate::error::Result;
use crate::heuristic;
use crate::kernels;
use crate::schedule::{Choice, MAX_SLICES, Schedule};
use layout::instance::{Family, Instance};

/// Numbers of slices that are tried.
const SLICES: [u32; 13] = [2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, MAX_SLICES];
/// Fewest K-blocks of a slice: fewer do not fill the pipeline.
const LEAST_K_BLOCKS: u64 = 4;
/// Waves after which a ragged last one no longer counts: 1 of 16 blocks' time at most.
const MANY_WAVES: u64 = 16;
/// How many times the lowest expected cost a candidate's may be. On one H200 the winners of 41 of 42 shapes were
/// expected within 1.13 of the lowest, the other at 1.36, where it won by 0.3% (docs/tuning.md). The rest is for
/// GPUs that the model was not fitted on: each kernel more costs up to 0.7 s to compile.
const HOPELESS: f64 = 1.5;
/// Most candidates.
const MOST: usize = 24;

/// The candidates for `problem`: `first`, which is the heuristic's choice, and the others by the cost that it
/// expects of them.
///
/// # Errors
/// [`Error::NoKernel`](crate::Error::NoKernel) where the device can run none.
pub fn enumerate(problem: &Problem, first: Choice, device: &DeviceInfo) -> Result<Vec<Choice>> {
    let mut instances = kernels::eligible(problem.sparse, problem.dtype, device)?;
    // The wmma kernels are there for comparison.
    instances.retain(|i| i.family != Family::WmmaDense && kernels::takes(i, problem));
    let lowest = instances.iter().map(|i| i.bm).min();
    instances.retain(|i| (i.bm as usize) < 4 * problem.m || Some(i.bm) == lowest);
    let mut candidates = Vec::new();
    for kernel in instances {
        for schedule in schedules(problem, kernel, device) {
            let choice = Choice { kernel, schedule };
            if is_distinct(problem, choice, device) {
                let cost = heuristic::cost(choice, problem.m, problem.n, problem.k, device);
                candidates.push((cost, choice));
            }
        }
    }
    candidates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let limit = candidates.first().map_or(0.0, |(lowest, _)| HOPELESS * lowest);
    candidates.retain(|&(cost, choice)| cost <= limit && choice != first);
    let others = candidates.into_iter().map(|(_, choice)| choice).take(MOST - 1);
    Ok(std::iter::once(first).chain(others).collect())
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

/// Whether the schedule can be launched and comes to more than whole tiles.
fn is_distinct(problem: &Problem, choice: Choice, device: &DeviceInfo) -> bool {
    let grid = choice.grid(problem.m, problem.n, problem.k, device);
    grid.is_ok_and(|grid| grid.units > 0 || choice.schedule == Schedule::Tiles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::instance::Dtype;

    fn device(sm: (u32, u32)) -> DeviceInfo {
        DeviceInfo {
            name: "test".to_owned(),
            sm,
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_bytes: 227 * 1024,
            memory_bytes: 0,
            driver: String::new(),
        }
    }

    /// Those of a large sm_80, whose kernels all GPUs have.
    fn candidates(sparse: bool, m: usize, n: usize, k: usize) -> Vec<Choice> {
        candidates_on(&device((8, 0)), sparse, m, n, k)
    }

    fn candidates_on(
        device: &DeviceInfo,
        sparse: bool,
        m: usize,
        n: usize,
        k: usize,
    ) -> Vec<Choice> {
        let problem = Problem::new(sparse, Dtype::F16, m, n, k);
        let heuristic = heuristic::select(&problem, device).unwrap();
        let candidates = enumerate(&problem, heuristic, device).unwrap();
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
    fn what_is_expected_to_be_far_slower_is_left_out() {
        let cost = |c: &Choice| heuristic::cost(*c, 8192, 8192, 8192, &device((8, 0)));
        for sparse in [false, true] {
            let candidates = candidates(sparse, 8192, 8192, 8192);
            let costs: Vec<f64> = candidates.iter().map(cost).collect();
            let all = kernels::eligible(sparse, Dtype::F16, &device((8, 0))).unwrap();
            let small = all.iter().filter(|kernel| kernel.bm <= 32).map(|&kernel| kernel.into());
            assert!(small.clone().count() >= 2);
            assert!(small.clone().all(|choice| !candidates.contains(&choice)), "{candidates:?}");
            assert!(costs[1..].is_sorted() && costs.iter().all(|c| *c <= HOPELESS * costs[0]));
            assert!(candidates.len() >= 4, "{candidates:?}");
        }
    }

    #[test]
    fn few_tiles_are_split() {
        let candidates = candidates(false, 256, 1024, 16384);
        let splits = |c: &&Choice| matches!(c.schedule, Schedule::SplitK(_));
        assert!(candidates.iter().filter(splits).count() >= 3, "{candidates:?}");
        assert!(candidates.iter().any(|c| c.schedule == Schedule::StreamK));
        assert!(candidates.len() <= MOST);
        let short = self::candidates(false, 256, 1024, 128);
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

    #[test]
    fn on_sm_90_its_kernels_are_measured_if_they_take_the_operands() {
        let hopper = |c: &Choice| c.kernel.family.is_hopper();
        for sparse in [false, true] {
            for (m, n, k) in [(64, 14336, 4096), (1024, 4096, 4096), (8192, 8192, 8192)] {
                let even = candidates_on(&device((9, 0)), sparse, m, n, k);
                assert!(even.iter().any(hopper), "{even:?}");
                let odd = candidates_on(&device((9, 0)), sparse, m, n, k + 1);
                assert!(!odd.iter().any(hopper), "{odd:?}");
            }
        }
    }
}
