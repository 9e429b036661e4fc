//! Everything that can stop parsing or a launch.

use crate::finding::Place;
use crate::launch::Report;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not PTX as this crate knows it.
    #[error("PTX line {line}: {message}: `{text}`")]
    Parse {
        /// Line of the text, from 1.
        line: u32,
        /// What is wrong.
        message: String,
        /// The instruction or the text near it.
        text: String,
    },
    /// No such entry in the module.
    #[error("no entry `{0}` in the module")]
    UnknownEntry(String),
    /// The launch does not fit the entry or the machine.
    #[error("launch: {0}")]
    Launch(String),
    /// A host access outside every buffer.
    #[error("{len} bytes at {address:#x} are not inside one buffer")]
    Address {
        /// First byte.
        address: u64,
        /// Bytes asked for.
        len: usize,
    },
    /// The launch ended early; the report holds what was found until then.
    #[error("{cause}")]
    Stopped {
        /// Why.
        cause: Stop,
        /// Counters and findings so far.
        report: Box<Report>,
    },
}

/// Why a launch ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// All warps of a block or cluster wait for something that cannot come.
    #[error("deadlock: {}", .0.iter().map(|s| s.to_string()).collect::<Vec<_>>().join("; "))]
    Deadlock(Vec<Standing>),
    /// The launch executed more instructions than its limit.
    #[error("instruction limit reached at {0}")]
    InstructionLimit(Box<Place>),
    /// `trap` was executed.
    #[error("trap at {0}")]
    Trap(Box<Place>),
    /// The first finding, as the launch asked to stop there.
    #[error("stopped at the first finding: {0}")]
    FirstFinding(Box<crate::finding::Finding>),
    /// The instruction cannot be carried out by this emulator in this state.
    #[error("{message} at {place}")]
    Unsupported {
        /// Where.
        place: Box<Place>,
        /// What.
        message: String,
    },
}

/// Where a warp stands in a deadlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its place.
    pub place: Place,
    /// The lanes that stand there.
    pub lanes: u32,
    /// What they wait for.
    pub waits_for: &'static str,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (lanes {:#010x}) waits for {}", self.place, self.lanes, self.waits_for)
    }
}
