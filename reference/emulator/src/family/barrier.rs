//! Barriers of a block and of a warp (PTX ISA, "bar, barrier", "bar.warp.sync").
//!
//! A barrier counts warps, 32 threads each. Lanes that have exited no longer count. A warp that waits
//! leaves the schedule until the barrier's generation has changed.

use super::Opcode;
use crate::decode::Decode;
use crate::error::Error;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, MERGE, Machine};
use crate::unit::Unit;
use crate::value::Type;
use crate::warp::{Pred, Reg};

const FAMILY: &str = "barrier";
const SYNC: &str = "wait until all threads (or the given number) have arrived at barrier 0..15";
const ARRIVE: &str = "arrive at a barrier of the given number of threads without waiting";
const REDUCE: &str =
    "barrier that also counts or combines a predicate; .popc.u32 .and.pred .or.pred";

macro_rules! row {
    ($name:literal, $meaning:expr, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("bar.sync", SYNC, |d| sync(d, true)),
    row!("bar.cta.sync", SYNC, |d| sync(d, true)),
    row!("barrier.sync", SYNC, |d| sync(d, false)),
    row!("barrier.cta.sync", SYNC, |d| sync(d, false)),
    row!("bar.arrive", ARRIVE, |d| arrive(d, true)),
    row!("bar.cta.arrive", ARRIVE, |d| arrive(d, true)),
    row!("barrier.arrive", ARRIVE, |d| arrive(d, false)),
    row!("barrier.cta.arrive", ARRIVE, |d| arrive(d, false)),
    row!("bar.red", REDUCE, |d| reduce(d, true)),
    row!("bar.cta.red", REDUCE, |d| reduce(d, true)),
    row!("barrier.red", REDUCE, |d| reduce(d, false)),
    row!("barrier.cta.red", REDUCE, |d| reduce(d, false)),
    row!("bar.warp.sync", "wait for the lanes of a member mask", warp_sync),
];

const WAITS: [&str; 16] = [
    "barrier 0",
    "barrier 1",
    "barrier 2",
    "barrier 3",
    "barrier 4",
    "barrier 5",
    "barrier 6",
    "barrier 7",
    "barrier 8",
    "barrier 9",
    "barrier 10",
    "barrier 11",
    "barrier 12",
    "barrier 13",
    "barrier 14",
    "barrier 15",
];

/// What `barrier.red` combines, and where the result goes.
#[derive(Clone, Copy)]
enum Reduction {
    Count(Reg),
    And(Pred),
    Or(Pred),
}

/// A decoded barrier instruction.
#[derive(Clone, Copy)]
struct Operation {
    aligned: bool,
    waits: bool,
    id: Reg,
    count: Option<Reg>,
    vote: Option<(Reduction, (Pred, bool))>,
}

fn sync(d: &mut Decode<'_>, aligned: bool) -> Result<Action, Error> {
    let aligned = aligned | d.take("aligned");
    let id = d.src(Type::U32)?;
    let count = if d.more() { Some(d.src(Type::U32)?) } else { None };
    Ok(action(Operation { aligned, waits: true, id, count, vote: None }))
}

fn arrive(d: &mut Decode<'_>, aligned: bool) -> Result<Action, Error> {
    let aligned = aligned | d.take("aligned");
    let (id, count) = (d.src(Type::U32)?, Some(d.src(Type::U32)?));
    Ok(action(Operation { aligned, waits: false, id, count, vote: None }))
}

fn reduce(d: &mut Decode<'_>, aligned: bool) -> Result<Action, Error> {
    let which = d.one_of(&[("popc", 0), ("and", 1), ("or", 2)])?;
    let aligned = aligned | d.take("aligned");
    d.expect(if which == 0 { "u32" } else { "pred" })?;
    let result = match which {
        0 => Reduction::Count(d.dst(32)?),
        1 => Reduction::And(d.dst_pred()?),
        _ => Reduction::Or(d.dst_pred()?),
    };
    let id = d.src(Type::U32)?;
    let count = if d.operands_left() > 1 { Some(d.src(Type::U32)?) } else { None };
    let vote = Some((result, d.src_pred()?));
    Ok(action(Operation { aligned, waits: true, id, count, vote }))
}

fn action(operation: Operation) -> Action {
    Box::new(move |m| match m.ticket {
        None | Some(MERGE) => Ok(come(m, operation)),
        Some(generation) => {
            let id = m.get(operation.id)[m.lanes.trailing_zeros() as usize % 32] as usize;
            Ok(go_on(m, operation, id, generation))
        }
    })
}

/// A warp comes to a barrier.
fn come(m: &mut Machine<'_>, operation: Operation) -> Flow {
    if operation.aligned {
        m.require_whole_warp("an aligned barrier");
    } else if m.warp.alive() & !m.lanes != 0 {
        return Flow::Wait { ticket: MERGE, on: "the other lanes of its warp at a barrier" };
    }
    let id = m.uniform(operation.id, "the barrier's number") as usize;
    if id > 15 {
        m.report(FindingKind::Illegal, None, || format!("barrier {id}, there are 0 to 15"));
        return Flow::Next;
    }
    let count = operation.count.map(|reg| m.uniform(reg, "the barrier's thread count") as u32);
    if let Some(count) = count.filter(|count| *count == 0 || count % 32 != 0) {
        m.report(FindingKind::Illegal, None, || {
            format!("a barrier of {count} threads, not a multiple of 32")
        });
        return Flow::Next;
    }
    let block = m.warp.block;
    let barrier = &mut m.unit.blocks[block].barriers[id];
    let (old, everyone) = (barrier.expected, barrier.everyone);
    if barrier.arrived > 0 && (old != count.unwrap_or(0) || everyone != count.is_none()) {
        let text = |everyone, count: u32| match everyone {
            true => "all threads".to_owned(),
            false => format!("{count} threads"),
        };
        m.report(FindingKind::Barrier, None, || {
            let (new, old) = (text(count.is_none(), count.unwrap_or(0)), text(everyone, old));
            format!("barrier {id} of {new}, others came to it as one of {old}")
        });
    }
    let mut gathered = std::mem::take(&mut m.unit.blocks[block].barriers[id].gathered);
    m.release(&mut gathered);
    let votes = operation.vote.map(|(_, operand)| super::lanes::pred_bits(m, operand) & m.lanes);
    let lanes = m.lanes;
    let barrier = &mut m.unit.blocks[block].barriers[id];
    barrier.gathered = gathered;
    barrier.arrived += 32;
    barrier.everyone = count.is_none();
    barrier.expected = count.unwrap_or(0);
    if let Some(votes) = votes {
        barrier.votes[0] += votes.count_ones();
        barrier.votes[1] += lanes.count_ones();
    }
    let generation = barrier.generation;
    complete(m.unit, block, id);
    if operation.waits { go_on(m, operation, id, generation) } else { Flow::Next }
}

/// Goes on if the generation that the warp came to is over.
fn go_on(m: &mut Machine<'_>, operation: Operation, id: usize, generation: u64) -> Flow {
    let barrier = &m.unit.blocks[m.warp.block].barriers[id];
    if barrier.generation == generation {
        return Flow::Wait { ticket: generation, on: WAITS[id] };
    }
    m.warp.clock.join(&barrier.released);
    let [yes, all] = barrier.counted;
    let truth = |value: bool| if value { u32::MAX } else { 0 };
    match operation.vote {
        None => {}
        Some((Reduction::Count(dst), _)) => m.set(dst, &[yes.into(); 32], 0),
        Some((Reduction::And(dst), _)) => m.set_pred(dst, truth(yes == all), 0),
        Some((Reduction::Or(dst), _)) => m.set_pred(dst, truth(yes > 0), 0),
    }
    Flow::Next
}

/// Completes the barrier's generation if all have arrived.
fn complete(unit: &mut Unit, block: usize, id: usize) {
    let warps = unit.blocks[block].warps;
    let barrier = &mut unit.blocks[block].barriers[id];
    let expected = if barrier.everyone { warps * 32 } else { barrier.expected };
    if barrier.arrived == 0 || barrier.arrived < expected {
        return;
    }
    barrier.generation += 1;
    barrier.arrived = 0;
    barrier.released = std::mem::take(&mut barrier.gathered);
    barrier.counted = std::mem::take(&mut barrier.votes);
    unit.tally.totals.barriers += 1;
    unit.changed();
}

/// A warp of the block has exited: barriers of all threads may be complete without it.
pub(crate) fn after_exit(unit: &mut Unit, block: usize) {
    for id in 0..16 {
        if unit.blocks[block].barriers[id].everyone {
            complete(unit, block, id);
        }
    }
}

fn warp_sync(d: &mut Decode<'_>) -> Result<Action, Error> {
    let mask = d.src(Type::B32)?;
    Ok(Box::new(move |m| {
        let mask = m.uniform(mask, "the member mask") as u32;
        if m.lanes & !mask != 0 {
            m.report(FindingKind::Illegal, Some((m.lanes & !mask).trailing_zeros()), || {
                format!("bar.warp.sync by a lane outside its member mask {mask:#010x}")
            });
        }
        let wanted = mask & m.warp.alive();
        let lanes = m.lanes;
        // What lanes did before is ordered from here on: a new epoch.
        m.warp.clock.tick(m.warp.index);
        if wanted & !lanes == 0 {
            return Ok(Flow::Next);
        }
        let barriers = &mut m.warp.warp_barriers;
        let known = barriers.iter().position(|(of, _)| *of == mask);
        let index = match (m.ticket, known) {
            (None, None) => {
                barriers.push((mask, 0));
                barriers.len() - 1
            }
            (None, Some(index)) => index,
            // It has completed, or even begun anew without this path.
            (Some(_), None) => return Ok(Flow::Next),
            (Some(_), Some(index)) if barriers[index].1 & lanes != lanes => return Ok(Flow::Next),
            (Some(_), Some(index)) => index,
        };
        barriers[index].1 |= lanes;
        if wanted & !barriers[index].1 == 0 {
            barriers.swap_remove(index);
            m.unit.changed();
            return Ok(Flow::Next);
        }
        Ok(Flow::Wait { ticket: 0, on: "bar.warp.sync" })
    }))
}
