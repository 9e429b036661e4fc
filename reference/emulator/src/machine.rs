//! What an instruction sees while it executes: its warp, its unit, and checked access to memory.

use crate::error::Stop;
use crate::finding::{Finding, FindingKind, Place};
use crate::launch::Context;
use crate::unit::Unit;
use crate::value::Value;
use crate::warp::{Pred, Reg, Warp};

/// What the path does after an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Goes on with the next instruction.
    Next,
    /// Goes on with the next instruction, but lets another warp run first.
    Yield,
    /// The active lanes go to this label (see [`crate::decode::Decode::label`]); lanes whose guard was
    /// false go on.
    Jump(u32),
    /// Every active lane goes to its own label (`brx.idx`).
    Targets(Box<[u32; 32]>),
    /// The active lanes exit.
    Exit,
    /// The path stays at this instruction and tries again once something has changed in its unit; the
    /// next try finds `ticket` in [`Machine::ticket`]. `on` names what is awaited, for deadlock reports.
    /// A path that waits with [`MERGE`] has done nothing yet: lanes of its warp that reach the same
    /// instruction join it.
    Wait {
        /// Handed to the next try.
        ticket: u64,
        /// "bar.sync 1", "mbarrier", ...
        on: &'static str,
    },
}

/// Ticket of a path that waits for other lanes of its own warp to come to the same instruction.
pub const MERGE: u64 = u64::MAX;

/// What an instruction does, operands already resolved: the closure that its family's decoder made.
pub type Action = Box<dyn Fn(&mut Machine<'_>) -> Result<Flow, Stop> + Send + Sync>;

/// The state an instruction works on.
pub struct Machine<'a> {
    /// The warp.
    pub warp: &'a mut Warp,
    /// Blocks, barriers and late deliveries of its unit.
    pub unit: &'a mut Unit,
    /// What is the same for the whole launch.
    pub context: &'a Context<'a>,
    /// Lanes that execute: those of the path whose guard is true.
    pub lanes: u32,
    /// Lanes of the path, whatever their guard.
    pub path_lanes: u32,
    /// Index of the instruction.
    pub pc: u32,
    /// What the previous try of this instruction left in [`Flow::Wait`].
    pub ticket: Option<u64>,
    /// Whether the instruction is one of the warp as a whole: [`Machine::require_whole_warp`] was called.
    pub collective: bool,
}

pub use crate::access::Space;

/// The lanes of a mask, lowest first.
pub fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        (lane < 32).then(|| {
            mask &= mask - 1;
            lane
        })
    })
}

