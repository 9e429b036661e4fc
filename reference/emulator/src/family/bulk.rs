//! Bulk copies: what is on its way, and how it arrives (PTX ISA, "Data movement and conversion
//! instructions: bulk copy"). The instructions are in `bulk_ops` and `bulk_tensor`.
//!
//! A copy into shared memory arrives when its mbarrier's phase is waited for and nothing else is
//! missing; its source is read then. A copy out of shared memory reads it at `wait_group.read`, and
//! writes global memory at `wait_group`, or when its thread exits. All of them use the async proxy.

use super::mbarrier::{self, At};
use super::tensor_map::TensorMap;
use crate::clock::Clock;
use crate::machine::Machine;
use crate::memory::Buffer;
use crate::shared::{Accessor, NO_LANE, Proxy, Shared, Stamp};
use crate::unit::Unit;
use std::sync::Arc;

/// Bytes, and whether each is poison.
#[derive(Clone, Default)]
pub(super) struct Bytes {
    pub(super) values: Vec<u8>,
    pub(super) poison: Vec<bool>,
}

impl Bytes {
    /// Bytes that are not poison.
    pub(super) fn of(values: Vec<u8>) -> Self {
        let poison = vec![false; values.len()];
        Self { values, poison }
    }

    /// Replaces the bytes from `at` on, as far as they reach, by those that `read` puts into parts of at
    /// most 64 bytes, given the offset of the part.
    pub(super) fn fill(
        &mut self,
        at: usize,
        len: usize,
        mut read: impl FnMut(usize, &mut [u8]) -> u64,
    ) {
        let end = (at + len).min(self.values.len());
        for start in (at..end).step_by(64) {
            let part = &mut self.values[start..end.min(start + 64)];
            let bad = read(start - at, part);
            for (i, poison) in self.poison[start..end.min(start + 64)].iter_mut().enumerate() {
                *poison = bad >> i & 1 != 0;
            }
        }
    }

    /// A poison bit per byte of the part of at most 64 bytes from `at` on.
    pub(super) fn mask(&self, at: usize) -> u64 {
        let part = self.poison.get(at..).unwrap_or_default().iter().take(64);
        part.enumerate().fold(0, |mask, (i, bad)| mask | u64::from(*bad) << i)
    }
}

/// Where a copy into shared memory takes its bytes from.
pub(super) enum Source {
    /// Global memory: address and length.
    Global(u64, usize),
    /// Shared memory of a block of the unit: block, offset, length.
    Shared(usize, usize, usize),
    /// A box of a tensor.
    Tensor(TensorMap, [i32; 5]),
}

/// A copy into shared memory, on its way to one block.
pub(super) struct Load {
    /// What it completes on its mbarrier.
    pub(super) bytes: u64,
    /// Offset in the block's shared memory.
    pub(super) at: usize,
    /// Index of the warp that issued it.
    pub(super) warp: usize,
    /// Its source; the same for all blocks of a multicast.
    pub(super) source: Arc<Source>,
}

/// Reads global memory without reports (they were made at issue); poison where there is none.
fn read_global(buffers: &[Arc<Buffer>], address: u64, out: &mut [u8]) -> u64 {
    let after = buffers.partition_point(|buffer| buffer.base <= address);
    let buffer = after.checked_sub(1).and_then(|index| buffers.get(index));
    match buffer {
        Some(buffer) if address - buffer.base + out.len() as u64 <= buffer.len as u64 => {
            buffer.read((address - buffer.base) as usize, out)
        }
        _ => u64::MAX,
    }
}

impl Load {
    fn fetch(&self, unit: &Unit) -> Bytes {
        match &*self.source {
            Source::Global(address, len) => {
                let mut bytes = Bytes::of(vec![0; *len]);
                bytes.fill(0, *len, |at, out| read_global(&unit.buffers, address + at as u64, out));
                bytes
            }
            Source::Shared(block, from, len) => {
                let mut bytes = Bytes::of(vec![0; *len]);
                if let Some(block) = unit.blocks.get(*block) {
                    bytes.fill(0, *len, |at, out| {
                        block.shared.peek(from + at, out);
                        let bad = |i: &usize| block.shared.is_poison(from + at + i, 1);
                        (0..out.len()).filter(bad).fold(0, |mask, i| mask | 1 << i)
                    });
                }
                bytes
            }
            Source::Tensor(map, coordinates) => {
                let mut bytes = Bytes::of(map.outside());
                for run in map.runs(coordinates) {
                    bytes.fill(run.at, run.bytes, |at, out| {
                        read_global(&unit.buffers, run.address + at as u64, out)
                    });
                }
                bytes
            }
        }
    }

