//! Which of several candidates is the fastest: interleaved rounds that drop the clearly slower, then the
//! best head to head.

use crate::error::Result;
use crate::measure::Times;
use std::time::Duration;

/// How much slower than the fastest a candidate may be after each screening round and stay, as a share.
/// The first comparisons are of few samples, so they drop only what is far off.
const MARGINS: [f64; 7] = [0.6, 0.3, 0.2, 0.12, 0.08, 0.05, 0.03];
/// Time on the device that a screening round should last in microseconds: short kernels repeat.
const ROUND_US: f64 = 4000.0;
/// Most laps of a screening round.
const MOST_LAPS: usize = 8;
/// Most candidates of the final besides the reference.
const FINALISTS: usize = 3;
/// Most laps of the final, and the time on the device that it should last in microseconds: from launches of 2 ms
/// on the laps are fewer.
const FINAL_LAPS: usize = 50;
const FINAL_US: f64 = 300_000.0;
/// Laps between two looks at the clock, and the fewest of the final.
const LEAST_FINAL_LAPS: usize = 5;

/// What a candidate took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Time in microseconds: the winner's median, times the median of the candidate's ratios to the winner
    /// in laps that both ran.
    pub median_us: f64,
    /// How many laps those are.
    pub samples: usize,
}

/// What a contest found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The fastest.
    pub winner: usize,
    /// What each candidate took.
    pub timings: Vec<Timing>,
}

/// When to stop, on the clock that `elapsed` of [`run`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// No screening round begins after it, but for the first.
    pub screening: Duration,
    /// No five laps of the final begin after it, but for the first.
    pub last: Duration,
}

/// Finds the fastest of `candidates`, at least one. `time(order)` launches the candidates that `order`
/// names, one after the other, and gives their times in microseconds. Candidate `reference` is in the
/// final in any case, so that its time is as good as the winner's.
///
/// Candidates are only ever compared lap by lap: as the chip warms up, or reaches its power limit, times
/// drift by more than candidates differ, and the ratios of neighbours do not. Of two finalists that one is
/// faster that won the median lap.
///
/// # Errors
/// Those of `time`.
pub fn run(
    candidates: usize,
    reference: usize,
    deadlines: Deadlines,
    elapsed: &dyn Fn() -> Duration,
    time: &mut dyn FnMut(&[usize]) -> Result<Vec<f64>>,
) -> Result<Outcome> {
    // Times by candidate and lap. Whoever is still in the race has run every lap.
    let mut screened = vec![Vec::new(); candidates];
    let mut alive: Vec<usize> = (0..candidates).collect();
    let mut laps = 1;
    for (round, margin) in MARGINS.into_iter().enumerate() {
        if round > 0 && (alive.len() <= 2 || elapsed() > deadlines.screening) {
            break;
        }
        run_laps(laps, &alive, &mut screened, time)?;
        let to_mean = ratios_to_mean(&alive, &screened);
        alive.sort_by(|&a, &b| to_mean[a].total_cmp(&to_mean[b]));
        let slowest = to_mean[alive[0]] * (1.0 + margin);
        alive.retain(|&candidate| to_mean[candidate] <= slowest);
        let lap: f64 = alive.iter().filter_map(|&candidate| screened[candidate].last()).sum();
        laps = ((ROUND_US / lap) as usize).clamp(1, MOST_LAPS);
    }
    alive.truncate(FINALISTS);
    if !alive.contains(&reference) {
        alive.push(reference);
    }

    let lap: f64 = alive.iter().filter_map(|&candidate| screened[candidate].last()).sum();
    let laps = ((FINAL_US / lap) as usize).clamp(LEAST_FINAL_LAPS, FINAL_LAPS);
    let mut last = vec![Vec::new(); candidates];
    while last[reference].len() < laps
        && (last[reference].is_empty() || elapsed() <= deadlines.last)
    {
        run_laps(LEAST_FINAL_LAPS, &alive, &mut last, time)?;
    }
    let mut winner = alive[0];
    for &challenger in &alive[1..] {
        if median(&ratios(&last[challenger], &last[winner])) < 1.0 {
            winner = challenger;
        }
    }
    let winner_us = median(&last[winner]);
    let timing = |candidate: usize| {
        let laps = if alive.contains(&candidate) { &last } else { &screened };
        let ratios = ratios(&laps[candidate], &laps[winner]);
        Timing { median_us: winner_us * median(&ratios), samples: ratios.len() }
    };
    Ok(Outcome { winner, timings: (0..candidates).map(timing).collect() })
}

