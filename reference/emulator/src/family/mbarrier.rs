//! mbarrier objects: what they hold and when their phases complete (PTX ISA, "Parallel synchronization
//! and communication instructions: mbarrier"). The instructions are in `mbarrier_ops` and
//! `mbarrier_wait`.
//!
//! The object lives beside shared memory; its eight bytes hold a pattern that tells when something
//! overwrites it. What arrives by itself (bulk copies, `cp.async.mbarrier.arrive`) stays in a queue until
//! somebody waits for the phase and everything else has arrived: as late as the rules allow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{bulk, cp_async};
use crate::clock::Clock;
use crate::finding::FindingKind;
use crate::machine::{Machine, Space};
use crate::shared::{Conflict, NO_LANE, Proxy, Stamp};
use crate::unit::Unit;

/// Largest count and transaction count (PTX ISA, "Contents of the mbarrier object").
pub(super) const MAX_COUNT: u64 = (1 << 20) - 1;

/// The mbarriers of a block, by offset in its shared memory.
#[derive(Default)]
pub(super) struct Mbarriers(BTreeMap<usize, Mbarrier>);

/// One mbarrier.
pub(super) struct Mbarrier {
    /// Arrivals per phase.
    expected: u32,
    /// Arrivals the current phase still waits for.
    pending: u32,
    /// Bytes the current phase still waits for.
    tx: i64,
    /// Number of completed phases.
    pub(super) phase: u64,
    /// Warp and epoch of its initialisation.
    init: (usize, u32),
    /// Whether `fence.mbarrier_init` has been executed since.
    fenced: bool,
    /// What those that arrived in this phase have done.
    gathered: Clock,
    /// What those of all completed phases had done.
    pub(super) released: Clock,
    /// What will arrive by itself.
    incoming: VecDeque<Incoming>,
}

/// Something that arrives by itself.
enum Incoming {
    /// `cp.async.mbarrier.arrive`, and what its lane had done.
    Copies(CopiesArrive, Clock),
    /// A bulk copy, and what its issuer had done.
    Bulk(bulk::Load, Clock),
}

/// The arrival of a lane's `cp.async` copies.
#[derive(Clone, Copy)]
pub(super) struct CopiesArrive {
    /// Index of its warp.
    pub(super) warp: usize,
    /// The lane.
    pub(super) lane: u8,
    /// The copies before this one are meant.
    pub(super) serial: u64,
}

/// Where an mbarrier is: block of the unit and offset.
pub(super) type At = (usize, usize);

fn pattern(at: usize) -> [u8; 8] {
    (0x6d62_6172_7269_6572 ^ at as u64).to_le_bytes()
}

fn get(unit: &mut Unit, (block, at): At) -> Option<&mut Mbarrier> {
    unit.blocks.get_mut(block)?.family.mbarriers.0.get_mut(&at)
}

/// Resolves an mbarrier's address to block and offset.
fn resolve(m: &mut Machine<'_>, lane: usize, space: Space, address: u64) -> Option<At> {
    let mut offset = address;
    if space == Space::Generic {
        match m.resolve(address) {
            (Space::Shared, in_shared) => offset = in_shared,
            _ => {
                m.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                    format!("an mbarrier at {address:#x}, which is not shared memory")
                });
                return None;
            }
        }
    }
    m.shared_range(lane, offset, 8, 8)
}

/// The initialised mbarrier at an address; reports if there is none, if it was overwritten, or if
/// nothing orders its initialisation before.
pub(super) fn locate(m: &mut Machine<'_>, lane: usize, space: Space, address: u64) -> Option<At> {
    let at = resolve(m, lane, space, address)?;
    let Some(mbarrier) = get(m.unit, at) else {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("no mbarrier was initialised at {address:#x}")
        });
        return None;
    };
    let (warp, epoch) = mbarrier.init;
    let mut bytes = [0; 8];
    m.unit.blocks[at.0].shared.peek(at.1, &mut bytes);
    if bytes != pattern(at.1) {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("the mbarrier at {address:#x} was overwritten")
        });
    }
    if m.warp.clock.seen().get(warp).is_some_and(|seen| *seen < epoch) {
        let stamp = Stamp { epoch, warp: warp as u16, lane: NO_LANE, by_async: false };
        m.conflict(Conflict::Write(stamp), lane, address, "use of an mbarrier");
    }
    Some(at)
}

/// Checks that the async proxy sees the mbarrier's initialisation.
pub(super) fn require_fence(m: &mut Machine<'_>, lane: usize, at: At) {
    let Some(mbarrier) = get(m.unit, at) else { return };
    let ((warp, epoch), fenced) = (mbarrier.init, mbarrier.fenced);
    if !fenced && m.warp.clock.proxied().get(warp).is_some_and(|seen| *seen < epoch) {
        m.report(FindingKind::Proxy, Some(lane as u32), || {
            "a bulk copy completes on an mbarrier with neither fence.mbarrier_init nor \
             fence.proxy.async since its initialisation"
                .into()
        });
    }
}

