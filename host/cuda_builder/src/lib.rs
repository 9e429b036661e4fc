//! Compiles a crate of device kernels to PTX, from a build script.
//!
//! rustc's own `nvptx64-nvidia-cuda` target does the work: no CUDA toolkit and no LLVM tools are
//! needed, only a rustc that has the source of `core` beside it. A build goes through these steps,
//! one module each:
//!
//! | module      | step                                                                    |
//! |-------------|-------------------------------------------------------------------------|
//! | `toolchain` | find the rustc, and run it and cargo free of the outer cargo's variables |
//! | `sysroot`   | build `core` for one architecture, prove it on a tiny kernel, cache it  |
//! | `inputs`    | hash what a build depends on, so that equal inputs are compiled once    |
//! | `compile`   | run cargo on the kernel crate and take the PTX                          |
//! | `ptx`       | find the functions in PTX text                                          |
//! | `bounds`    | turn the marks of `#[kernel(launch_bounds(..))]` into PTX directives    |
//! | `align`     | align parameters whose address a kernel takes, for tensor maps          |
//! | `lint`      | refuse local memory, generic addresses and unresolved calls             |
//! | `error`     | what can go wrong                                                       |
//!
//! In a build script:
//!
//! ```no_run
//! # fn main() -> Result<(), cuda_builder::BuildError> {
//! let builder = cuda_builder::CudaBuilder::new("../gpu").arch("sm_80");
//! builder.print_rerun_lines()?;
//! let ptx = builder.copy_to("../target/ptx/sm_80.ptx").build()?;
//! println!("cargo:rustc-env=SM_80_PTX={}", ptx.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! Several builds may run at once, in threads or in processes, and may share a cache.

mod align;
mod bounds;
mod compile;
mod error;
mod inputs;
mod lint;
mod ptx;
mod sysroot;
mod toolchain;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

pub use bounds::BoundsError;
pub use error::{BuildError, Rejected};
pub use lint::{Finding, Problem};
pub use toolchain::DEVICE_RUSTC_VAR;

use compile::Target;

/// The architectures a kernel crate can be compiled for. Each is also a `cfg` in that crate.
pub const ARCHES: &[&str] = &[
    "sm_70", "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100a",
    "sm_120", "sm_120a",
];

/// The PTX version emitted unless [`CudaBuilder::ptx_version`] says otherwise.
const DEFAULT_PTX_VERSION: u32 = 86;

/// A build of one kernel crate for one architecture.
#[derive(Debug, Clone)]
pub struct CudaBuilder {
    crate_dir: PathBuf,
    arch: String,
    ptx_version: u32,
    line_tables: bool,
    deny_warnings: bool,
    more_sources: Vec<PathBuf>,
    copies: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
}

/// The result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ptx {
    /// Where the PTX lies in the cache.
    pub path: PathBuf,
    /// The PTX itself.
    pub text: String,
    /// The architecture it was compiled for.
    pub arch: String,
    /// The first line of `rustc --version` of the compiler that made it.
    pub rustc: String,
    /// BLAKE3 hash of the text, in hexadecimal.
    pub blake3: String,
}

impl CudaBuilder {
    /// A build of the `cdylib` crate in `crate_dir`, for `sm_80` until [`arch`](Self::arch) is set.
    pub fn new(crate_dir: impl Into<PathBuf>) -> Self {
        Self {
            crate_dir: crate_dir.into(),
            arch: "sm_80".to_owned(),
            ptx_version: DEFAULT_PTX_VERSION,
            line_tables: false,
            deny_warnings: false,
            more_sources: Vec::new(),
            copies: Vec::new(),
            cache_dir: None,
        }
    }

    /// Sets the architecture, one of [`ARCHES`]. The crate sees it as `cfg(sm_80)` and so on.
    #[must_use]
    pub fn arch(mut self, arch: impl Into<String>) -> Self {
        self.arch = arch.into();
        self
    }

    /// Sets the PTX version as ten times its number: 86 is PTX 8.6, the default.
    ///
    /// A driver refuses PTX newer than itself, so a lower version runs on older drivers: 8.5 needs
    /// driver 555, 8.6 needs driver 565.
    #[must_use]
    pub fn ptx_version(mut self, version: u32) -> Self {
        self.ptx_version = version;
        self
    }

