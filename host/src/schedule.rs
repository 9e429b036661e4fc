//! Which kernel computes a product, and how its thread blocks share the work.
//!
//! A block first computes `GemmParams::waves` whole tiles of Y. The work of the tiles that are left is
//! counted in units, one tile times one K-block (BK columns); the units of a tile are neighbours, and a
//! block takes a run of `GemmParams::units`. A run that begins or ends inside a tile leaves a partial
//! sum in f32 in the device's workspace, and whichever block comes last adds a tile's partial sums in
//! the order of K, so that the bits of Y do not depend on which it was.
//!
//! Stream-K is that of Osama et al. 2023, "Stream-K: Work-centric Parallel Decomposition for Dense
//! Matrix-Matrix Multiplication on the GPU", in the form that shares out between one and two tiles per
//! block and computes the others whole.

use crate::device::DeviceInfo;
use crate::error::{Result, invalid};
use crate::hopper;
use layout::instance::Instance;
use layout::params::COUNTERS;
use std::fmt;
use std::str::FromStr;

/// Largest linear grid (CUDA programming guide, "Technical specifications").
const MAX_GRID: u64 = i32::MAX as u64;
/// Most slices of K.
pub const MAX_SLICES: u32 = 64;

/// How the thread blocks of a launch share the units of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Each block computes one tile of Y.
    #[default]
    Tiles,
    /// Each block computes a tile over about one in so many slices of K, 2 to [`MAX_SLICES`].
    SplitK(u32),
    /// As many blocks as the device runs at a time; what does not fill a wave of tiles is shared evenly.
    StreamK,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tiles => f.pad("tiles"),
            Self::SplitK(slices) => f.pad(&format!("split-k-{slices}")),
            Self::StreamK => f.pad("stream-k"),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let slices = || text.strip_prefix("split-k-")?.parse().ok();
        match (text, slices()) {
            ("tiles", _) => Ok(Self::Tiles),
            ("stream-k", _) => Ok(Self::StreamK),
            (_, Some(slices @ 2..=MAX_SLICES)) => Ok(Self::SplitK(slices)),
            _ => Err(format!(
                "`{text}` is no schedule; there are tiles, stream-k and split-k-2 to \
                 split-k-{MAX_SLICES}"
            )),
        }
    }
}

/// A kernel and its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The kernel.
    pub kernel: &'static Instance,
    /// How its blocks share the work.
    pub schedule: Schedule,
}

impl From<&'static Instance> for Choice {
    fn from(kernel: &'static Instance) -> Self {
        Self { kernel, schedule: Schedule::Tiles }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schedule {
            Schedule::Tiles => f.pad(self.kernel.name),
            schedule => f.pad(&format!("{} {schedule}", self.kernel.name)),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    /// The name of a kernel, and behind a space that of a schedule other than tiles.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kernel, schedule) = text.split_once(' ').unwrap_or((text, "tiles"));
        let kernel = crate::kernels::find(kernel).map_err(|error| error.to_string())?;
        Ok(Self { kernel, schedule: schedule.parse()? })
    }
}

/// A schedule worked out for one product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Thread blocks.
    pub blocks: u32,
    /// Whole tiles of each.
    pub waves: u32,
    /// Units of the tiles left that each computes; 0 where none are left.
    pub units: u32,
}

