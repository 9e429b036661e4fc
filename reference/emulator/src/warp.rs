//! A warp: registers of 32 lanes, and where its lanes stand.
//!
//! Lanes that go the same way form a [`Path`]. A divergent branch replaces a path by one per target and
//! a [`Join`] at the branch's immediate post-dominator, where they wait for each other and become one
//! path again. Paths of a warp may be scheduled in any order, so a path that waits for what another
//! path of its warp will do does not block it.

use crate::clock::Clock;
use crate::family::state::WarpState;

/// A register: 32 lanes of up to 64 bits. Immediates, special registers and symbol addresses are
/// registers too, which no instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(pub u32);

/// A predicate register: one bit per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pred(pub u32);

/// Lanes that are at the same instruction.
#[derive(Clone, Debug)]
pub struct Path {
    /// Index of the next instruction.
    pub pc: u32,
    /// The lanes.
    pub lanes: u32,
    /// Where they meet the other lanes again: an index into [`Warp::joins`].
    pub join: Option<usize>,
    /// What an instruction that returned `Flow::Wait` left for its next try.
    pub ticket: Option<u64>,
    /// What the path waits for, and the unit's change count when it began to.
    pub waiting: Option<(&'static str, u64)>,
}

/// A point where paths become one again.
#[derive(Clone, Debug)]
pub struct Join {
    /// Index of the instruction.
    pub pc: u32,
    /// Lanes that will come, unless they exit.
    pub expected: u32,
    /// Lanes that are here.
    pub arrived: u32,
    /// The join around this one.
    pub parent: Option<usize>,
}

/// A warp.
pub struct Warp {
    /// Index among the warps of its unit; the index in clocks.
    pub index: usize,
    /// Index of its block in the unit (its rank in the cluster).
    pub block: usize,
    /// Warp of the block (`%warpid`).
    pub in_block: u32,
    /// Lanes that exist (the last warp of a block may be partial).
    pub lanes: u32,
    /// Lanes that have exited.
    pub exited: u32,
    /// Register values, zero-extended from the register's width.
    pub regs: Vec<[u64; 32]>,
    /// Bit per lane: the register holds poison.
    pub poison: Vec<u32>,
    /// Predicate values, bit per lane.
    pub preds: Vec<u32>,
    /// Bit per lane: the predicate is poison.
    pub pred_poison: Vec<u32>,
    /// Where its lanes stand.
    pub paths: Vec<Path>,
    /// Where its paths meet.
    pub joins: Vec<Join>,
    /// What it is ordered after.
    pub clock: Clock,
    /// Local memory, `local_bytes` per lane, and whether each byte is poison.
    pub local: Vec<u8>,
    /// 1 for every byte of local memory nothing has written.
    pub local_poison: Vec<u8>,
    /// Instructions executed (`%clock`).
    pub executed: u64,
    /// `bar.warp.sync` under way: member mask, lanes arrived.
    pub warp_barriers: Vec<(u32, u32)>,
    /// The carry flag of the extended-precision instructions, bit per lane.
    pub carry: u32,
    /// State of the asynchronous families.
    pub family: WarpState,
}

impl Warp {
    /// Lanes that exist and have not exited.
    pub fn alive(&self) -> u32 {
        self.lanes & !self.exited
    }
}

impl Warp {
    /// The path to run next: of those that do not wait, or whose unit has changed since they began to,
    /// the one that is furthest behind, so that paths catch up with each other and merge.
    #[inline(always)]
    pub(crate) fn next_path(&self, changes: u64) -> Option<usize> {
        let ready = |path: &Path| path.waiting.is_none_or(|(_, since)| since != changes);
        if let [only] = self.paths.as_slice() {
            return ready(only).then_some(0);
        }
        let paths = self.paths.iter().enumerate().filter(|(_, path)| ready(path));
        paths.min_by_key(|(_, path)| path.pc).map(|(index, _)| index)
    }

    /// Called when a path has come to a new instruction: it may have reached its join, or another path.
    #[inline(always)]
    pub(crate) fn settle(&mut self, index: usize) {
        if let Some(join) = self.paths[index].join
            && self.joins[join].pc == self.paths[index].pc
        {
            self.arrive(index, join);
        } else if self.paths.len() > 1 {
            self.merge(index);
        }
    }

    #[cold]
    fn arrive(&mut self, index: usize, join: usize) {
        let path = self.paths.swap_remove(index);
        self.joins[join].arrived |= path.lanes;
        self.release(join);
    }

    /// Lets a join's lanes go on if all that are alive have arrived.
    fn release(&mut self, join: usize) {
        let Join { pc, expected, arrived, parent } = self.joins[join];
        let wanted = expected & self.alive();
        if expected == 0 || wanted & !arrived != 0 {
            return;
        }
        self.joins[join].expected = 0;
        while self.joins.last().is_some_and(|join| join.expected == 0) {
            self.joins.pop();
        }
        if wanted != 0 {
            self.paths.push(Path { pc, lanes: wanted, join: parent, ticket: None, waiting: None });
            self.settle(self.paths.len() - 1);
        }
    }

    /// Releases joins that waited for lanes which have exited.
    pub(crate) fn release_joins(&mut self) {
        for join in (0..self.joins.len()).rev() {
            if join < self.joins.len() {
                self.release(join);
            }
        }
    }

    #[cold]
    fn merge(&mut self, index: usize) {
        let free = |path: &Path| path.ticket.is_none_or(|ticket| ticket == crate::machine::MERGE);
        let Path { pc, lanes, join, .. } = self.paths[index];
        if !free(&self.paths[index]) {
            return;
        }
        let other = self.paths.iter().enumerate().position(|(other, path)| {
            other != index && path.pc == pc && path.join == join && free(path)
        });
        if let Some(other) = other {
            let path = &mut self.paths[other];
            path.lanes |= lanes;
            path.ticket = None;
            path.waiting = None;
            self.paths.swap_remove(index);
        }
    }

    /// A path goes on as several: `parts` are targets and lanes (none, for a target nobody goes to),
    /// `meets` is where they join again. Returns whether it really parted.
    pub(crate) fn part(&mut self, index: usize, parts: &[(u32, u32)], meets: u32) -> bool {
        let path = &mut self.paths[index];
        path.ticket = None;
        path.waiting = None;
        let mut taken = parts.iter().filter(|(_, lanes)| *lanes != 0);
        let (Some(&(target, lanes)), second) = (taken.next(), taken.next()) else { return false };
        path.pc = target;
        path.lanes = lanes;
        if second.is_none() {
            self.settle(index);
            return false;
        }
        let whole = parts.iter().fold(0, |mask, (_, lanes)| mask | lanes);
        let mut join = path.join;
        let reuse = join.is_some_and(|j| self.joins[j].pc == meets);
        if meets != crate::program::NONE && !reuse {
            self.joins.push(Join { pc: meets, expected: whole, arrived: 0, parent: join });
            join = Some(self.joins.len() - 1);
        }
        self.paths.swap_remove(index);
        for &(pc, lanes) in parts.iter().filter(|(_, lanes)| *lanes != 0) {
            self.paths.push(Path { pc, lanes, join, ticket: None, waiting: None });
            self.settle(self.paths.len() - 1);
        }
        true
    }
}
