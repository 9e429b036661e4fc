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

/// Whose turn it is, launch by launch.
fn turns(contestants: usize, timed: usize) -> Vec<usize> {
    let mut turns = Vec::with_capacity(contestants * timed);
    for start in (0..timed).step_by(TURN) {
        let length = TURN.min(timed - start);
        turns.extend(
            (0..contestants).flat_map(|contestant| std::iter::repeat_n(contestant, length)),
        );
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
        let want = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1];
        assert_eq!(turns(2, 7), want);
        assert!(turns(3, 0).is_empty());
    }
}