impl Choice {
    /// Works the schedule out for `[m, n, k]`. Where too many tiles would be shared for the counters,
    /// or there are none, or the kernel cannot share tiles, blocks compute whole tiles whatever the schedule says.
    ///
    /// # Errors
    /// More tiles than a grid can have, or a number of slices that [`Schedule::SplitK`] does not allow.
    pub(crate) fn grid(&self, m: usize, n: usize, k: usize, device: &DeviceInfo) -> Result<Grid> {
        let kernel = self.kernel;
        // The blocks of a cluster have neighbouring tiles, and together are one worker.
        let cluster = kernel.cluster as u64;
        let columns = match kernel.hopper() {
            Some(shape) => hopper::columns(shape, m as u32, n as u32, device).count(n as u32),
            None => n.div_ceil(kernel.bn as usize) as u32,
        };
        let tiles = m.div_ceil(kernel.bm as usize) as u64 * columns as u64;
        if tiles > MAX_GRID {
            return Err(invalid("tiles of Y", tiles, format!("at most {MAX_GRID}")));
        }
        let k_blocks = k.div_ceil(kernel.bk as usize).max(1) as u64;
        // Hopper's blocks are persistent, unless they share each tile.
        let resident =
            if kernel.slices > 1 { tiles } else { device.multiprocessors as u64 / cluster };
        let resident = resident.clamp(1, tiles.max(1));
        let whole = match kernel.family.is_hopper() && tiles > 0 {
            true => (resident, tiles.div_ceil(resident), 0),
            false => (tiles, 1, 0),
        };
        let (blocks, waves, units) = match self.schedule {
            Schedule::SplitK(slices) if !(2..=MAX_SLICES).contains(&slices) => {
                return Err(invalid("slices of K", slices, format!("2 to {MAX_SLICES}")));
            }
            Schedule::SplitK(slices) => {
                let units = k_blocks.div_ceil(slices as u64);
                ((tiles * k_blocks).div_ceil(units), 0, units)
            }
            Schedule::StreamK => {
                let resident =
                    device.multiprocessors as u64 * kernel.blocks_per_sm as u64 / cluster;
                let blocks = resident.clamp(1, (tiles * k_blocks).max(1));
                let waves = match tiles % blocks {
                    0 => tiles / blocks,
                    _ => (tiles / blocks).saturating_sub(1),
                };
                let left = tiles - waves * blocks;
                (blocks, waves, (left * k_blocks).div_ceil(blocks))
            }
            Schedule::Tiles => whole,
        };
        let left = tiles.saturating_sub(waves * blocks);
        let fits = left * cluster <= COUNTERS as u64 && tiles > 0 && blocks * cluster <= MAX_GRID;
        let fits = fits && kernel.shares();
        let (blocks, waves, units) = if fits { (blocks, waves, units) } else { whole };
        Ok(Grid { blocks: (blocks * cluster) as u32, waves: waves as u32, units: units as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_round_trip() {
        for schedule in [Schedule::Tiles, Schedule::StreamK, Schedule::SplitK(2)] {
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }
        for wrong in ["split-k-1", "split-k-65", "split-k-", "split", ""] {
            assert!(wrong.parse::<Schedule>().unwrap_err().contains(&format!("`{wrong}`")));
        }
    }

    #[test]
    fn choices_round_trip() {
        let kernel = crate::kernels::find("sm80_dense_f16_64x64x64").unwrap();
        for schedule in [Schedule::Tiles, Schedule::StreamK, Schedule::SplitK(3)] {
            let choice = Choice { kernel, schedule };
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for wrong in ["", "sm80_dense", "sm80_dense_f16_64x64x64 split"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_work_is_shared_out() {
        let device = DeviceInfo {
            name: "test".to_owned(),
            sm: (9, 0),
            multiprocessors: 132,
            l2_bytes: 0,
            shared_bytes: 227 * 1024,
            memory_bytes: 0,
            driver: String::new(),
        };
        let kernel = crate::kernels::find("sm80_dense_f16_128x256x64").unwrap();
        let grid = |schedule, m, n, k| Choice { kernel, schedule }.grid(m, n, k, &device).unwrap();
        let shared_out = |blocks, waves, units| Grid { blocks, waves, units };
        assert_eq!(grid(Schedule::Tiles, 4096, 4096, 4096), shared_out(512, 1, 0));
        assert_eq!(grid(Schedule::SplitK(4), 128, 256, 4096), shared_out(4, 0, 16));
        // 512 tiles: three waves on 132 blocks, and 116 tiles of 64 units shared.
        assert_eq!(grid(Schedule::StreamK, 4096, 4096, 4096), shared_out(132, 2, 121));
        assert_eq!(grid(Schedule::StreamK, 132 * 128, 256, 64), shared_out(132, 1, 0));
        assert_eq!(grid(Schedule::StreamK, 128, 256, 128), shared_out(2, 0, 1));
        assert_eq!(grid(Schedule::Tiles, 5, 5, 0), shared_out(1, 1, 0));
        assert_eq!(grid(Schedule::StreamK, 0, 5, 64).blocks, 0);
        let error = Choice { kernel, schedule: Schedule::SplitK(1) }.grid(1, 1, 1, &device);
        assert!(error.unwrap_err().to_string().contains("slices of K"));
    }
}
