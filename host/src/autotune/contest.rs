//! Which of several candidates is the fastest: interleaved rounds that drop the clearly slower, then the
//! best head to head.

use crate::error::Result;
use crate::measure::Times;
use std::time::Duration;

/// How much slower than the fastest a candidate may be after each screening round and stay, as a share.
/// The first medians are of few samples, so they drop only what is far off.
const MARGINS: [f64; 6] = [0.6, 0.3, 0.2, 0.12, 0.08, 0.05];
/// Time on the device that a screening round should last in microseconds: short kernels repeat.
const ROUND_US: f64 = 2000.0;
/// Most repeats of a screening round.
const MOST_REPEATS: usize = 8;
/// Rounds head to head, where there is time.
const FINAL_ROUNDS: usize = 25;
/// Rounds head to head in any case.
const LEAST_FINAL_ROUNDS: usize = 5;

/// What a candidate took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Median of its samples in microseconds; of a finalist, of those head to head.
    pub median_us: f64,
    /// How many those are.
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
    /// No final round begins after it, but for the first five.
    pub last: Duration,
}

/// Finds the fastest of `candidates`, at least one. `time(order)` launches the candidates that `order`
/// names, one after the other, and gives their times in microseconds. Candidate `reference` is in the
/// final in any case, so that its time is as good as the winner's.
///
/// Of two finalists that one is faster whose time was lower in the middle one of the rounds: a slow
/// drift of the clock changes both times of a round, and not their ratio.
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
    let mut samples = vec![Vec::new(); candidates];
    let mut alive: Vec<usize> = (0..candidates).collect();
    let mut repeats = 1;
    for (round, margin) in MARGINS.into_iter().enumerate() {
        if round > 0 && (alive.len() <= 2 || elapsed() > deadlines.screening) {
            break;
        }
        for (candidate, sample) in interleaved(&alive, repeats, time)? {
            samples[candidate].push(sample);
        }
        let medians: Vec<f64> = samples.iter().map(|s| median(s)).collect();
        alive.sort_by(|&a, &b| medians[a].total_cmp(&medians[b]));
        let slowest = medians[alive[0]] * (1.0 + margin);
        alive.retain(|&candidate| medians[candidate] <= slowest);
        let lap: f64 = alive.iter().map(|&candidate| medians[candidate]).sum();
        repeats = ((ROUND_US / lap) as usize).clamp(1, MOST_REPEATS);
    }
    alive.truncate(2);
    if !alive.contains(&reference) {
        alive.push(reference);
    }

    let mut rounds = vec![Vec::new(); candidates];
    while rounds[reference].len() < FINAL_ROUNDS {
        if rounds[reference].len() >= LEAST_FINAL_ROUNDS && elapsed() > deadlines.last {
            break;
        }
        for (candidate, sample) in interleaved(&alive, LEAST_FINAL_ROUNDS, time)? {
            rounds[candidate].push(sample);
        }
    }
    let faster = |a: usize, b: usize| {
        let ratios: Vec<f64> = rounds[a].iter().zip(&rounds[b]).map(|(a, b)| a / b).collect();
        median(&ratios) < 1.0
    };
    let mut winner = alive[0];
    for &challenger in &alive[1..] {
        if faster(challenger, winner) {
            winner = challenger;
        }
    }
    let timing = |(screened, last): (Vec<f64>, Vec<f64>)| {
        let samples = if last.is_empty() { screened } else { last };
        Timing { median_us: median(&samples), samples: samples.len() }
    };
    Ok(Outcome { winner, timings: samples.into_iter().zip(rounds).map(timing).collect() })
}

/// The times of `repeats` laps, each there and back in turn: whoever follows whom changes.
fn interleaved(
    alive: &[usize],
    repeats: usize,
    time: &mut dyn FnMut(&[usize]) -> Result<Vec<f64>>,
) -> Result<Vec<(usize, f64)>> {
    let back: Vec<usize> = alive.iter().rev().copied().collect();
    let order: Vec<usize> =
        (0..repeats).flat_map(|lap| if lap % 2 == 0 { alive } else { &back }).copied().collect();
    let times = time(&order)?;
    Ok(order.into_iter().zip(times).collect())
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
            assert!((ratio - 1.04).abs() < 0.04, "seed {seed}: {ratio}");
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
        assert_eq!(outcome.timings[0].samples, FINAL_ROUNDS);
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
        assert_eq!(outcome.timings[2].samples, FINAL_ROUNDS);
    }

    #[test]
    fn a_contest_that_is_late_still_ends_with_a_winner() {
        let mut noisy = Noisy::new(&[110.0, 100.0, 105.0], 0.001, 1);
        let outcome = noisy.run(0, &|| Duration::from_secs(9));
        assert_eq!(outcome.winner, 1);
        assert_eq!(outcome.timings[1].samples, LEAST_FINAL_ROUNDS);
        assert_eq!(
            noisy.launches,
            [1 + LEAST_FINAL_ROUNDS, 1 + LEAST_FINAL_ROUNDS, 1 + LEAST_FINAL_ROUNDS]
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