    /// Puts the bytes into the shared memory of `block`; `clock` is the issuer's at issue.
    pub(super) fn land(&self, unit: &mut Unit, block: usize, clock: &Clock) {
        let bytes = self.fetch(unit);
        let epoch = clock.seen().get(self.warp).copied().unwrap_or(0);
        let stamp = Stamp { epoch, warp: self.warp as u16, lane: NO_LANE, by_async: true };
        let Some(block) = unit.blocks.get_mut(block) else { return };
        let Source::Tensor(map, _) = &*self.source else {
            block.shared.land(self.at, &bytes.values, |i| bytes.poison[i], stamp);
            return;
        };
        for at in (0..bytes.values.len()).step_by(16) {
            let part = &bytes.values[at..(at + 16).min(bytes.values.len())];
            let there = swizzled(map, self.at, at);
            if there + part.len() <= block.shared.len() {
                block.shared.land(there, part, |i| bytes.poison[at + i], stamp);
            }
        }
    }
}

/// Offset in shared memory of the 16-byte chunk at `at` of a box that begins at `base`.
pub(super) fn swizzled(map: &TensorMap, base: usize, at: usize) -> usize {
    map.swizzle.apply(base + map.pitched(at), 0)
}

/// The ranges of a block's shared memory that a box (or `len` plain bytes) from `base` on takes. What a
/// misaligned box's swizzle would move behind the end is left out.
pub(super) fn ranges(
    map: Option<&TensorMap>,
    base: usize,
    len: usize,
    shared: &Shared,
) -> Vec<(usize, usize)> {
    match map.filter(|map| map.pitched_bytes() != map.box_bytes()) {
        None => vec![(base, len)],
        Some(map) => (0..len)
            .step_by(16)
            .map(|at| (swizzled(map, base, at), 16))
            .filter(|(at, len)| at + len <= shared.len())
            .collect(),
    }
}

/// Starts a copy of `len` bytes from `source` to offset `to` in the shared memory of every block of
/// `blocks`, completing on the mbarrier at the same offset as `mbarrier` in each.
pub(super) fn start_loads(
    m: &mut Machine<'_>,
    lane: usize,
    blocks: &[usize],
    to: usize,
    len: usize,
    mbarrier: usize,
    source: Source,
) {
    let source = Arc::new(source);
    let map = match &*source {
        Source::Tensor(map, _) => Some(map),
        _ => None,
    };
    let span = map.map_or(len, TensorMap::pitched_bytes);
    let clock = m.release_snapshot();
    for block in blocks {
        let address = (*block as u64 + 1) << 24 | to as u64;
        let at: At = (*block, mbarrier);
        if m.shared_range(lane, address, 16, span).is_none() {
            continue;
        }
        mbarrier::require_fence(m, lane, at);
        let who =
            Accessor { warp: m.warp.index, clock: &clock, proxy: Proxy::Async, lane: NO_LANE };
        let shared = &mut m.unit.blocks[*block].shared;
        let conflicts = ranges(map, to, len, shared)
            .into_iter()
            .map(|(at, len)| shared.start_copy(at, len, who));
        if let Some(conflict) = conflicts.fold(None, Option::or) {
            m.conflict(conflict, lane, address, "asynchronous write");
        }
        let load = Load { bytes: len as u64, at: to, warp: m.warp.index, source: source.clone() };
        mbarrier::complete_later(m.unit, at, load, clock.clone());
        m.unit.tally.totals.bytes.shared_written += len as u64;
    }
    m.unit.changed();
}

/// Counts the sectors of a bulk access to global memory.
pub(super) fn count_global(m: &mut Machine<'_>, bytes: usize) {
    if let Some(site) = m.unit.tally.global_sites.get_mut(m.pc as usize) {
        site.requests += 1;
        site.sectors += bytes.div_ceil(32) as u64;
        site.bytes += bytes as u64;
    }
}