impl Machine<'_> {
    // --- registers ---

    /// The 32 lanes of a register.
    #[inline(always)]
    pub fn get(&self, reg: Reg) -> &[u64; 32] {
        &self.warp.regs[reg.0 as usize]
    }

    /// Which lanes of a register are poison.
    #[inline(always)]
    pub fn poison(&self, reg: Reg) -> u32 {
        self.warp.poison[reg.0 as usize]
    }

    /// Which lanes are poison in any of the registers.
    pub fn poison_of(&self, regs: &[Reg]) -> u32 {
        regs.iter().fold(0, |mask, reg| mask | self.poison(*reg))
    }

    /// Sets the active lanes of a register.
    #[inline(always)]
    pub fn set(&mut self, reg: Reg, values: &[u64; 32], poison: u32) {
        let target = &mut self.warp.regs[reg.0 as usize];
        let lanes = self.lanes;
        if lanes == u32::MAX {
            *target = *values;
        } else {
            for lane in 0..32 {
                let keep = ((lanes >> lane & 1) as u64).wrapping_sub(1);
                target[lane] = target[lane] & keep | values[lane] & !keep;
            }
        }
        let old = &mut self.warp.poison[reg.0 as usize];
        *old = *old & !lanes | poison & lanes;
    }

    /// Sets one lane of a register, active or not.
    #[inline(always)]
    pub fn set_lane<T: Value>(&mut self, reg: Reg, lane: usize, value: T, poison: bool) {
        self.warp.regs[reg.0 as usize][lane] = value.into_bits();
        let old = &mut self.warp.poison[reg.0 as usize];
        *old = *old & !(1 << lane) | u32::from(poison) << lane;
    }

    /// A predicate, bit per lane.
    #[inline(always)]
    pub fn pred(&self, pred: Pred) -> u32 {
        self.warp.preds[pred.0 as usize]
    }

    /// Which lanes of a predicate are poison.
    #[inline(always)]
    pub fn pred_poison(&self, pred: Pred) -> u32 {
        self.warp.pred_poison[pred.0 as usize]
    }

    /// Sets the active lanes of a predicate.
    #[inline(always)]
    pub fn set_pred(&mut self, pred: Pred, bits: u32, poison: u32) {
        let lanes = self.lanes;
        let value = &mut self.warp.preds[pred.0 as usize];
        *value = *value & !lanes | bits & lanes;
        let value = &mut self.warp.pred_poison[pred.0 as usize];
        *value = *value & !lanes | poison & lanes;
    }

    /// The value that all active lanes must agree on (`bar.sync` ids, descriptors, ...): that of the
    /// lowest active lane. Differing lanes are an `Illegal` finding, poison a `Poison` finding; `what`
    /// names the operand.
    pub fn uniform(&mut self, reg: Reg, what: &str) -> u64 {
        let lane = self.lanes.trailing_zeros() as usize % 32;
        let value = self.get(reg)[lane];
        if lanes_of(self.lanes).any(|other| self.get(reg)[other] != value) {
            self.report(FindingKind::Illegal, None, || format!("{what} differs between lanes"));
        }
        self.demand(self.poison(reg) & self.lanes, what);
        value
    }

    /// Reports poison that reached a place where it decides something (an address, a branch).
    pub fn demand(&mut self, poison: u32, what: &str) {
        if poison != 0 {
            let lane = poison.trailing_zeros();
            self.report(FindingKind::Poison, Some(lane), || {
                format!("{what} depends on a value that nothing initialised")
            });
        }
    }

    // --- findings ---

    /// Where lane `lane` (or the warp) is.
    pub fn place(&self, lane: Option<u32>) -> Place {
        self.context.place(&self.unit.blocks[self.warp.block], self.warp.in_block, lane, self.pc)
    }

    /// Records a finding at this instruction; the message is made for its first occurrence only.
    #[cold]
    pub fn report(
        &mut self,
        kind: FindingKind,
        lane: Option<u32>,
        message: impl FnOnce() -> String,
    ) {
        if let Some((_, known)) = self.unit.tally.findings.get_mut(&(kind, self.pc)) {
            known.count += 1;
            return;
        }
        let finding = Finding { kind, place: self.place(lane), count: 1, message: message() };
        let unit = self.unit.tally.unit;
        self.unit.tally.findings.insert((kind, self.pc), (unit, finding));
    }

    /// The error for what this emulator cannot carry out.
    pub fn unsupported(&self, message: impl Into<String>) -> Stop {
        Stop::Unsupported { place: Box::new(self.place(None)), message: message.into() }
    }

    /// Checks that a `.sync.aligned` instruction is reached by all lanes of the warp that have not
    /// exited, and reports `Divergence` otherwise.
    pub fn require_whole_warp(&mut self, what: &str) {
        self.collective = true;
        let missing = self.warp.alive() & !self.lanes;
        if missing != 0 {
            self.report(FindingKind::Divergence, Some(missing.trailing_zeros()), || {
                format!("{what} needs the whole warp, lanes {missing:#010x} are elsewhere")
            });
        }
    }

    // --- ordering ---

    /// Release: adds what this warp has done to `to`, and starts its next epoch.
    pub fn release(&mut self, to: &mut crate::clock::Clock) {
        to.join(&self.warp.clock);
        self.warp.clock.tick(self.warp.index);
    }

    /// Release into a fresh clock, to be kept with what was issued (a bulk copy).
    pub fn release_snapshot(&mut self) -> crate::clock::Clock {
        let clock = self.warp.clock.clone();
        self.warp.clock.tick(self.warp.index);
        clock
    }

    /// Acquire: this warp is now ordered after all that `from` has gathered.
    pub fn acquire(&mut self, from: &crate::clock::Clock) {
        self.warp.clock.join(from);
    }
}