/// `mbarrier.init`.
pub(super) fn init(m: &mut Machine<'_>, lane: usize, space: Space, address: u64, count: u64) {
    let Some(at) = resolve(m, lane, space, address) else { return };
    if count == 0 || count > MAX_COUNT {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("an mbarrier of {count} arrivals")
        });
    }
    if get(m.unit, at).is_some() {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("the mbarrier at {address:#x} is initialised again without mbarrier.inval")
        });
    }
    let offset = (at.0 as u64 + 1) << 24 | at.1 as u64;
    m.write_shared(lane, offset, 8, &pattern(at.1), 0, Proxy::Generic);
    let mbarrier = Mbarrier {
        expected: count as u32,
        pending: count as u32,
        tx: 0,
        phase: 0,
        init: (m.warp.index, m.warp.clock.seen()[m.warp.index]),
        fenced: false,
        gathered: Clock::new(m.unit.warps),
        released: Clock::new(m.unit.warps),
        incoming: VecDeque::new(),
    };
    m.unit.blocks[at.0].family.mbarriers.0.insert(at.1, mbarrier);
    m.unit.changed();
}

/// `mbarrier.inval`: the bytes may be used for something else.
pub(super) fn invalidate(m: &mut Machine<'_>, lane: usize, space: Space, address: u64) {
    let Some(at) = locate(m, lane, space, address) else { return };
    m.unit.blocks[at.0].family.mbarriers.0.remove(&at.1);
    let offset = (at.0 as u64 + 1) << 24 | at.1 as u64;
    m.write_shared(lane, offset, 8, &[0; 8], 0xff, Proxy::Generic);
}

/// `fence.mbarrier_init`: other proxies see the mbarriers that this warp has initialised.
pub(super) fn fence_init(m: &mut Machine<'_>) {
    let warp = m.warp.index;
    for block in &mut m.unit.blocks {
        for mbarrier in block.family.mbarriers.0.values_mut().filter(|b| b.init.0 == warp) {
            mbarrier.fenced = true;
        }
    }
}

/// What an operation does to an mbarrier's counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    /// Arrivals.
    pub(super) arrivals: u64,
    /// Added to the bytes the phase waits for, before the arrival.
    pub(super) expect: i64,
    /// Whether later phases wait for that many arrivals less.
    pub(super) drop: bool,
    /// Whether the arrival orders what the warp has done before.
    pub(super) release: bool,
}

/// Applies a step of a lane; returns the state that `mbarrier.arrive` hands out.
pub(super) fn apply(m: &mut Machine<'_>, lane: usize, at: At, step: Step) -> u64 {
    let Some(mbarrier) = get(m.unit, at) else { return 0 };
    if step.release {
        mbarrier.gathered.join(&m.warp.clock);
    }
    let state = mbarrier.phase << 20 | u64::from(mbarrier.pending);
    mbarrier.tx += step.expect;
    let (tx, pending) = (mbarrier.tx, mbarrier.pending);
    let arrivals = step.arrivals.min(pending.into()) as u32;
    mbarrier.pending -= arrivals;
    if step.drop {
        mbarrier.expected = mbarrier.expected.saturating_sub(arrivals);
    }
    settle(m.unit, at);
    if tx.unsigned_abs() > MAX_COUNT {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("the mbarrier's transaction count becomes {tx}, its limit is {MAX_COUNT}")
        });
    }
    if step.arrivals > pending.into() {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("{} arrivals at an mbarrier that waits for {pending}", step.arrivals)
        });
    }
    state
}

/// Completes the phase if nothing is missing.
fn settle(unit: &mut Unit, at: At) {
    if let Some(mbarrier) = get(unit, at)
        && mbarrier.pending == 0
        && mbarrier.tx == 0
    {
        mbarrier.phase += 1;
        mbarrier.pending = mbarrier.expected;
        mbarrier.released.join(&mbarrier.gathered);
        mbarrier.gathered.clear();
    }
    unit.changed();
}

/// Queues the arrival of a lane's `cp.async` copies.
pub(super) fn arrive_later(
    m: &mut Machine<'_>,
    lane: usize,
    space: Space,
    address: u64,
    arrival: CopiesArrive,
    clock: &Clock,
    noinc: bool,
) {
    let Some(at) = locate(m, lane, space, address) else { return };
    if let Some(mbarrier) = get(m.unit, at) {
        mbarrier.pending += u32::from(!noinc);
        mbarrier.incoming.push_back(Incoming::Copies(arrival, clock.clone()));
    }
}

/// Queues a bulk copy that completes on the mbarrier.
pub(super) fn complete_later(unit: &mut Unit, at: At, load: bulk::Load, clock: Clock) {
    if let Some(mbarrier) = get(unit, at) {
        mbarrier.incoming.push_back(Incoming::Bulk(load, clock));
    }
}

