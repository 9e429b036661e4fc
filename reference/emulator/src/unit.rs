//! What the warps of a unit share. A unit is what runs on one thread: a cluster, or a block launched
//! without one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::clock::Clock;
use crate::counters::{Counters, GlobalSite, SharedSite};
use crate::family::state::{BlockState, UnitState};
use crate::family::table;
use crate::finding::{Finding, FindingKind};
use crate::memory::Buffer;
use crate::program::Program;
use crate::shared::Shared;

/// A barrier of a block (16 of them) or of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Barrier {
    /// How often it has completed.
    pub generation: u64,
    /// Threads that have arrived in this generation, 32 per warp.
    pub arrived: u32,
    /// Threads this generation waits for, as its first arrival said; not used with `everyone`.
    pub expected: u32,
    /// Whether `expected` was "all threads of the block".
    pub everyone: bool,
    /// What those that arrived have done.
    pub gathered: Clock,
    /// What those of the last completed generation had done.
    pub released: Clock,
    /// `barrier.red`: threads whose predicate was true and threads that voted, in this generation.
    pub votes: [u32; 2],
    /// The same of the last completed generation.
    pub counted: [u32; 2],
}

/// A block.
pub struct Block {
    /// `%ctaid`.
    pub ctaid: [u32; 3],
    /// `%ctaid` flattened, x fastest.
    pub linear: u64,
    /// Warps that have not exited. Barriers count warps, 32 threads each, as hardware does.
    pub warps: u32,
    /// Its shared memory.
    pub shared: Shared,
    /// Barriers 0 to 15.
    pub barriers: [Barrier; 16],
    /// What atomic, volatile, release and acquire accesses to an offset of shared memory have ordered.
    pub strong: HashMap<usize, Clock>,
    /// State of the asynchronous families.
    pub family: BlockState,
}

/// A cluster, or a block launched without one.
pub struct Unit {
    /// Its blocks, by `%cluster_ctarank`.
    pub blocks: Vec<Block>,
    /// Number of its warps.
    pub warps: usize,
    /// `barrier.cluster`.
    pub cluster_barrier: Barrier,
    /// Grows whenever something happens that a waiting warp may wait for.
    pub changes: u64,
    /// Counters of this unit so far.
    pub tally: Tally,
    /// Global memory of the launch, by address.
    pub buffers: Arc<[Arc<Buffer>]>,
    /// Index of the buffer the last access hit.
    pub last_buffer: usize,
    /// State of the asynchronous families.
    pub family: UnitState,
}

impl Unit {
    /// Tells waiting warps to look again. Call it after every change a wait may depend on.
    pub fn changed(&mut self) {
        self.changes += 1;
    }
}

/// Counters and findings of a unit while it runs.
#[derive(Default)]
pub struct Tally {
    /// Executed warp instructions per opcode (index into [`crate::family::table`]).
    pub opcodes: Vec<u64>,
    /// The totals; `families` and the sites are filled in at the end.
    pub totals: Counters,
    /// Per instruction of the program.
    pub shared_sites: Vec<SharedSite>,
    /// Per instruction of the program.
    pub global_sites: Vec<GlobalSite>,
    /// Index of the unit that runs now.
    pub unit: u64,
    /// First finding per kind and instruction, with the unit it happened in.
    pub findings: BTreeMap<(FindingKind, u32), (u64, Finding)>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn for_program(program: &Program) -> Self {
        Self {
            opcodes: vec![0; table().count()],
            shared_sites: vec![SharedSite::default(); program.code.len()],
            global_sites: vec![GlobalSite::default(); program.code.len()],
            ..Self::default()
        }
    }

    /// Adds what another worker has counted.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.opcodes.iter_mut().zip(&other.opcodes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.shared_sites.iter_mut().zip(&other.shared_sites) {
            mine.requests += theirs.requests;
            mine.ideal += theirs.ideal;
            mine.wavefronts += theirs.wavefronts;
        }
        for (mine, theirs) in self.global_sites.iter_mut().zip(&other.global_sites) {
            mine.requests += theirs.requests;
            mine.sectors += theirs.sectors;
            mine.bytes += theirs.bytes;
        }
        let (mine, theirs) = (&mut self.totals, &other.totals);
        mine.lane_instructions += theirs.lane_instructions;
        mine.mma += theirs.mma;
        mine.barriers += theirs.barriers;
        mine.divergent_branches += theirs.divergent_branches;
        mine.bytes.global_read += theirs.bytes.global_read;
        mine.bytes.global_written += theirs.bytes.global_written;
        mine.bytes.shared_read += theirs.bytes.shared_read;
        mine.bytes.shared_written += theirs.bytes.shared_written;
        mine.bytes.local += theirs.bytes.local;
        for (key, (unit, finding)) in other.findings {
            match self.findings.get_mut(&key) {
                None => {
                    self.findings.insert(key, (unit, finding));
                }
                Some((first, known)) => {
                    known.count += finding.count;
                    if unit < *first {
                        *first = unit;
                        known.place = finding.place;
                        known.message = finding.message;
                    }
                }
            }
        }
    }
}
