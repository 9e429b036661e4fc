//! Times of several contestants from one stretch of time: they take turns, so that a clock that drifts drifts
//! for all of them.

use anyhow::{Context, Result};
use sparseflow::measure::{Repeats, Times};
use sparseflow::{Device, Error};

/// Time on the device that brings the clock up again after the pause of a check, in microseconds. The
/// device works on it while the launches that are timed are queued, so none of them waits for the host.
const WARM_UP_US: f64 = 20_000.0;
/// Most launches that are queued for that.
const MOST_WARM_UPS: f64 = 1000.0;
/// Launches that find out how many that takes; the first two do not count.
const TRIAL: usize = 5;
/// Timed launches of one contestant before the next has its turn.
const TURN: usize = 5;
/// Timed launches that are queued behind one warm-up.
const BATCH: usize = 1000;

/// How much longer `a` takes than `b`, from their samples in a contest in which they were neighbours.
///
/// The chip throttles, by more than an epilogue costs, so medians of whole runs are not compared: in each round
/// the median of a turn of `a` is set against that of `b` beside it. As rounds go there and back, `a` is first
/// in one and last in the next, and in the two together a clock that falls or rises steadily takes as much from
/// `a` as from `b`; so a ratio is that of the sums over two successive rounds, and the median of all such
/// ratios lets no burst decide. Of a single round, it is its ratio. `None` where one has no samples.
pub fn paired_ratio(a: &[f64], b: &[f64]) -> Option<f64> {
    let medians = |samples: &[f64]| -> Vec<f64> {
        let turns = samples.chunks(TURN).filter_map(|turn| Times::new(turn.to_vec()));
        turns.map(|times| times.median).collect()
    };
    let (a, b) = (medians(a), medians(b));
    let rounds = a.len().min(b.len());
    let together = rounds.min(2);
    let sum = |medians: &[f64]| medians.iter().sum::<f64>();
    let ratios = a[..rounds].windows(together.max(1)).zip(b[..rounds].windows(together.max(1)));
    Some(Times::new(ratios.map(|(a, b)| sum(a) / sum(b)).collect())?.median)
}

/// Times each of `contestants` contestants `repeat` times, ours being the first by convention.
///
/// `launch(contestant, i)` queues what is timed, on operands that rotate by `i`, the number of the launch among
/// those of all contestants: so no launch finds in L2 what the one before it has read.
///
/// # Errors
/// The first of a launch, or what the device says.
pub fn time(
    device: &dyn Device,
    repeat: Option<u32>,
    contestants: usize,
    mut launch: impl FnMut(usize, usize) -> Result<(), Error>,
) -> Result<Vec<Times>> {
    let Repeats { warm_up, timed } = Repeats::default();
    let timed = repeat.map_or(timed, |repeat| repeat as usize);
    let mut launched = 0;
    let mut launch = |contestant: usize| {
        launched += 1;
        launch(contestant, launched - 1)
    };
    let trial = device.time(contestants * TRIAL, &mut |i| launch(i / TRIAL))?;
    let medians = trial.chunks(TRIAL).filter_map(|trial| Times::new(trial[2..].to_vec()));
    let round: f64 = medians.map(|times| times.median.max(1.0)).sum();
    let most = MOST_WARM_UPS / contestants as f64;
    let warm_ups = warm_up.max((WARM_UP_US / round).min(most) as usize);

    let mut samples = vec![Vec::new(); contestants];
    for batch in turns(contestants, timed).chunks(BATCH) {
        for contestant in (0..warm_ups).flat_map(|_| 0..contestants) {
            launch(contestant)?;
        }
        let micros = device.time(batch.len(), &mut |i| launch(batch[i]))?;
        for (&contestant, micros) in batch.iter().zip(micros) {
            samples[contestant].push(micros);
        }
    }
    samples.into_iter().map(|samples| Times::new(samples).context("no launch was timed")).collect()
}

