//! What can go wrong in a build.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::bounds::BoundsError;
use crate::lint::Finding;
use crate::toolchain::DEVICE_RUSTC_VAR;

/// Why a build failed. The message is meant to be read by the person who builds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The architecture is none of [`ARCHES`](crate::ARCHES).
    #[error("unknown architecture `{arch}`; known are {}", crate::ARCHES.join(", "))]
    UnknownArch {
        /// The architecture asked for.
        arch: String,
    },

    /// No rustc at hand can compile for the GPU.
    #[error("{}", no_toolchain(.tried))]
    NoToolchain {
        /// Every rustc that was tried, and why it will not do.
        tried: Vec<Rejected>,
    },

    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "write".
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// The compiler ran and failed.
    #[error("compiling {what} failed:\n{stderr}")]
    Compile {
        /// What was being compiled.
        what: String,
        /// What the compiler said.
        stderr: String,
    },

    /// cargo succeeded but left no PTX: the crate is not a `cdylib`.
    #[error("compiling {} left no PTX; its crate type must be `cdylib` alone", crate_dir.display())]
    NoPtx {
        /// The kernel crate.
        crate_dir: PathBuf,
    },

    /// The sources were edited during each of several attempts to compile them.
    #[error("the sources in {} changed while they were compiled; build again", crate_dir.display())]
    SourcesChanged {
        /// The kernel crate.
        crate_dir: PathBuf,
    },

    /// A launch-bounds mark is wrong.
    #[error(transparent)]
    Bounds(#[from] BoundsError),

    /// The PTX breaks rules; see [`Problem`](crate::Problem).
    #[error("{}", lint_message(path, findings))]
    Lint {
        /// The PTX in question. It is kept for inspection and is never used.
        path: PathBuf,
        /// Every breach, in the order of the text.
        findings: Vec<Finding>,
    },
}

impl BuildError {
    /// Turns an I/O error into [`BuildError::Io`], for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A rustc that cannot compile for the GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The program and how it was found.
    pub rustc: String,
    /// Why it will not do.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.rustc, self.reason)
    }
}

fn no_toolchain(tried: &[Rejected]) -> String {
    let tried: String = tried.iter().map(|one| format!("  - {one}\n")).collect();
    format!(
        "no rustc found that can compile GPU kernels. Tried:\n{tried}\
         Any one of these provides it:\n\
         \x20 - rustup component add rust-src\n\
         \x20 - apt-get install rustc-web rust-web-src   (Debian, Ubuntu)\n\
         \x20 - {DEVICE_RUSTC_VAR}=/path/to/rustc, for a rustc of 1.95 or newer with its library source"
    )
}

fn lint_message(path: &Path, findings: &[Finding]) -> String {
    let lines: String =
        findings.iter().map(|finding| format!("\n  {}:{finding}", path.display())).collect();
    format!("the PTX breaks {} rule(s):{lines}", findings.len())
}
