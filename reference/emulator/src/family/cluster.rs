//! The barrier of a cluster (PTX ISA, "barrier.cluster"), and of grids ("griddepcontrol").
//!
//! Lanes that have exited count as arrived. A block launched without a cluster is one of its own.

use super::mbarrier_ops::decode_order;
use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "barrier.cluster.arrive",
        family: "barrier",
        meaning: "arrives at the cluster's barrier: {.release,.relaxed}{.aligned}",
        decode: decode_arrive,
    },
    Opcode {
        name: "barrier.cluster.wait",
        family: "barrier",
        meaning: "waits for all threads of the cluster: {.acquire}{.aligned}",
        decode: decode_wait,
    },
    Opcode {
        name: "griddepcontrol",
        family: "barrier",
        meaning: "orders dependent grids: .launch_dependents, .wait; launches run one after the other here",
        decode: decode_grid,
    },
];

/// The lanes of warp `index` of the unit that exist.
fn existing(m: &Machine<'_>, index: usize) -> u32 {
    let threads = m.context.block.iter().product::<u32>();
    let per_block = threads.div_ceil(32);
    match threads - (index as u32 % per_block) * 32 {
        32.. => u32::MAX,
        some => (1 << some) - 1,
    }
}

/// Completes the barrier if every lane of the cluster has arrived or exited.
fn settle(m: &mut Machine<'_>) {
    let mut any = false;
    for index in 0..m.unit.warps {
        let arrived = *m.unit.family.at_cluster_barrier.of(index);
        any |= arrived != 0;
        if existing(m, index) & !arrived & !*m.unit.family.exited.of(index) != 0 {
            return;
        }
    }
    if !any {
        return;
    }
    for index in 0..m.unit.warps {
        *m.unit.family.at_cluster_barrier.of(index) = 0;
    }
    let barrier = &mut m.unit.cluster_barrier;
    barrier.generation += 1;
    let gathered = std::mem::take(&mut barrier.gathered);
    barrier.released.join(&gathered);
    m.unit.tally.totals.barriers += 1;
    m.unit.changed();
}

fn decode_arrive(d: &mut Decode<'_>) -> Result<Action, Error> {
    let releases = decode_order(d, "release");
    let aligned = d.take("aligned");
    Ok(Box::new(move |m| {
        if aligned {
            m.require_whole_warp("barrier.cluster.arrive.aligned");
        }
        let (index, lanes) = (m.warp.index, m.lanes);
        let generation = m.unit.cluster_barrier.generation;
        let arrived = m.unit.family.at_cluster_barrier.of(index);
        let twice = *arrived & lanes;
        *arrived |= lanes;
        m.warp.family.cluster_generation = generation + 1;
        if twice != 0 {
            m.report(FindingKind::Barrier, Some(twice.trailing_zeros()), || {
                "arrives at the cluster's barrier twice without a wait between".into()
            });
        }
        if releases {
            let mut gathered = std::mem::take(&mut m.unit.cluster_barrier.gathered);
            m.release(&mut gathered);
            m.unit.cluster_barrier.gathered = gathered;
        }
        settle(m);
        Ok(Flow::Next)
    }))
}

fn decode_wait(d: &mut Decode<'_>) -> Result<Action, Error> {
    let _ = d.take("acquire");
    let aligned = d.take("aligned");
    Ok(Box::new(move |m| {
        if aligned {
            m.require_whole_warp("barrier.cluster.wait.aligned");
        }
        if m.warp.family.cluster_generation == 0 {
            m.report(FindingKind::Barrier, None, || {
                "waits at the cluster's barrier without having arrived".into()
            });
            return Ok(Flow::Next);
        }
        if m.unit.cluster_barrier.generation < m.warp.family.cluster_generation {
            return Ok(Flow::Wait { ticket: 0, on: "the cluster's barrier" });
        }
        let released = std::mem::take(&mut m.unit.cluster_barrier.released);
        m.acquire(&released);
        m.unit.cluster_barrier.released = released;
        Ok(Flow::Next)
    }))
}

fn decode_grid(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.one_of(&[("launch_dependents", ()), ("wait", ())])?;
    Ok(Box::new(|_| Ok(Flow::Next)))
}

/// Lanes that exit need not arrive any more.
pub(super) fn on_exit(m: &mut Machine<'_>) {
    *m.unit.family.exited.of(m.warp.index) |= m.lanes;
    settle(m);
}