/// Whose turn it is, launch by launch: there and back, so that whoever follows whom changes.
fn turns(contestants: usize, timed: usize) -> Vec<usize> {
    let mut turns = Vec::with_capacity(contestants * timed);
    for (round, start) in (0..timed).step_by(TURN).enumerate() {
        let length = TURN.min(timed - start);
        for place in 0..contestants {
            let contestant = if round % 2 == 0 { place } else { contestants - 1 - place };
            turns.extend(std::iter::repeat_n(contestant, length));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparseflow::EmulatedDevice;

    #[test]
    fn every_launch_has_the_next_operands_and_every_contestant_its_samples() {
        let device = EmulatedDevice::open(1);
        let mut launches = Vec::new();
        let times = time(&*device, Some(7), 2, |contestant, i| {
            launches.push((contestant, i));
            Ok(())
        });
        let samples: Vec<_> = times.unwrap().iter().map(|times| times.samples.len()).collect();
        assert_eq!(samples, [7, 7]);
        assert!(launches.iter().map(|(_, i)| *i).eq(0..launches.len()));
        let timed = launches[launches.len() - 14..].iter().map(|(contestant, _)| *contestant);
        assert!(timed.eq(turns(2, 7)));
    }

    #[test]
    fn contestants_take_turns() {
        assert_eq!(turns(1, 7), [0; 7]);
        let want = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0];
        assert_eq!(turns(2, 7), want);
        assert!(turns(3, 0).is_empty());
    }

    /// Samples of a contest of contestants that take `means` while the chip is as slow as `clock` says of
    /// the time that has passed.
    fn contest_under(means: &[f64], timed: usize, clock: impl Fn(f64) -> f64) -> Vec<Vec<f64>> {
        let mut samples = vec![Vec::new(); means.len()];
        let mut now = 0.0;
        for contestant in turns(means.len(), timed) {
            let took = means[contestant] * clock(now);
            now += took;
            samples[contestant].push(took);
        }
        samples
    }

    #[test]
    fn a_ratio_of_pairs_survives_a_clock_that_drifts() {
        let median = |samples: &[f64]| Times::new(samples.to_vec()).unwrap().median;
        let worst = |means: &[f64], clock: &dyn Fn(f64) -> f64| {
            let samples = contest_under(means, 40, clock);
            let want = means[0] / means[1];
            let naive = (median(&samples[0]) / median(&samples[1]) / want - 1.0).abs();
            let paired = paired_ratio(&samples[0], &samples[1]).unwrap();
            (naive, (paired / want - 1.0).abs())
        };
        // The chip falls to 0.8 of its clock over the run; and it wavers by 10%, slowly and fast.
        let total = 80.0 * 100.0;
        let falls = |now: f64| 1.0 + 0.25 * now / total;
        let throttled = |now: f64| if now < 0.45 * total { 1.0 } else { 1.25 };
        let wavers = |now: f64| 1.0 + 0.1 * (now / 1500.0).sin();
        let shakes = |now: f64| 1.0 + 0.05 * (now / 170.0).sin();
        let clocks: [(&dyn Fn(f64) -> f64, f64); 4] =
            [(&falls, 0.001), (&throttled, 0.001), (&wavers, 0.005), (&shakes, 0.02)];
        let mut naive_error: f64 = 0.0;
        for means in [[102.0, 100.0], [100.0, 102.0], [130.0, 100.0]] {
            for (clock, bound) in clocks {
                let (naive, paired) = worst(&means, clock);
                assert!(paired < bound, "{means:?}: {paired} of {bound}, naively {naive}");
                naive_error = naive_error.max(naive);
            }
        }
        assert!(naive_error > 0.05, "medians of whole runs do as well: {naive_error}");
    }

    #[test]
    fn a_ratio_needs_samples_of_both() {
        assert_eq!(paired_ratio(&[3.0], &[2.0]), Some(1.5));
        assert_eq!((paired_ratio(&[], &[2.0]), paired_ratio(&[], &[])), (None, None));
        // A burst in one round of eight decides nothing.
        let mut a = vec![3.0; 40];
        a[10..15].fill(30.0);
        assert_eq!(paired_ratio(&a, &[2.0; 40]), Some(1.5));
    }
}
