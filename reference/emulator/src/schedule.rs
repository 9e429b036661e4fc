//! Runs the warps of a unit: picks a warp, lets it run for a while, picks the next.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Clock;
use crate::error::{Standing, Stop};
use crate::family::barrier::after_exit;
use crate::family::state::{deliver_late, on_exit};
use crate::finding::FindingKind;
use crate::launch::Context;
use crate::machine::{Flow, MERGE, Machine};
use crate::shared::Shared;
use crate::unit::{Barrier, Block, Tally, Unit};
use crate::warp::{Path, Warp};

/// Warp instructions taken from the launch's budget at a time.
const LOAN: u64 = 1 << 16;

/// What is left of the launch's instruction limit, borrowed in pieces.
struct Budget<'a> {
    left: u64,
    all: &'a AtomicU64,
}

impl Budget<'_> {
    /// Takes one instruction; false if none is left.
    #[inline(always)]
    fn take(&mut self) -> bool {
        if self.left == 0 {
            let rest = |all: u64| Some(all.saturating_sub(LOAN));
            self.left = self.all.fetch_update(Relaxed, Relaxed, rest).unwrap_or(0).min(LOAN);
        }
        let some = self.left > 0;
        self.left -= u64::from(some);
        some
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        self.all.fetch_add(self.left, Relaxed);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Runs unit number `index` of the launch to its end.
pub(crate) fn run_unit(
    context: &Context<'_>,
    index: u64,
    tally: Tally,
) -> (Tally, Result<(), Stop>) {
    let (mut unit, mut warps) = create(context, index, tally);
    let mut random = Random(context.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ index);
    let result = run(context, &mut unit, &mut warps, &mut random);
    if result.is_ok() && warps.iter().all(|warp| warp.alive() == 0) {
        check_end(context, &mut unit, &mut warps);
    }
    (unit.tally, result)
}

fn create(context: &Context<'_>, index: u64, mut tally: Tally) -> (Unit, Vec<Warp>) {
    tally.unit = index;
    let program = context.program;
    let cluster = context.cluster.map(u64::from);
    let grid = [0, 1].map(|axis| u64::from(context.grid[axis]) / cluster[axis]);
    let origin = [index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]];
    let threads: u32 = context.block.iter().product();
    let per_block = threads.div_ceil(32);
    let ranks = cluster.iter().product::<u64>();
    let count = per_block as usize * ranks as usize;
    let mut warps = Vec::with_capacity(count);
    let mut blocks = Vec::with_capacity(ranks as usize);
    for rank in 0..ranks {
        let inner =
            [rank % cluster[0], rank / cluster[0] % cluster[1], rank / cluster[0] / cluster[1]];
        let ctaid = [0, 1, 2].map(|axis| (origin[axis] * cluster[axis] + inner[axis]) as u32);
        let [x, y, z] = ctaid.map(u64::from);
        let block = Block {
            ctaid,
            linear: (z * u64::from(context.grid[1]) + y) * u64::from(context.grid[0]) + x,
            warps: per_block,
            shared: Shared::new(
                program.shared_bytes + context.dynamic_shared,
                program.granule,
                count,
            ),
            barriers: std::array::from_fn(|_| Barrier::default()),
            strong: Default::default(),
            family: Default::default(),
        };
        for in_block in 0..per_block {
            let lanes = match threads - in_block * 32 {
                32.. => u32::MAX,
                some => (1 << some) - 1,
            };
            let mut warp = Warp {
                index: warps.len(),
                block: rank as usize,
                in_block,
                lanes,
                exited: 0,
                regs: vec![[0; 32]; program.registers],
                poison: vec![u32::MAX; program.registers],
                preds: vec![0; program.predicates],
                pred_poison: vec![u32::MAX; program.predicates],
                paths: vec![Path { pc: 0, lanes, join: None, ticket: None, waiting: None }],
                joins: Vec::new(),
                clock: Clock::start(count, warps.len()),
                local: vec![0; program.local_bytes * 32],
                local_poison: vec![1; program.local_bytes * 32],
                executed: 0,
                warp_barriers: Vec::new(),
                carry: 0,
                family: Default::default(),
            };
            for (reg, value) in &program.constants {
                warp.regs[reg.0 as usize] = [*value; 32];
                warp.poison[reg.0 as usize] = 0;
            }
            for (pred, value) in &program.constant_preds {
                warp.preds[pred.0 as usize] = if *value { u32::MAX } else { 0 };
                warp.pred_poison[pred.0 as usize] = 0;
            }
            for (reg, special) in &program.specials {
                warp.regs[reg.0 as usize] = std::array::from_fn(|lane| {
                    special.value(context, &block, in_block, lane as u32)
                });
                warp.poison[reg.0 as usize] = 0;
            }
            warps.push(warp);
        }
        blocks.push(block);
    }
    let unit = Unit {
        blocks,
        warps: count,
        cluster_barrier: Barrier::default(),
        changes: 0,
        tally,
        buffers: context.buffers.clone(),
        last_buffer: 0,
        family: Default::default(),
    };
    (unit, warps)
}