    /// Adds `.loc` directives, so that a profiler can show the Rust source. The code is the same.
    #[must_use]
    pub fn line_tables(mut self, on: bool) -> Self {
        self.line_tables = on;
        self
    }

    /// Makes the compiler's warnings about the kernel crate errors. Without this they are not seen.
    #[must_use]
    pub fn deny_warnings(mut self, on: bool) -> Self {
        self.deny_warnings = on;
        self
    }

    /// Names a file or directory outside the crate's own that the crate is compiled from.
    #[must_use]
    pub fn source(mut self, path: impl Into<PathBuf>) -> Self {
        self.more_sources.push(path.into());
        self
    }

    /// Also writes the PTX to `path`, making its directory. May be called more than once. A file
    /// that already has this content is left untouched.
    #[must_use]
    pub fn copy_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.copies.push(path.into());
        self
    }

    /// Sets the directory for all that is kept between builds.
    ///
    /// Without this it is `cuda_builder` in the target directory that the build script's `OUT_DIR`
    /// lies in, or in the crate's own target directory where there is no `OUT_DIR`.
    #[must_use]
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(path.into());
        self
    }

    /// Prints the `cargo:rerun-if-` lines for everything the build depends on.
    ///
    /// # Errors
    ///
    /// If the crate's directory cannot be read.
    pub fn print_rerun_lines(&self) -> Result<(), BuildError> {
        println!("cargo:rerun-if-env-changed={DEVICE_RUSTC_VAR}");
        for path in inputs::top_level(&self.crate_dir, &self.more_sources)? {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        Ok(())
    }

    /// Compiles the crate, or takes the PTX from the cache if nothing it depends on has changed.
    ///
    /// # Errors
    ///
    /// If no usable rustc is found, if the crate does not compile, or if its PTX breaks a rule of
    /// [`Problem`]. The message says what to do.
    pub fn build(self) -> Result<Ptx, BuildError> {
        if !ARCHES.contains(&self.arch.as_str()) {
            return Err(BuildError::UnknownArch { arch: self.arch });
        }
        let crate_dir =
            self.crate_dir.canonicalize().map_err(BuildError::io("find", &self.crate_dir))?;
        let cache = self.cache_dir.unwrap_or_else(|| default_cache(&crate_dir));

        let flags = toolchain::target_flags(&self.arch, self.ptx_version);
        let (toolchain, sysroot) = sysroot::find(&self.arch, &flags, &cache)?;
        let target = Target {
            toolchain: &toolchain,
            sysroot: &sysroot,
            arch: &self.arch,
            flags,
            line_tables: self.line_tables,
            deny_warnings: self.deny_warnings,
            crate_dir: &crate_dir,
            work_dir: cache.join(&self.arch),
        };
        let (path, text) = target.ptx(&self.more_sources)?;

        for copy in &self.copies {
            compile::write_if_changed(copy, &text)?;
        }
        Ok(Ptx {
            path,
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
            text,
            arch: self.arch,
            rustc: toolchain.name().to_owned(),
        })
    }
}

/// Carries out several builds side by side, for example one per architecture, and gives what they made
/// in the order of the builders.
///
/// # Errors
///
/// That of the first builder that fails, as [`CudaBuilder::build`].
pub fn build_all(builders: impl IntoIterator<Item = CudaBuilder>) -> Result<Vec<Ptx>, BuildError> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            builders.into_iter().map(|builder| scope.spawn(|| builder.build())).collect();
        let finished = threads.into_iter().map(|thread| thread.join());
        finished.map(|built| built.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// BLAKE3 hash of several modules, in hexadecimal.
pub fn hash(modules: &[Ptx]) -> String {
    let mut hasher = blake3::Hasher::new();
    for module in modules {
        hasher.update(module.blake3.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// `<target directory>/cuda_builder`, found from cargo's `OUT_DIR`, which is
/// `<target directory>/<profile>/build/<package>/out`.
fn default_cache(crate_dir: &Path) -> PathBuf {
    let out_dir = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let target_dir = out_dir.as_deref().and_then(|out| {
        out.ancestors()
            .find(|dir| dir.file_name().is_some_and(|name| name == "build"))
            .and_then(|build| build.parent()?.parent())
    });
    match (target_dir, &out_dir) {
        (Some(dir), _) => dir.join("cuda_builder"),
        (None, Some(out)) => out.join("cuda_builder"),
        (None, None) => crate_dir.join("target/cuda_builder"),
    }
}
