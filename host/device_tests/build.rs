//! Compiles gpu/test_kernels to PTX, and embeds that and the recorded outputs.

use cuda_builder::CudaBuilder;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

const ARCHES: [&str; 2] = ["sm_80", "sm_90a"];
/// What the kernels are compiled from, besides their own crate.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "cuda_std", "cuda_std_macros", "layout"];

fn main() -> Result<(), Box<dyn Error>> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = crate_dir.join("../..");
    let out_dir = std::env::var("OUT_DIR")?;
    let out_dir = Path::new(&out_dir);
    let gpu = repository.join("gpu");
    let builder =
        SOURCES.iter().fold(CudaBuilder::new(gpu.join("test_kernels")), |builder, name| {
            builder.source(gpu.join(name))
        });
    builder.print_rerun_lines()?;

    let builders = ARCHES.map(|arch| {
        builder
            .clone()
            .arch(arch)
            .ptx_version(85)
            .line_tables(true)
            .deny_warnings(true)
            .copy_to(repository.join(format!("target/ptx/test_kernels_{arch}.ptx")))
            .copy_to(out_dir.join(format!("{arch}.ptx")))
    });
    if let Err(error) = cuda_builder::build_all(builders) {
        // The message is made to be read; `Debug`, which returning it would print, is not.
        eprintln!("{error}");
        std::process::exit(1);
    }
    embed_goldens(crate_dir, out_dir)
}

/// Writes the table of the recorded outputs that there are: names and contents.
fn embed_goldens(crate_dir: &Path, out_dir: &Path) -> Result<(), Box<dyn Error>> {
    let goldens = crate_dir.join("goldens");
    println!("cargo:rerun-if-changed={}", goldens.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(goldens)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        names.extend(name.strip_suffix(".bin").map(str::to_owned));
    }
    names.sort();
    let mut table = String::from("&[\n");
    for name in names {
        let path = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/goldens/{name}.bin\")");
        writeln!(table, "    (\"{name}\", include_bytes!({path})),")?;
    }
    table.push_str("]\n");
    Ok(std::fs::write(out_dir.join("goldens.rs"), table)?)
}
