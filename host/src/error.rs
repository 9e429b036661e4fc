//! What can go wrong. Every message names the value and what it had to be.

use layout::instance::Dtype;

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver, or a launch.
    #[error(transparent)]
    Cuda(#[from] cust::CudaError),

    /// A host-side matrix or packed weight.
    #[error(transparent)]
    Reference(#[from] reference::Error),

    /// The emulator: PTX it does not know, or a launch that ended early.
    #[error(transparent)]
    Emulator(#[from] ptx_emulator::Error),

    /// A kernel broke rules that the emulator watches over.
    #[error("{entry}: {}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Findings {
        /// The kernel.
        entry: String,
        /// What it did.
        findings: Vec<ptx_emulator::Finding>,
    },

    /// A vendor's library that is measured beside the kernels.
    #[error(transparent)]
    Peer(#[from] crate::peers::PeerError),

    /// An argument that no kernel takes.
    #[error("invalid argument: {what} is {value}, must be {limit}")]
    InvalidArgument {
        /// The argument.
        what: String,
        /// Its value.
        value: String,
        /// Completes "must be ...".
        limit: String,
    },

    /// Two operands that must not share memory do.
    #[error("{a} and {b} overlap in device memory")]
    Overlap {
        /// One operand.
        a: &'static str,
        /// The other.
        b: &'static str,
    },

    /// Operands live on different devices.
    #[error("{what} lives on another device than X")]
    OtherDevice {
        /// The operand.
        what: &'static str,
    },

    /// No kernel of this name.
    #[error("no kernel is called `{name}`; `bench --list` names them all")]
    UnknownKernel {
        /// The name asked for.
        name: String,
    },

    /// The device cannot run any kernel of a kind.
    #[error("no {op} {dtype:?} kernel runs on {device}: {reason}")]
    NoKernel {
        /// `dense` or `sparse`.
        op: &'static str,
        /// Element type.
        dtype: Dtype,
        /// Name of the device.
        device: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// Whether this machine has no GPU, or no driver for one: as opposed to one that fails.
    pub fn is_no_gpu(&self) -> bool {
        matches!(self, Self::Cuda(cust::CudaError::NoDriver | cust::CudaError::NoDevice))
    }
}

/// Shorthand for [`Error::InvalidArgument`].
pub(crate) fn invalid(
    what: impl Into<String>,
    value: impl ToString,
    limit: impl Into<String>,
) -> Error {
    Error::InvalidArgument { what: what.into(), value: value.to_string(), limit: limit.into() }
}
