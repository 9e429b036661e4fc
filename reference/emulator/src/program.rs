//! An entry, decoded: every instruction an [`Action`], every branch with its reconvergence point.

use crate::machine::Action;
use crate::special::Special;
use crate::warp::{Pred, Reg};

/// No instruction, no source line.
pub const NONE: u32 = u32::MAX;

/// A decoded instruction.
pub struct Instruction {
    /// What it does.
    pub action: Action,
    /// Guard predicate, and whether it is negated.
    pub guard: Option<(Pred, bool)>,
    /// Index of its row in the opcode table.
    pub opcode: u16,
    /// Where lanes that part here meet again: an instruction index, or [`NONE`].
    pub meets: u32,
    /// Line of the PTX text.
    pub line: u32,
    /// Source file number and line, from `.loc`.
    pub source: Option<(u32, u32)>,
}

/// An entry.
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its instructions.
    pub code: Vec<Instruction>,
    /// Instruction index of every label id.
    pub labels: Vec<u32>,
    /// Number of register slots, constants and special registers included.
    pub registers: usize,
    /// Number of predicates.
    pub predicates: usize,
    /// Slots with a fixed value.
    pub constants: Vec<(Reg, u64)>,
    /// Predicates with a fixed value.
    pub constant_preds: Vec<(Pred, bool)>,
    /// Slots that hold special registers.
    pub specials: Vec<(Reg, Special)>,
    /// Local memory per thread.
    pub local_bytes: usize,
    /// Static shared memory, including the padding in front of the dynamic part.
    pub shared_bytes: usize,
    /// Offset and size of every parameter.
    pub params: Vec<(usize, usize)>,
    /// Smallest shared access, at most 4: the granule of race detection.
    pub granule: usize,
    /// `.maxntid` or `.reqntid`.
    pub max_threads: Option<[u32; 3]>,
    /// Whether it was `.reqntid`.
    pub exact_threads: bool,
    /// `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
    /// `.explicitcluster`.
    pub explicit_cluster: bool,
}
