//! `cp.async`: copies of 4, 8 or 16 bytes per lane from global to shared memory (PTX ISA,
//! "Data movement and conversion instructions: non-bulk asynchronous copy").
//!
//! The bytes arrive at the wait that guarantees them: `cp.async.wait_group`, `cp.async.wait_all`, or the
//! mbarrier that `cp.async.mbarrier.arrive` was told. Until then they are poison. The source is read
//! when they arrive.

use std::collections::VecDeque;

use super::mbarrier;
use crate::ast::Operand;
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::family::lanes::pred_bits;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::shared::{Accessor, Proxy, Stamp};
use crate::unit::Unit;
use crate::value::Type;
use crate::warp::{Pred, Reg};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "cp.async.ca",
        family: "cp.async",
        meaning: "copies 4, 8 or 16 bytes per lane, global to shared; operands src-size (the rest is zeros), ignore-src, cache policy",
        decode: |d| decode_copy(d, false),
    },
    Opcode {
        name: "cp.async.cg",
        family: "cp.async",
        meaning: "copies 16 bytes per lane past L1, as cp.async.ca",
        decode: |d| decode_copy(d, true),
    },
    Opcode {
        name: "cp.async.commit_group",
        family: "cp.async",
        meaning: "closes each lane's group of copies",
        decode: decode_commit,
    },
    Opcode {
        name: "cp.async.wait_group",
        family: "cp.async",
        meaning: "waits until at most N of each lane's newest groups are under way",
        decode: decode_wait_group,
    },
    Opcode {
        name: "cp.async.wait_all",
        family: "cp.async",
        meaning: "waits for all of each lane's copies",
        decode: decode_wait_all,
    },
    Opcode {
        name: "cp.async.mbarrier.arrive",
        family: "cp.async",
        meaning: "arrives on an mbarrier once the lane's copies so far are complete: {.noinc}{.shared}.b64",
        decode: decode_mbarrier_arrive,
    },
];

/// A lane's copy under way.
struct Copy {
    lane: u8,
    /// Number of groups the lane had committed before.
    group: u64,
    /// Position among the warp's copies.
    serial: u64,
    block: usize,
    at: usize,
    len: usize,
    /// Bytes that are read; the others are zeros.
    valid: usize,
    /// Buffer and offset, if any byte is read.
    source: Option<(usize, usize)>,
}

/// The copies of a warp, by lane and age.
#[derive(Default)]
pub(super) struct Copies {
    pending: VecDeque<Copy>,
    committed: [u64; 32],
    issued: u64,
}

impl Copies {
    /// How many copies the warp has issued.
    pub(super) fn issued(&self) -> u64 {
        self.issued
    }
}

/// Puts the bytes of a copy into shared memory.
fn land(unit: &mut Unit, copy: &Copy, warp: usize, epoch: u32) {
    let mut bytes = [0; 16];
    let mut poison = 0;
    if let Some((buffer, at)) = copy.source
        && let Some(buffer) = unit.buffers.get(buffer)
    {
        poison = buffer.read(at, &mut bytes[..copy.valid.min(16)]);
    }
    let stamp = Stamp { epoch, warp: warp as u16, lane: copy.lane, by_async: false };
    if let Some(block) = unit.blocks.get_mut(copy.block) {
        block.shared.land(copy.at, &bytes[..copy.len.min(16)], |i| poison >> i & 1 != 0, stamp);
    }
}

/// Lands those pending copies of a warp that `ready` picks.
fn land_ready(unit: &mut Unit, warp: usize, epoch: u32, ready: impl Fn(&Copy, &[u64; 32]) -> bool) {
    let copies = unit.family.copies.of(warp);
    if copies.pending.is_empty() {
        return;
    }
    let committed = copies.committed;
    let mut pending = std::mem::take(&mut copies.pending);
    pending.retain(|copy| {
        let ready = ready(copy, &committed);
        if ready {
            land(unit, copy, warp, epoch);
        }
        !ready
    });
    unit.family.copies.of(warp).pending = pending;
}

/// Lands a lane's copies older than `serial`, as writes of its warp at `epoch`.
pub(super) fn land_lane(unit: &mut Unit, warp: usize, lane: u8, serial: u64, epoch: u32) {
    land_ready(unit, warp, epoch, |copy, _| copy.lane == lane && copy.serial < serial);
}

/// Skips cache hints; returns whether a cache policy operand follows.
pub(super) fn decode_cache_hints(d: &mut Decode<'_>) -> bool {
    let policy = d.take("L2::cache_hint");
    let _ = d.take("L2::64B") || d.take("L2::128B") || d.take("L2::256B");
    policy
}

/// Takes the cache policy, the last operand; it changes nothing here.
pub(super) fn take_policy(d: &mut Decode<'_>) -> Result<(), Error> {
    let policy = d.operands.pop_back().ok_or_else(|| d.error("a cache policy expected"))?;
    d.src_of(&policy, Type::B64, false).map(|_| ())
}

/// What the operand after the size says about the source.
#[derive(Clone, Copy)]
enum Part {
    All,
    Size(Reg),
    Ignored((Pred, bool)),
}

