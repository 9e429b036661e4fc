//! Which kernel to use for a shape, without measuring.

use crate::device::DeviceInfo;
use crate::error::Result;
use crate::kernels;
use crate::schedule::Choice;
use layout::instance::{Dtype, Family, Instance};

/// Share of the multiprocessors that must get a tile before a larger tile is worth it. On an H200,
/// 112 tiles of 128x256 on 132 SMs (0.85) beat twice as many of half the size; 56 (0.42) did not.
const FILL: f64 = 0.75;

/// The kernel for `Y[m, n]`: of the tiles that m fills by more than half, the largest that still
/// occupies `FILL` of the device, else the smallest. wmma kernels are for comparison and are only
/// chosen by name.
///
/// # Errors
/// [`Error::NoKernel`](crate::Error::NoKernel) where the device can run none.
pub fn select(
    sparse: bool,
    dtype: Dtype,
    m: usize,
    n: usize,
    _k: usize,
    device: &DeviceInfo,
) -> Result<Choice> {
    let eligible = kernels::eligible(sparse, dtype, device)?;
    let mut candidates = eligible.clone();
    candidates.retain(|i| i.family != Family::WmmaDense);
    let lowest = candidates.iter().map(|i| i.bm).min();
    candidates.retain(|i| (i.bm as usize) < 2 * m || Some(i.bm) == lowest);
    candidates.sort_by_key(|i| std::cmp::Reverse((i.bm * i.bn, i.bk)));
    let tiles = |i: &Instance| m.div_ceil(i.bm as usize) as f64 * n.div_ceil(i.bn as usize) as f64;
    let wanted = FILL * device.multiprocessors as f64;
    let filling = candidates.iter().find(|i| tiles(i) >= wanted);
    let kernel = *filling.or(candidates.last()).unwrap_or(&eligible[0]);
    Ok(kernel.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outputs_get_small_tiles() {
        let device = DeviceInfo {
            name: "test".to_owned(),
            sm: (9, 0),
            multiprocessors: 132,
            l2_bytes: 0,
            shared_bytes: 227 * 1024,
            memory_bytes: 0,
            driver: String::new(),
        };
        let area = |m, n| {
            let i = select(true, Dtype::F16, m, n, 4096, &device).unwrap().kernel;
            i.bm * i.bn
        };
        assert_eq!(area(4096, 4096), 128 * 256);
        assert_eq!(area(256, 14336), 128 * 256);
        assert_eq!(area(512, 512), 32 * 64);
        assert_eq!(area(16, 14336), 32 * 64);
        assert_eq!(area(1, 1), 32 * 64);
    }
}
