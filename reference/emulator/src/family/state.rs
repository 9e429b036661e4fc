//! State that the asynchronous families keep in warps, blocks and units.
//!
//! The core creates it with `default()` and hands it to the instructions in [`crate::Machine`]:
//! `m.warp.family`, `m.unit.blocks[i].family`, `m.unit.family`.

use std::collections::BTreeMap;

use super::bulk_store::Stores;
use super::cp_async::Copies;
use super::mbarrier::{Mbarriers, Patience};
use super::setmaxnreg::RegisterPool;
use super::wgmma_flight::{Flight, Warpgroup};
use crate::machine::Machine;
use crate::unit::Unit;

/// Per warp: wgmma groups in flight.
#[derive(Default)]
pub struct WarpState {
    pub(super) wgmma: Flight,
    /// Generation of the cluster barrier that the warp has arrived for, counted from 1.
    pub(super) cluster_generation: u64,
    /// Waits on an mbarrier that were answered "not yet", by instruction and lanes: which mbarrier and
    /// phase.
    pub(super) not_yet: BTreeMap<(u32, u32), (u64, u64)>,
}

/// Per block: mbarriers, warpgroups, registers to give away.
#[derive(Default)]
pub struct BlockState {
    pub(super) mbarriers: Mbarriers,
    pub(super) warpgroups: Vec<Warpgroup>,
    pub(super) registers: RegisterPool,
}

/// Per unit (cluster): copies under way, by warp.
#[derive(Default)]
pub struct UnitState {
    /// `cp.async` of every warp.
    pub(super) copies: PerWarp<Copies>,
    /// Bulk copies out of shared memory of every warp.
    pub(super) stores: PerWarp<Stores>,
    /// Waits on mbarriers that may give up.
    pub(super) patience: Patience,
    /// Lanes of every warp that have arrived at `barrier.cluster`.
    pub(super) at_cluster_barrier: PerWarp<u32>,
    /// Lanes of every warp that have exited.
    pub(super) exited: PerWarp<u32>,
}

/// A value per warp of the unit, made when first asked for.
#[derive(Default)]
pub struct PerWarp<T>(Vec<T>);

impl<T: Default> PerWarp<T> {
    /// That of `warp`.
    pub(super) fn of(&mut self, warp: usize) -> &mut T {
        if self.0.len() <= warp {
            self.0.resize_with(warp + 1, T::default);
        }
        &mut self.0[warp]
    }
}

/// Called when no warp of the unit can go on: delivers what may be delivered late (copies on their way,
/// even if nobody waits for them on their mbarrier), then lets a `try_wait` give up. Returns whether
/// anything changed; if not, the unit is deadlocked.
pub fn deliver_late(unit: &mut Unit) -> bool {
    super::mbarrier::deliver_all(unit) || super::mbarrier::let_one_give_up(unit)
}

/// Called when the lanes `m.lanes` are about to exit.
pub fn on_exit(m: &mut Machine<'_>) {
    super::bulk_store::on_exit(m);
    super::wgmma_flight::on_exit(m);
    super::cluster::on_exit(m);
}
