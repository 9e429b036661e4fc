//! What the emulator noticed: typed, counted, never printed.

use std::fmt;

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// An access that is not wholly inside one buffer, the block's shared memory, or a variable.
    OutOfBounds,
    /// An address that is not a multiple of what the access needs.
    Misaligned,
    /// A store to memory that may only be read.
    ReadOnly,
    /// Two warps touch the same shared bytes, at least one writes, and nothing orders them.
    Race,
    /// A value that nothing initialised reached global memory, an address or a branch.
    Poison,
    /// A `.sync.aligned` instruction reached by part of a warp, or a member mask not honoured.
    Divergence,
    /// Barrier used with differing counts, or left half full.
    Barrier,
    /// A register or operand changed while an asynchronous instruction still uses it.
    InFlight,
    /// A generic-proxy write read by the async proxy (or the other way round) without a fence.
    Proxy,
    /// An operand outside what the instruction allows (metadata, descriptor, shift, lane).
    Illegal,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfBounds => "out of bounds",
            Self::Misaligned => "misaligned",
            Self::ReadOnly => "write to read-only memory",
            Self::Race => "shared-memory race",
            Self::Poison => "uninitialised value used",
            Self::Divergence => "divergent warp",
            Self::Barrier => "barrier misuse",
            Self::InFlight => "operand changed in flight",
            Self::Proxy => "missing proxy fence",
            Self::Illegal => "illegal operand",
        })
    }
}

/// Where in the launch something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Entry name.
    pub entry: String,
    /// `%ctaid`.
    pub block: [u32; 3],
    /// Warp of the block.
    pub warp: u32,
    /// Lane of the warp, where one lane is to blame.
    pub lane: Option<u32>,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Source file and line, where the kernel was built with line tables.
    pub source: Option<(String, u32)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(f, "{} block ({x},{y},{z}) warp {}", self.entry, self.warp)?;
        if let Some(lane) = self.lane {
            write!(f, " lane {lane}")?;
        }
        write!(f, " PTX line {}", self.line)?;
        if let Some((file, line)) = &self.source {
            write!(f, " ({file}:{line})")?;
        }
        Ok(())
    }
}

/// One broken rule at one instruction; repetitions at the same instruction are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub kind: FindingKind,
    /// The first occurrence, in block order.
    pub place: Place,
    /// How often it happened at this PTX line.
    pub count: u64,
    /// What happened, in words, for the first occurrence.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {} ({} times)", self.kind, self.message, self.place, self.count)
    }
}
