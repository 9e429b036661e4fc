//! Runs cargo on the kernel crate for one architecture, and keeps the PTX.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::BuildError;
use crate::toolchain::{self, TARGET, Toolchain};
use crate::{ARCHES, align, bounds, inputs, lint};

/// Unrolls every loop over an array of accumulators. Where one is left, the array is indexed at run
/// time and so goes to local memory.
const UNROLL: &str = "-Cllvm-args=-unroll-threshold=20000";

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\x1f";

/// Builds to try when the sources change under the compiler.
const ATTEMPTS: usize = 3;

/// A crate to be compiled for one architecture.
pub struct Target<'a> {
    pub toolchain: &'a Toolchain,
    pub sysroot: &'a Path,
    pub arch: &'a str,
    pub flags: Vec<String>,
    pub line_tables: bool,
    pub deny_warnings: bool,
    pub crate_dir: &'a Path,
    /// This architecture's own directory: cargo's target directory and the finished PTX.
    pub work_dir: PathBuf,
}

impl Target<'_> {
    /// The finished PTX and where it lies, from the cache if these inputs were compiled before.
    pub fn ptx(&self, more_sources: &[PathBuf]) -> Result<(PathBuf, String), BuildError> {
        let rustflags = self.rustflags();
        let profile = self.profile();
        let settings = || {
            let profile = profile.iter().flat_map(|&(name, value)| [name, value]);
            let own = [env!("CARGO_PKG_VERSION"), self.toolchain.identity()];
            own.into_iter().chain([&*rustflags]).chain(profile)
        };
        let key = || inputs::key(self.crate_dir, more_sources, settings());

        let mut before = key()?;
        for _ in 0..ATTEMPTS {
            let path = self.work_dir.join(format!("{before}.ptx"));
            if let Ok(text) = std::fs::read_to_string(&path) {
                return Ok((path, text));
            }
            let text = self.run_cargo(&rustflags, &profile)?;
            // cargo may also have written Cargo.lock, which is an input of the next build.
            let after = key()?;
            if after == before {
                let text = self.finish(&text)?;
                write_if_changed(&path, &text)?;
                return Ok((path, text));
            }
            before = after;
        }
        Err(BuildError::SourcesChanged { crate_dir: self.crate_dir.to_owned() })
    }

    fn run_cargo(&self, rustflags: &str, profile: &[(&str, &str)]) -> Result<String, BuildError> {
        std::fs::create_dir_all(&self.work_dir).map_err(BuildError::io("make", &self.work_dir))?;
        let scratch =
            TempDir::new_in(&self.work_dir).map_err(BuildError::io("write in", &self.work_dir))?;
        // A new path each time: cargo would leave out a compilation that it knows, and the file
        // with it.
        let asm = scratch.path().join("kernels.s");

        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = toolchain::clean_command(cargo);
        command
            .current_dir(self.crate_dir)
            .args(["rustc", "--quiet", "--lib", "--release", "--target", TARGET])
            .arg("--target-dir")
            .arg(self.work_dir.join("target"))
            .env("RUSTC", &self.toolchain.rustc)
            // Empty is "none": a wrapper in the user's configuration must not come back.
            .envs([("RUSTC_WRAPPER", ""), ("RUSTC_WORKSPACE_WRAPPER", "")])
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
            // The PTX is complete before linking, so the linker has nothing to do.
            .env("CARGO_TARGET_NVPTX64_NVIDIA_CUDA_LINKER", "true")
            .envs(profile.iter().copied());
        if self.crate_dir.join("Cargo.lock").is_file() {
            command.arg("--locked");
        }
        let mut emit = std::ffi::OsString::from("--emit=asm=");
        emit.push(&asm);
        command.arg("--").arg(emit);

        let what = format!("{} for {}", self.crate_dir.display(), self.arch);
        toolchain::compile(&mut command, what)?;
        std::fs::read_to_string(&asm)
            .map_err(|_| BuildError::NoPtx { crate_dir: self.crate_dir.to_owned() })
    }

    fn finish(&self, text: &str) -> Result<String, BuildError> {
        let text = align::apply(&bounds::apply(text)?);
        let findings = lint::check(&text);
        if findings.is_empty() {
            return Ok(text);
        }
        let path = self.work_dir.join("refused.ptx");
        write_if_changed(&path, &text)?;
        Err(BuildError::Lint { path, findings })
    }

    fn rustflags(&self) -> String {
        let mut flags = self.flags.clone();
        flags.push(UNROLL.to_owned());
        flags.push(format!("--sysroot={}", self.sysroot.display()));
        flags.push(format!("--cfg={}", self.arch));
        flags.push(format!("--check-cfg=cfg({})", ARCHES.join(", ")));
        if self.deny_warnings {
            flags.push("-Dwarnings".to_owned());
        }
        flags.join(FLAG_SEPARATOR)
    }

    /// The profile, as variables, which win over the crate's manifest and the user's configuration.
    fn profile(&self) -> [(&'static str, &'static str); 4] {
        // Anything above line directives marks the PTX as debug code, which is not optimised.
        let debug = if self.line_tables { "line-directives-only" } else { "none" };
        [
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
            ("CARGO_PROFILE_RELEASE_LTO", "fat"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
            ("CARGO_PROFILE_RELEASE_DEBUG", debug),
        ]
    }
}

/// Writes a file in one step, unless it has this content already. Makes its directory.
pub fn write_if_changed(path: &Path, text: &str) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let write = || {
        std::fs::create_dir_all(directory)?;
        let scratch = TempDir::new_in(directory)?;
        let fresh = scratch.path().join("fresh");
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(BuildError::io("write", path))
}
