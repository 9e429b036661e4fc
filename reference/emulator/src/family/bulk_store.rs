//! Bulk copies out of shared memory, by group (PTX ISA, "cp.async.bulk", completion mechanism
//! `.bulk_group`).

use super::bulk::{Bytes, count_global, ranges, swizzled};
use super::tensor_map::TensorMap;
use crate::finding::FindingKind;
use crate::machine::{Machine, lanes_of};
use crate::shared::{Accessor, NO_LANE, Proxy};

/// Where a copy out of shared memory goes.
pub(super) enum Target {
    /// Global memory from an address on.
    Global(u64),
    /// A box of a tensor.
    Tensor(TensorMap, [i32; 5]),
}

impl Target {
    fn map(&self) -> Option<&TensorMap> {
        match self {
            Self::Global(_) => None,
            Self::Tensor(map, _) => Some(map),
        }
    }
}

/// How a value in global memory and one from shared memory become one: bytes of an element, operation.
pub(super) type Combine = (usize, fn(u64, u64) -> u64);

/// A copy out of shared memory.
pub(super) struct Store {
    lane: u8,
    /// Number of groups its lane had committed before.
    group: u64,
    block: usize,
    at: usize,
    len: usize,
    target: Target,
    combine: Option<Combine>,
    /// What was read, once it was.
    bytes: Option<Bytes>,
}

/// The copies out of shared memory of a warp.
#[derive(Default)]
pub(super) struct Stores {
    pending: Vec<Store>,
    committed: [u64; 32],
}

/// Starts a copy out of shared memory: checks that the async proxy may read the bytes now.
pub(super) fn start_store(
    m: &mut Machine<'_>,
    lane: usize,
    address: u64,
    len: usize,
    target: Target,
    combine: Option<Combine>,
) {
    let map = target.map();
    let span = map.map_or(len, TensorMap::pitched_bytes);
    let Some((block, at)) = m.shared_range(lane, address, 16, span) else { return };
    let who =
        Accessor { warp: m.warp.index, clock: &m.warp.clock, proxy: Proxy::Async, lane: NO_LANE };
    let shared = &mut m.unit.blocks[block].shared;
    let conflicts =
        ranges(map, at, len, shared).into_iter().map(|(at, len)| shared.start_read(at, len, who));
    if let Some(conflict) = conflicts.fold(None, Option::or) {
        m.conflict(conflict, lane, address, "asynchronous read");
    }
    count_global(m, len);
    let stores = m.unit.family.stores.of(m.warp.index);
    let group = stores.committed[lane];
    stores.pending.push(Store {
        lane: lane as u8,
        group,
        block,
        at,
        len,
        target,
        combine,
        bytes: None,
    });
}

/// `cp.async.bulk.commit_group`.
pub(super) fn commit(m: &mut Machine<'_>) {
    let stores = m.unit.family.stores.of(m.warp.index);
    lanes_of(m.lanes).for_each(|lane| stores.committed[lane] += 1);
}

/// Reads, and unless `only_read` carries out, the stores of the active lanes that are older than the
/// newest `newest` groups.
pub(super) fn wait(m: &mut Machine<'_>, newest: u64, only_read: bool) {
    let lanes = m.lanes;
    let stores = m.unit.family.stores.of(m.warp.index);
    if stores.pending.is_empty() {
        return;
    }
    let committed = stores.committed;
    let (ready, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut stores.pending).into_iter().partition(|store| {
            let lane = usize::from(store.lane & 31);
            lanes >> lane & 1 != 0 && store.group.saturating_add(newest) < committed[lane]
        });
    let mut kept = Vec::new();
    for mut store in ready {
        read(m, &mut store);
        if only_read {
            kept.push(store);
        } else {
            write(m, store);
        }
    }
    kept.extend(others);
    m.unit.family.stores.of(m.warp.index).pending = kept;
}

fn read(m: &mut Machine<'_>, store: &mut Store) {
    if store.bytes.is_some() {
        return;
    }
    let warp = m.warp.index;
    let shared = &mut m.unit.blocks[store.block].shared;
    for (at, len) in ranges(store.target.map(), store.at, store.len, shared) {
        shared.end_read(at, len, warp);
    }
    let mut bytes = Bytes::of(vec![0; store.len]);
    let address = (store.block as u64 + 1) << 24;
    match &store.target {
        Target::Global(_) => bytes.fill(0, store.len, |at, out| {
            let address = address | (store.at + at) as u64;
            m.read_shared(store.lane.into(), address, 1, out, Proxy::Async)
        }),
        Target::Tensor(map, _) => {
            for chunk in (0..store.len).step_by(16) {
                let address = address | swizzled(map, store.at, chunk) as u64;
                bytes.fill(chunk, 16, |_, out| {
                    m.read_shared(store.lane.into(), address, 1, out, Proxy::Async)
                });
            }
        }
    }
    store.bytes = Some(bytes);
}

fn write(m: &mut Machine<'_>, store: Store) {
    let Some(bytes) = store.bytes else { return };
    let lane = store.lane.into();
    let mut put = |at: usize, address: u64, len: usize| {
        for start in (0..len).step_by(64) {
            let end = len.min(start + 64);
            let part = bytes.values.get(at + start..at + end).unwrap_or_default();
            let poison = bytes.mask(at + start) & (u64::MAX >> (64 - (end - start)));
            let address = address + start as u64;
            match store.combine {
                None => m.write_global(lane, address, 1, part, poison),
                Some(combine) => reduce(m, lane, address, part, poison, combine),
            }
        }
    };
    match &store.target {
        Target::Global(address) => put(0, *address, store.len),
        Target::Tensor(map, coordinates) => {
            for run in map.runs(coordinates) {
                put(run.at, run.address, run.bytes);
            }
        }
    }
}

/// Combines elements with global memory, each atomically.
fn reduce(
    m: &mut Machine<'_>,
    lane: usize,
    address: u64,
    bytes: &[u8],
    poison: u64,
    (size, combine): Combine,
) {
    let Some((buffer, at)) = m.global_range(lane, address, size, bytes.len()) else { return };
    let mut missing = poison != 0;
    for (i, element) in bytes.chunks_exact(size).enumerate() {
        let mut word = [0; 8];
        word[..size].copy_from_slice(element);
        let value = u64::from_le_bytes(word);
        missing |= m.unit.buffers[buffer].atomic(at + i * size, size, |old| combine(old, value)).1;
    }
    if missing {
        m.report(FindingKind::Poison, Some(lane as u32), || {
            format!("a reduction at {address:#x} uses a value that nothing initialised")
        });
    }
}

/// A lane that exits: what it stored arrives; what may still be read from shared memory is a finding.
pub(super) fn on_exit(m: &mut Machine<'_>) {
    let (index, lanes) = (m.warp.index, m.lanes);
    let stores = m.unit.family.stores.of(index);
    if stores.pending.is_empty() {
        return;
    }
    let (leaving, others): (Vec<_>, Vec<_>) = std::mem::take(&mut stores.pending)
        .into_iter()
        .partition(|store| lanes >> (store.lane & 31) & 1 != 0);
    stores.pending = others;
    for mut store in leaving {
        if store.bytes.is_none() {
            m.report(FindingKind::InFlight, Some(store.lane.into()), || {
                "exits while a bulk copy may still read shared memory, without \
                 cp.async.bulk.wait_group(.read)"
                    .into()
            });
        }
        read(m, &mut store);
        write(m, store);
    }
}