/// Delivers the first `count` things on their way to an mbarrier.
fn deliver(unit: &mut Unit, at: At, count: usize) {
    for _ in 0..count {
        let Some(incoming) = get(unit, at).and_then(|b| b.incoming.pop_front()) else { return };
        let clock = match incoming {
            Incoming::Copies(CopiesArrive { warp, lane, serial }, clock) => {
                let epoch = clock.seen().get(warp).copied().unwrap_or(0);
                cp_async::land_lane(unit, warp, lane, serial, epoch);
                if let Some(mbarrier) = get(unit, at) {
                    mbarrier.pending = mbarrier.pending.saturating_sub(1);
                }
                clock
            }
            Incoming::Bulk(load, clock) => {
                load.land(unit, at.0, &clock);
                if let Some(mbarrier) = get(unit, at) {
                    mbarrier.tx -= load.bytes as i64;
                }
                clock
            }
        };
        if let Some(mbarrier) = get(unit, at) {
            mbarrier.gathered.join(&clock);
        }
        settle(unit, at);
    }
}

/// Delivers what is on its way, if that completes the current phase.
pub(super) fn deliver_if_complete(unit: &mut Unit, at: At) {
    let Some(mbarrier) = get(unit, at) else { return };
    let (mut pending, mut tx) = (mbarrier.pending, mbarrier.tx);
    let completing = mbarrier.incoming.iter().position(|incoming| {
        match incoming {
            Incoming::Copies(..) => pending = pending.saturating_sub(1),
            Incoming::Bulk(load, _) => tx -= load.bytes as i64,
        }
        pending == 0 && tx == 0
    });
    if let Some(last) = completing {
        deliver(unit, at, last + 1);
    }
}

/// Delivers everything that is on its way to any mbarrier; returns whether there was anything.
pub(super) fn deliver_all(unit: &mut Unit) -> bool {
    let mut any = false;
    for block in 0..unit.blocks.len() {
        let waiting: Vec<(usize, usize)> = unit.blocks[block]
            .family
            .mbarriers
            .0
            .iter()
            .filter(|(_, mbarrier)| !mbarrier.incoming.is_empty())
            .map(|(at, mbarrier)| (*at, mbarrier.incoming.len()))
            .collect();
        for (at, count) in waiting {
            deliver(unit, (block, at), count);
            any = true;
        }
    }
    any
}

/// Phase and released clock of an mbarrier.
pub(super) fn phase_of(unit: &mut Unit, at: At) -> u64 {
    get(unit, at).map_or(0, |mbarrier| mbarrier.phase)
}

/// Acquires what the completed phases of an mbarrier have released.
pub(super) fn acquire(m: &mut Machine<'_>, at: At) {
    if let Some(mbarrier) = get(m.unit, at) {
        m.warp.clock.join(&mbarrier.released);
    }
}

/// A path that waits: warp, instruction, lanes.
pub(super) type Waiter = (usize, u32, u32);

/// Waits on mbarriers that may give up.
///
/// `mbarrier.try_wait` may return false after some time. It does so here only when no warp of the unit
/// can go on, and only once for each path and state of the unit: a loop around it that finds everything
/// as before waits for good, and becomes a deadlock report instead of an endless loop.
#[derive(Default)]
pub(super) struct Patience {
    waiting: BTreeSet<Waiter>,
    chosen: Option<Waiter>,
    /// Progress of the unit when the path last gave up.
    gave_up: BTreeMap<Waiter, u64>,
    /// Changes of the unit that were nothing but somebody giving up.
    idle_changes: u64,
}

/// Notes that a path waits; returns whether it shall give up instead.
pub(super) fn gives_up(unit: &mut Unit, waiter: Waiter) -> bool {
    let patience = &mut unit.family.patience;
    let progress = unit.changes.wrapping_sub(patience.idle_changes);
    if patience.chosen == Some(waiter) {
        patience.chosen = None;
        patience.waiting.remove(&waiter);
        patience.gave_up.insert(waiter, progress);
        return true;
    }
    if patience.gave_up.get(&waiter) != Some(&progress) {
        patience.waiting.insert(waiter);
    }
    false
}

/// Notes that a path waits no more.
pub(super) fn waits_no_more(unit: &mut Unit, waiter: Waiter) {
    unit.family.patience.waiting.remove(&waiter);
}

/// Lets one path that waits give up; returns whether there is one.
pub(super) fn let_one_give_up(unit: &mut Unit) -> bool {
    let patience = &mut unit.family.patience;
    patience.chosen = patience.waiting.pop_first();
    // The scheduler counts a change after this.
    patience.idle_changes += u64::from(patience.chosen.is_some());
    patience.chosen.is_some()
}
