//! Finds compilers that may be able to compile for the GPU, and runs programs without the
//! variables that the outer cargo sets for a build script.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::UNIX_EPOCH;

use crate::error::BuildError;

/// The environment variable that names the rustc for device code. When set, no other is tried.
pub const DEVICE_RUSTC_VAR: &str = "SPARSEFLOW_DEVICE_RUSTC";

/// rustc's name for the GPU.
pub const TARGET: &str = "nvptx64-nvidia-cuda";

/// Where distributions put their rustc, which may have the library source that rustup's lacks.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// What cargo and rustc read from the environment that would change the inner build. Variables that
/// say where registries and proxies are stay: the inner cargo needs them as much as the outer one.
const CLEARED: &[&str] = &[
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "MAKEFLAGS",
    "MFLAGS",
    "__CARGO_DEFAULT_LIB_METADATA",
];
const KEPT_PREFIXES: &[&str] = &[
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
];

/// A rustc that might do, not yet looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The program, or a name on the search path.
    pub program: PathBuf,
    /// How it was found, for messages.
    pub origin: &'static str,
}

/// A rustc that has the source of `core`.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler itself, not a proxy of rustup.
    pub rustc: PathBuf,
    /// The directory with the sources of `core` and `compiler_builtins`.
    pub library: PathBuf,
    version: String,
    identity: String,
}

/// The compilers to try, best first.
pub fn candidates() -> Vec<Candidate> {
    if let Some(program) = std::env::var_os(DEVICE_RUSTC_VAR).filter(|value| !value.is_empty()) {
        return vec![Candidate { program: program.into(), origin: DEVICE_RUSTC_VAR }];
    }
    let active = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    vec![
        Candidate { program: active.into(), origin: "active toolchain" },
        Candidate { program: SYSTEM_RUSTC.into(), origin: "system" },
    ]
}

/// The flags that everything compiled for `arch` must share, `core` included.
pub fn target_flags(arch: &str, ptx_version: u32) -> Vec<String> {
    [
        format!("-Ctarget-cpu={arch}"),
        format!("-Ctarget-feature=+ptx{ptx_version}"),
        // A panic is a trap: no message is formatted, so none of that code reaches the PTX.
        "-Zunstable-options".to_owned(),
        "-Cpanic=immediate-abort".to_owned(),
    ]
    .into()
}

impl Toolchain {
    /// Looks at a candidate. The error is the reason to reject it.
    pub fn inspect(candidate: &Candidate) -> Result<Self, String> {
        let sysroot = PathBuf::from(ask(&candidate.program, &["--print", "sysroot"])?);
        let library = sysroot.join("lib/rustlib/src/rust/library");
        if !library.join("core/src/lib.rs").is_file() {
            return Err(format!("has no library source (no {})", library.join("core").display()));
        }
        // A proxy may choose another toolchain in another directory; the sysroot's own does not.
        let own = sysroot.join("bin/rustc");
        let rustc = if own.is_file() { own } else { candidate.program.clone() };
        let version = ask(&rustc, &["--version", "--verbose"])?;
        let stamps = stamp(&rustc) + &stamp(&library.join("core/src/lib.rs"));
        Ok(Self {
            identity: format!("{}\n{version}\n{stamps}", rustc.display()),
            rustc,
            library,
            version,
        })
    }

    /// The first line of `rustc --version`.
    pub fn name(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// Changes whenever the compiler or its library may have changed, version number or not.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// A command that runs this rustc.
    pub fn command(&self) -> Command {
        clean_command(&self.rustc)
    }
}

/// A command with a clean environment in which unstable features are allowed.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_cleared(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.env("RUSTC_BOOTSTRAP", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Result<Output, BuildError> {
    command
        .output()
        .map_err(|source| BuildError::Spawn { program: command.get_program().into(), source })
}

/// Runs a compiler to its end; failing that, the error carries what it said about `what`.
pub fn compile(command: &mut Command, what: impl Into<String>) -> Result<(), BuildError> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(());
    }
    Err(BuildError::Compile {
        what: what.into(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn is_cleared(name: &str) -> bool {
    let kept = KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    CLEARED.contains(&name) || (name == "CARGO" || name.starts_with("CARGO_")) && !kept
}

fn ask(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = clean_command(program);
    let output = output(command.args(arguments)).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !text.is_empty() {
        return Ok(text);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` failed: {}", arguments.join(" "), stderr.trim()))
}

/// Size and time of change of a file, or nothing where they cannot be had.
fn stamp(path: &Path) -> String {
    let Ok(metadata) = path.metadata() else {
        return String::new();
    };
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{} {changed:?}\n", metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargo_is_cleared_but_not_the_network() {
        for name in ["CARGO", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
            assert!(is_cleared(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "CARGO_HTTP_PROXY", "RUSTUP_TOOLCHAIN"] {
            assert!(!is_cleared(name), "{name}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_rejected_with_its_name() {
        let reason =
            Toolchain::inspect(&Candidate { program: "/nonexistent/rustc".into(), origin: "test" })
                .unwrap_err();
        assert!(reason.contains("/nonexistent/rustc"), "{reason}");
    }
}
