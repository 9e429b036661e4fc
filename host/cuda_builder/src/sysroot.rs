//! Builds `core` and `compiler_builtins` for one architecture into a sysroot of their own.
//!
//! A sysroot takes some twenty seconds and is kept. It gets its final name only after a tiny kernel
//! was compiled with it, so the directory's existence proves that its rustc is fit for the GPU.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::error::{BuildError, Rejected};
use crate::toolchain::{self, Candidate, TARGET, Toolchain};

/// Uses what kernels use: the calling convention, inline assembly, assembly with constants.
const PROBE: &str = r#"
#![no_std]
#![feature(abi_ptx, asm_experimental_arch)]
core::arch::global_asm!("// probe {}", const 2 + 2);
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn probe(out: *mut u32) {
    let thread: u32;
    unsafe {
        core::arch::asm!("mov.u32 {}, %tid.x;", out(reg32) thread, options(pure, nomem, nostack));
        *out.add(thread as usize) = thread;
    }
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
"#;

/// What must be in the probe's PTX.
const PROVEN: &[&str] = &[".visible .entry probe(", "mov.u32", "// probe 4"];

/// Finds the first rustc that passes, and its sysroot for `arch`, which is built if need be.
pub fn find(
    arch: &str,
    flags: &[String],
    cache: &Path,
) -> Result<(Toolchain, PathBuf), BuildError> {
    let mut tried = Vec::new();
    for candidate in toolchain::candidates() {
        match ensure(&candidate, arch, flags, cache)? {
            Ok(found) => return Ok(found),
            Err(reason) => tried.push(Rejected {
                rustc: format!("{} ({})", candidate.program.display(), candidate.origin),
                reason,
            }),
        }
    }
    Err(BuildError::NoToolchain { tried })
}

/// The inner error is the reason to reject this candidate; the outer one ends the search.
fn ensure(
    candidate: &Candidate,
    arch: &str,
    flags: &[String],
    cache: &Path,
) -> Result<Result<(Toolchain, PathBuf), String>, BuildError> {
    let toolchain = match Toolchain::inspect(candidate) {
        Ok(toolchain) => toolchain,
        Err(reason) => return Ok(Err(reason)),
    };
    let key = blake3::hash(format!("{}\n{flags:?}\n{PROBE}", toolchain.identity()).as_bytes());
    let sysroot = cache.join(format!("sysroot-{arch}-{}", &key.to_hex()[..16]));
    if sysroot.is_dir() {
        return Ok(Ok((toolchain, sysroot)));
    }

    std::fs::create_dir_all(cache).map_err(BuildError::io("make", cache))?;
    let scratch = TempDir::new_in(cache).map_err(BuildError::io("write in", cache))?;
    let fresh = scratch.path().join("sysroot");
    match build(&toolchain, flags, &fresh).and_then(|()| prove(&toolchain, flags, &fresh)) {
        Ok(()) => {}
        Err(BuildError::Compile { what, stderr }) => {
            return Ok(Err(format!("cannot compile {what}: {}", stderr.trim_end())));
        }
        Err(other) => return Err(other),
    }
    // Renaming fails when another build was faster; its sysroot is as good as this one.
    let renamed = std::fs::rename(&fresh, &sysroot);
    if !sysroot.is_dir() {
        renamed.map_err(BuildError::io("make", &sysroot))?;
    }
    Ok(Ok((toolchain, sysroot)))
}

fn build(toolchain: &Toolchain, flags: &[String], sysroot: &Path) -> Result<(), BuildError> {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    std::fs::create_dir_all(&libraries).map_err(BuildError::io("make", &libraries))?;

    let library = |name: &str, source: &str| {
        let mut command = rustc(toolchain, flags, sysroot);
        command
            .args(["--crate-type=rlib", "--crate-name", name])
            // Marks everything in it unstable, as the compiler expects of its own libraries.
            .args(["-Zforce-unstable-if-unmarked", "--cap-lints=allow"])
            .arg("--out-dir")
            .arg(&libraries)
            .arg(toolchain.library.join(source));
        command
    };
    toolchain::compile(&mut library("core", "core/src/lib.rs"), "core")?;
    let builtins = "compiler-builtins/compiler-builtins/src/lib.rs";
    toolchain::compile(
        library("compiler_builtins", builtins)
            .args(["--cfg", "feature=\"compiler-builtins\""])
            .args(["--cfg", "intrinsics_enabled"]),
        "compiler_builtins",
    )
}

fn prove(toolchain: &Toolchain, flags: &[String], sysroot: &Path) -> Result<(), BuildError> {
    let [source, result] = ["probe.rs", "probe.ptx"].map(|name| sysroot.join(name));
    std::fs::write(&source, PROBE).map_err(BuildError::io("write", &source))?;
    let mut command = rustc(toolchain, flags, sysroot);
    command.args(["--crate-type=cdylib", "-Clto=fat", "--emit=asm", "-o"]).args([&result, &source]);
    toolchain::compile(&mut command, "a tiny kernel")?;

    let text = std::fs::read_to_string(&result).map_err(BuildError::io("read", &result))?;
    match PROVEN.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(BuildError::Compile {
            what: "a tiny kernel".to_owned(),
            stderr: format!("`{part}` is missing from its PTX"),
        }),
    }
}

fn rustc(toolchain: &Toolchain, flags: &[String], sysroot: &Path) -> Command {
    let mut command = toolchain.command();
    command
        .args(["--edition=2024", "--target", TARGET])
        .args(["-Copt-level=3", "-Ccodegen-units=1", "--sysroot"])
        .arg(sysroot)
        .args(flags);
    command
}