fn run(
    context: &Context<'_>,
    unit: &mut Unit,
    warps: &mut [Warp],
    random: &mut Random,
) -> Result<(), Stop> {
    let mut budget = Budget { left: 0, all: &context.budget };
    let mut ready = Vec::with_capacity(warps.len());
    loop {
        if context.abort.load(Relaxed) {
            return Ok(());
        }
        ready.clear();
        ready.extend((0..warps.len()).filter(|&w| warps[w].next_path(unit.changes).is_some()));
        if ready.is_empty() {
            if warps.iter().all(|warp| warp.alive() == 0) {
                return Ok(());
            }
            if deliver_late(unit) {
                unit.changed();
                continue;
            }
            return Err(deadlock(context, unit, warps));
        }
        // Mostly long runs, now and then a switch after a few instructions.
        let warp = &mut warps[ready[random.below(ready.len())]];
        let quantum = 1 << (random.next() % 12);
        for _ in 0..quantum {
            let Some(path) = warp.next_path(unit.changes) else { break };
            if !budget.take() {
                let (block, pc) = (&unit.blocks[warp.block], warp.paths[path].pc);
                let place = context.place(block, warp.in_block, None, pc);
                return Err(Stop::InstructionLimit(Box::new(place)));
            }
            let go_on = step(context, unit, warp, path)?;
            if context.stop_at_first_finding
                && let Some((_, finding)) = unit.tally.findings.values().next()
            {
                return Err(Stop::FirstFinding(Box::new(finding.clone())));
            }
            if !go_on {
                break;
            }
        }
    }
}