fn decode_copy(d: &mut Decode<'_>, only_16: bool) -> Result<Action, Error> {
    if !d.take("shared") {
        d.expect("shared::cta")?;
    }
    d.expect("global")?;
    let policy = decode_cache_hints(d);
    let (to, from) = (d.address()?, d.address()?);
    let size = d.immediate()? as usize;
    if !(size == 16 || (!only_16 && (size == 4 || size == 8))) {
        return Err(d.error("cp.async copies 4, 8 or 16 bytes (.cg: 16)"));
    }
    if policy {
        take_policy(d)?;
    }
    let part = if !d.more() {
        Part::All
    } else {
        match d.operand()? {
            Operand::Not(name) => Part::Ignored((d.pred_of(&Operand::Name(name, 0))?, true)),
            other => match d.pred_of(&other) {
                Ok(pred) => Part::Ignored((pred, false)),
                Err(_) => Part::Size(d.src_of(&other, Type::U32, false)?),
            },
        }
    };
    Ok(copy_action(to, from, size, part))
}

fn copy_action(to: Address, from: Address, size: usize, part: Part) -> Action {
    Box::new(move |m| {
        let (targets, sources) = (to.checked(m), from.checked(m));
        let mut valid = [size; 32];
        match part {
            Part::All => {}
            Part::Size(reg) => {
                m.demand(m.poison(reg) & m.lanes, "the source size");
                for lane in lanes_of(m.lanes) {
                    valid[lane] = m.get(reg)[lane] as usize;
                    if valid[lane] > size {
                        m.report(FindingKind::Illegal, Some(lane as u32), || {
                            format!("cp.async reads {} of {size} bytes", valid[lane])
                        });
                        valid[lane] = size;
                    }
                }
            }
            Part::Ignored(pred) => {
                m.demand(m.pred_poison(pred.0) & m.lanes, "the ignore-src predicate");
                let ignored = pred_bits(m, pred);
                lanes_of(ignored).for_each(|lane| valid[lane] = 0);
            }
        }
        m.count_shared(&targets, m.lanes, size);
        let reading = lanes_of(m.lanes).filter(|lane| valid[*lane] > 0);
        let reading = reading.fold(0u32, |mask, lane| mask | 1 << lane);
        m.count_global(&sources, reading, size);
        for lane in lanes_of(m.lanes) {
            let source = match valid[lane] {
                0 => None,
                bytes => m.global_range(lane, sources[lane], size, bytes),
            };
            let Some((block, at)) = m.shared_range(lane, targets[lane], size, size) else {
                continue;
            };
            let index = m.warp.index;
            let who = Accessor {
                warp: index,
                clock: &m.warp.clock,
                proxy: Proxy::Generic,
                lane: lane as u8,
            };
            let conflict = m.unit.blocks[block].shared.start_copy(at, size, who);
            if let Some(conflict) = conflict {
                m.conflict(conflict, lane, targets[lane], "asynchronous write");
            }
            let totals = &mut m.unit.tally.totals.bytes;
            totals.global_read += valid[lane] as u64;
            totals.shared_written += size as u64;
            let copies = m.unit.family.copies.of(index);
            copies.pending.push_back(Copy {
                lane: lane as u8,
                group: copies.committed[lane],
                serial: copies.issued,
                block,
                at,
                len: size,
                valid: valid[lane],
                source,
            });
            copies.issued += 1;
        }
        Ok(Flow::Next)
    })
}

fn decode_commit(_: &mut Decode<'_>) -> Result<Action, Error> {
    Ok(Box::new(|m| {
        let copies = m.unit.family.copies.of(m.warp.index);
        lanes_of(m.lanes).for_each(|lane| copies.committed[lane] += 1);
        Ok(Flow::Next)
    }))
}

/// Lands the copies of the active lanes that `ready` picks, as this warp's writes now.
fn wait(m: &mut Machine<'_>, ready: impl Fn(&Copy, &[u64; 32]) -> bool) {
    let (index, lanes) = (m.warp.index, m.lanes);
    let epoch = m.warp.clock.seen()[index];
    land_ready(m.unit, index, epoch, |copy, committed| {
        lanes >> copy.lane & 1 != 0 && ready(copy, committed)
    });
}

fn decode_wait_group(d: &mut Decode<'_>) -> Result<Action, Error> {
    let newest = d.immediate()?;
    Ok(Box::new(move |m| {
        wait(m, |copy, committed| {
            copy.group.saturating_add(newest) < committed[usize::from(copy.lane & 31)]
        });
        Ok(Flow::Next)
    }))
}

fn decode_wait_all(_: &mut Decode<'_>) -> Result<Action, Error> {
    Ok(Box::new(|m| {
        wait(m, |_, _| true);
        Ok(Flow::Next)
    }))
}

fn decode_mbarrier_arrive(d: &mut Decode<'_>) -> Result<Action, Error> {
    let noinc = d.take("noinc");
    let shared = d.take("shared") || d.take("shared::cta");
    d.expect("b64")?;
    let address = d.address()?;
    let space = if shared { Space::Shared } else { Space::Generic };
    Ok(Box::new(move |m| {
        let addresses = address.checked(m);
        let snapshot = m.release_snapshot();
        let serial = m.unit.family.copies.of(m.warp.index).issued();
        for lane in lanes_of(m.lanes) {
            let arrival = mbarrier::CopiesArrive { warp: m.warp.index, lane: lane as u8, serial };
            mbarrier::arrive_later(m, lane, space, addresses[lane], arrival, &snapshot, noinc);
        }
        m.unit.changed();
        Ok(Flow::Next)
    }))
}
