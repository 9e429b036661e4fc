//! Compiles the kernels in gpu/ to PTX: into OUT_DIR for the library, into target/ptx for tools.

use cuda_builder::CudaBuilder;
use std::error::Error;
use std::path::Path;

const ARCHES: [&str; 2] = ["sm_80", "sm_90a"];

fn main() -> Result<(), Box<dyn Error>> {
    let repository = &Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out_dir = &std::env::var("OUT_DIR")?;
    let gpu = &repository.join("gpu");
    CudaBuilder::new(gpu).print_rerun_lines()?;

    let builders = ARCHES.map(|arch| {
        CudaBuilder::new(gpu)
            .arch(arch)
            .ptx_version(85)
            .deny_warnings(true)
            .copy_to(repository.join(format!("target/ptx/{arch}.ptx")))
            .copy_to(Path::new(out_dir).join(format!("{arch}.ptx")))
    });
    let built = cuda_builder::build_all(builders).unwrap_or_else(|error| {
        // The message is made to be read; `Debug`, which returning it would print, is not.
        eprintln!("{error}");
        std::process::exit(1);
    });
    println!("cargo:rustc-env=PTX_BLAKE3={}", cuda_builder::hash(&built));
    for ptx in built {
        println!("cargo:rustc-env=DEVICE_RUSTC={}", ptx.rustc);
    }
    Ok(())
}