/// Executes one instruction of a path; returns whether the warp may go on at once.
#[inline(always)]
fn step(
    context: &Context<'_>,
    unit: &mut Unit,
    warp: &mut Warp,
    index: usize,
) -> Result<bool, Stop> {
    let path = &warp.paths[index];
    let (pc, path_lanes, ticket) = (path.pc, path.lanes, path.ticket);
    let instruction = &context.program.code[pc as usize];
    let mut lanes = path_lanes;
    let mut poison = 0;
    if let Some((pred, negated)) = instruction.guard {
        let bits = warp.preds[pred.0 as usize];
        poison = warp.pred_poison[pred.0 as usize] & path_lanes;
        lanes &= if negated { !bits } else { bits };
    }
    if lanes == 0 && poison == 0 {
        warp.paths[index].pc = pc + 1;
        warp.settle(index);
        return Ok(true);
    }
    // A further try of an instruction that waits is not another instruction.
    if ticket.is_none() {
        warp.executed += 1;
        unit.tally.opcodes[instruction.opcode as usize] += 1;
        unit.tally.totals.lane_instructions += u64::from(lanes.count_ones());
    }
    let mut machine =
        Machine { warp, unit, context, lanes, path_lanes, pc, ticket, collective: false };
    if poison != 0 {
        machine.demand(poison, "a guard or branch predicate");
        if lanes == 0 {
            warp.paths[index].pc = pc + 1;
            warp.settle(index);
            return Ok(true);
        }
    }
    let flow = (instruction.action)(&mut machine)?;
    if flow == Flow::Exit {
        on_exit(&mut machine);
    }
    let path = &mut warp.paths[index];
    match flow {
        Flow::Next | Flow::Yield => {
            path.pc = pc + 1;
            path.ticket = None;
            path.waiting = None;
            warp.settle(index);
            return Ok(flow == Flow::Next);
        }
        Flow::Wait { ticket, on } => {
            path.ticket = Some(ticket);
            path.waiting = Some((on, unit.changes));
            if ticket == MERGE {
                warp.settle(index);
            }
        }
        Flow::Jump(label) => {
            let target = context.program.labels[label as usize];
            let parts = [(target, lanes), (pc + 1, path_lanes & !lanes)];
            if warp.part(index, &parts, instruction.meets) {
                unit.tally.totals.divergent_branches += 1;
            }
        }
        Flow::Targets(labels) => {
            let mut parts: Vec<(u32, u32)> = Vec::new();
            let fall = (0..32).map(|_| pc + 1);
            for (lane, next) in fall.enumerate().filter(|(l, _)| path_lanes >> l & 1 != 0) {
                let active = lanes >> lane & 1 != 0;
                let target =
                    if active { context.program.labels[labels[lane] as usize] } else { next };
                match parts.iter_mut().find(|(at, _)| *at == target) {
                    Some((_, mask)) => *mask |= 1 << lane,
                    None => parts.push((target, 1 << lane)),
                }
            }
            if warp.part(index, &parts, instruction.meets) {
                unit.tally.totals.divergent_branches += 1;
            }
        }
        Flow::Exit => {
            path.pc = pc + 1;
            path.lanes &= !lanes;
            let gone = path.lanes == 0;
            warp.exited |= lanes;
            if gone {
                warp.paths.swap_remove(index);
            } else {
                warp.settle(index);
            }
            warp.release_joins();
            if warp.alive() == 0 {
                unit.blocks[warp.block].warps -= 1;
                after_exit(unit, warp.block);
            }
            unit.changed();
        }
    }
    Ok(true)
}

/// Where every warp that has not exited stands.
fn deadlock(context: &Context<'_>, unit: &Unit, warps: &[Warp]) -> Stop {
    let mut standing = Vec::new();
    for warp in warps.iter().filter(|warp| warp.alive() != 0) {
        for path in &warp.paths {
            standing.push(Standing {
                place: context.place(&unit.blocks[warp.block], warp.in_block, None, path.pc),
                lanes: path.lanes,
                waits_for: path.waiting.map_or("nothing", |(on, _)| on),
            });
        }
    }
    Stop::Deadlock(standing)
}

/// Reports barriers that were left half full.
fn check_end(context: &Context<'_>, unit: &mut Unit, warps: &mut [Warp]) {
    for block in 0..unit.blocks.len() {
        for id in 0..16 {
            let barrier = &unit.blocks[block].barriers[id];
            let (arrived, expected) = (barrier.arrived, barrier.expected);
            let Some(warp) = warps.iter_mut().find(|w| w.block == block).filter(|_| arrived > 0)
            else {
                continue;
            };
            let pc = context.program.code.len() as u32 - 1;
            let mut machine = Machine {
                warp,
                unit,
                context,
                lanes: 0,
                path_lanes: 0,
                pc,
                ticket: None,
                collective: false,
            };
            machine.report(FindingKind::Barrier, None, || {
                format!("barrier {id} ends with {arrived} of {expected} threads arrived")
            });
        }
    }
}
