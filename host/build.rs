//! Compiles the kernels in gpu/ to PTX: into OUT_DIR for the library, into target/ptx for tools.

use cuda_builder::{BuildError, CudaBuilder, Ptx};
use std::error::Error;
use std::path::Path;
use std::thread;

const ARCHES: [&str; 2] = ["sm_80", "sm_90a"];

fn main() -> Result<(), Box<dyn Error>> {
    let repository = &Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out_dir = &std::env::var("OUT_DIR")?;
    let gpu = &repository.join("gpu");
    CudaBuilder::new(gpu).print_rerun_lines()?;

    let compile = |arch: &'static str| {
        CudaBuilder::new(gpu)
            .arch(arch)
            .ptx_version(85)
            .deny_warnings(true)
            .copy_to(repository.join(format!("target/ptx/{arch}.ptx")))
            .copy_to(Path::new(out_dir).join(format!("{arch}.ptx")))
            .build()
    };
    let built: Vec<Result<Ptx, BuildError>> = thread::scope(|scope| {
        let threads = ARCHES.map(|arch| scope.spawn(move || compile(arch)));
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    for ptx in built {
        let ptx = match ptx {
            Ok(ptx) => ptx,
            // The message is made to be read; `Debug`, which returning it would print, is not.
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        };
        println!("cargo:rustc-env={}_PTX_BLAKE3={}", ptx.arch.to_uppercase(), ptx.blake3);
        println!("cargo:rustc-env=DEVICE_RUSTC={}", ptx.rustc);
    }
    Ok(())
}
