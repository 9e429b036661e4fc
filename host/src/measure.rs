//! Timing of repeated launches.

use crate::device::Device;
use crate::error::Result;

/// Times of the repeats of one measurement, in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// Every repeat, in the order it ran.
    pub samples: Vec<f64>,
    /// The fastest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// 95 of 100 were at most this (nearest rank).
    pub p95: f64,
    /// Coefficient of variation: standard deviation over mean.
    pub cv: f64,
}

impl Times {
    /// The statistics of `samples`, or `None` where there are none.
    pub fn new(samples: Vec<f64>) -> Option<Self> {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let min = *sorted.first()?;
        let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        let p95 = sorted[(count * 95).div_ceil(100) - 1];
        let mean = sorted.iter().sum::<f64>() / count as f64;
        let variance = sorted.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / count as f64;
        let cv = if mean > 0.0 { variance.sqrt() / mean } else { 0.0 };
        Some(Self { samples, min, median, p95, cv })
    }
}

/// How often to launch.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    /// Launches before the first that counts.
    pub warm_up: usize,
    /// Launches that count.
    pub timed: usize,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { warm_up: 5, timed: 30 }
    }
}

/// Sets of inputs to rotate among so that none is found in L2 when its turn comes again: at least
/// two, and together four times the cache. `set_bytes` is what one launch reads.
pub fn rotation(set_bytes: u64, l2_bytes: u64) -> usize {
    let wanted = (4 * l2_bytes).div_ceil(set_bytes.max(1)) as usize;
    wanted.clamp(2, 64)
}

/// Times `launch(i)` for i = 0, 1, ..., the caller rotating its inputs by i.
///
/// # Errors
/// What `launch` or the device says.
pub fn time(
    device: &dyn Device,
    repeats: Repeats,
    mut launch: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Times>> {
    for i in 0..repeats.warm_up {
        launch(i)?;
    }
    let samples = device.time(repeats.timed, &mut |i| launch(repeats.warm_up + i))?;
    Ok(Times::new(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        let t = Times::new(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((t.min, t.median, t.p95), (1.0, 2.5, 4.0));
        assert!((t.cv - 1.25f64.sqrt() / 2.5).abs() < 1e-12);
        assert_eq!(t.samples[0], 4.0);
        let t = Times::new((1..=100).map(f64::from).collect()).unwrap();
        assert_eq!((t.median, t.p95), (50.5, 95.0));
        assert_eq!(Times::new(vec![]), None);
    }

    #[test]
    fn rotation_exceeds_the_cache() {
        assert_eq!(rotation(1 << 30, 50 << 20), 2);
        assert_eq!(rotation(20 << 20, 50 << 20), 10);
        assert_eq!(rotation(1, 50 << 20), 64);
        assert_eq!(rotation(0, 0), 2);
    }
}