/// Runs `alive` so many times, there and back in turn, so that whoever follows whom changes, and adds
/// their times to `times`.
fn run_laps(
    laps: usize,
    alive: &[usize],
    times: &mut [Vec<f64>],
    time: &mut dyn FnMut(&[usize]) -> Result<Vec<f64>>,
) -> Result<()> {
    let back: Vec<usize> = alive.iter().rev().copied().collect();
    let order: Vec<usize> =
        (0..laps).flat_map(|lap| if lap % 2 == 0 { alive } else { &back }).copied().collect();
    for (&candidate, sample) in order.iter().zip(time(&order)?) {
        times[candidate].push(sample);
    }
    Ok(())
}

/// Of each of `alive`, the median ratio of its time to the mean of all of them in the same lap; of the
/// others infinity.
fn ratios_to_mean(alive: &[usize], times: &[Vec<f64>]) -> Vec<f64> {
    let laps = times[alive[0]].len();
    let mean = |lap| alive.iter().map(|&c| times[c][lap]).sum::<f64>() / alive.len() as f64;
    let means: Vec<f64> = (0..laps).map(mean).collect();
    let mut ratio = vec![f64::INFINITY; times.len()];
    for &candidate in alive {
        ratio[candidate] = median(&ratios(&times[candidate], &means));
    }
    ratio
}

/// `a` over `b`, lap by lap, as far as both go.
fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// The middle one; of no samples, infinity.
fn median(samples: &[f64]) -> f64 {
    Times::new(samples.to_vec()).map_or(f64::INFINITY, |times| times.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Deadlines =
        Deadlines { screening: Duration::from_secs(1), last: Duration::from_secs(2) };

    /// Times around `means` with a noise of `noise` of them, under a clock that drifts by half, and how
    /// often each was asked for.
    struct Noisy<'a> {
        means: &'a [f64],
        noise: f64,
        state: u64,
        launches: Vec<usize>,
    }

    impl<'a> Noisy<'a> {
        fn new(means: &'a [f64], noise: f64, seed: u64) -> Self {
            Self { means, noise, state: seed, launches: vec![0; means.len()] }
        }

        fn time(&mut self, order: &[usize]) -> Vec<f64> {
            let sample = |&candidate: &usize| {
                self.launches[candidate] += 1;
                // An LCG (Knuth, MMIX); its upper bits as a number in [-1, 1).
                self.state =
                    self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let uniform = (self.state >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
                let total: usize = self.launches.iter().sum();
                let drift = 1.0 + 0.5 * (total as f64 / 100.0).sin();
                self.means[candidate] * drift * (1.0 + self.noise * uniform)
            };
            order.iter().map(sample).collect()
        }

        fn run(&mut self, reference: usize, elapsed: &dyn Fn() -> Duration) -> Outcome {
            run(self.means.len(), reference, AMPLE, elapsed, &mut |order| Ok(self.time(order)))
                .unwrap()
        }
    }

    #[test]
    fn the_fastest_is_found_under_noise_and_drift() {
        let means = [130.0, 104.0, 100.0, 110.0, 300.0, 101.5];
        for seed in 0..50 {
            let mut noisy = Noisy::new(&means, 0.02, seed);
            let outcome = noisy.run(1, &|| Duration::ZERO);
            assert_eq!(outcome.winner, 2, "seed {seed}: {outcome:?}");
            let ratio = outcome.timings[1].median_us / outcome.timings[2].median_us;
            assert!((ratio - 1.04).abs() < 0.02, "seed {seed}: {ratio}");
        }
    }

    #[test]
    fn the_clearly_slower_is_dropped_early() {
        let mut noisy = Noisy::new(&[100.0, 400.0, 120.0, 106.0], 0.01, 1);
        let outcome = noisy.run(0, &|| Duration::ZERO);
        assert_eq!(outcome.winner, 0);
        assert_eq!(noisy.launches[1], 1, "four times slower needs no second look");
        assert!(noisy.launches[2] > 1 && noisy.launches[2] < noisy.launches[3]);
        assert_eq!(outcome.timings[1].samples, 1);
        assert_eq!(outcome.timings[0].samples, FINAL_LAPS);
        let ratio = outcome.timings[1].median_us / outcome.timings[0].median_us;
        assert!((ratio - 4.0).abs() < 0.2, "{ratio}");
    }

    #[test]
    fn the_final_decides_pair_by_pair() {
        // Candidate 1 looks better while three are in the race. Head to head it is 5% slower in each
        // pair, though a clock that falls to half speed makes its times the more scattered.
        let mut calls = 0;
        let mut time = |order: &[usize]| {
            calls += 1;
            let slow = if calls % 2 == 0 { 2.0 } else { 1.0 };
            let one = |&c: &usize| match (order.contains(&2), c) {
                (true, 0) => 102.0,
                (true, 1) => 100.0,
                (true, _) => 110.0,
                (false, 0) => 100.0 * slow,
                (false, _) => 105.0 * slow,
            };
            Ok(order.iter().map(one).collect())
        };
        let outcome = run(3, 0, AMPLE, &|| Duration::ZERO, &mut time).unwrap();
        assert_eq!(outcome.winner, 0);
    }

    #[test]
    fn the_reference_is_in_the_final_even_where_it_is_slow() {
        let outcome = Noisy::new(&[100.0, 101.0, 900.0], 0.0, 1).run(2, &|| Duration::ZERO);
        assert_eq!(outcome.winner, 0);
        assert_eq!(outcome.timings[2].samples, FINAL_LAPS);
    }

    #[test]
    fn long_launches_get_fewer_laps_and_the_same_winner() {
        let means = [5100.0, 5000.0, 5300.0, 9000.0];
        for seed in 0..20 {
            let mut noisy = Noisy::new(&means, 0.01, seed);
            let outcome = noisy.run(0, &|| Duration::ZERO);
            assert_eq!(outcome.winner, 1, "seed {seed}: {outcome:?}");
            let laps = outcome.timings[0].samples;
            assert!((2 * LEAST_FINAL_LAPS..FINAL_LAPS).contains(&laps), "{laps}");
        }
    }

    #[test]
    fn a_contest_that_is_late_still_ends_with_a_winner() {
        let mut noisy = Noisy::new(&[110.0, 100.0, 105.0], 0.001, 1);
        let outcome = noisy.run(0, &|| Duration::from_secs(9));
        assert_eq!(outcome.winner, 1);
        assert_eq!(outcome.timings[1].samples, LEAST_FINAL_LAPS);
        assert_eq!(
            noisy.launches,
            [1 + LEAST_FINAL_LAPS, 1 + LEAST_FINAL_LAPS, 1 + LEAST_FINAL_LAPS]
        );
        let alone = Noisy::new(&[5.0], 0.0, 1).run(0, &|| Duration::ZERO);
        assert_eq!((alone.winner, alone.timings[0].median_us > 0.0), (0, true));
    }

    #[test]
    fn what_fails_is_passed_on() {
        let mut fails = |_: &[usize]| Err(crate::error::invalid("launch", 1, "possible"));
        assert!(run(2, 0, AMPLE, &|| Duration::ZERO, &mut fails).is_err());
    }
}
