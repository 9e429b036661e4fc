//! What only the emulator tells: the counters of a launch, and the rules that a kernel broke.

use anyhow::{Context, Error, Result};
use ptx_emulator::{Counters, Stop};
use sparseflow::{Device, EmulatedDevice};
use std::time::Instant;

/// Name of the backend on the command line and in the rows.
pub const BACKEND: &str = "emulator";

/// A launch on the emulator.
#[derive(Clone, Debug, Default)]
pub struct Emulation {
    /// What it did.
    pub counters: Counters,
    /// How long it took on this machine, from poisoned output to the result on the host; the first
    /// launch of a kernel includes parsing it.
    pub seconds: f64,
}

impl Emulation {
    /// Wavefronts of shared memory, those lost to bank conflicts included.
    pub fn shared_wavefronts(&self) -> u64 {
        self.counters.shared_sites.values().map(|site| site.wavefronts).sum()
    }
}

/// Does `run`, which launches `entry` once, and gives that launch's counters if `device` is an emulator.
///
/// # Errors
/// Those of `run`, or that it launched something else.
pub fn counted<R>(
    device: &dyn Device,
    entry: &str,
    run: impl FnOnce() -> Result<R>,
) -> Result<(R, Option<Emulation>)> {
    let Some(device) = device.as_any().downcast_ref::<EmulatedDevice>() else {
        return Ok((run()?, None));
    };
    device.take_launches();
    let start = Instant::now();
    let result = run()?;
    let seconds = start.elapsed().as_secs_f64();
    let mut launches = device.take_launches().into_iter();
    let (_, counters) = launches
        .find(|(launched, _)| *launched == entry)
        .with_context(|| format!("the emulator counted no launch of {entry}"))?;
    Ok((result, Some(Emulation { counters, seconds })))
}

/// Takes apart what a kernel may have done wrong (`Err` inside) and what went wrong otherwise.
///
/// # Errors
/// Those of `result` that are not a kernel's fault.
pub fn caught<R>(result: Result<R>) -> Result<Result<R, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if is_fault_of_a_kernel(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether a finding, or an end before its time that the kernel brought about.
fn is_fault_of_a_kernel(error: &Error) -> bool {
    match error.downcast_ref() {
        Some(sparseflow::Error::Findings { .. }) => true,
        Some(sparseflow::Error::Emulator(ptx_emulator::Error::Stopped { cause, .. })) => {
            !matches!(cause, Stop::Unsupported { .. })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::cases::plan;
    use crate::cli::Cli;
    use crate::kernel::Kernel;
    use crate::report::Row;
    use crate::run::{Run, Settings};
    use clap::Parser;
    use layout::hopper::ROWS;
    use layout::instance::Family;
    use reference::random::Fill;
    use sparseflow::ptx;
    use std::sync::Arc;

    /// The rows of a command line, how many there should be, and what ended the run.
    fn run(device: Arc<dyn Device>, line: &str) -> (Vec<Row>, usize, anyhow::Result<()>) {
        let backend = Backend::Emulator(device);
        let cases = plan(&Cli::parse_from(line.split(' ')), &backend).unwrap();
        let settings = Settings {
            runs: 1,
            repeat: None,
            seed: 1,
            fill: Fill::Uniform,
            dump: None,
            peers: None,
        };
        let (rows, result) = Run::all(&cases, &backend, &settings);
        (rows, cases.len(), result)
    }

    fn rows(device: Arc<dyn Device>, line: &str) -> Vec<Row> {
        let (rows, cases, result) = run(device, line);
        result.unwrap();
        assert_eq!(rows.len(), cases);
        rows
    }

    /// Tensor-core instructions of a product: every tile and every stage of K is computed whole, but for consumers that
    /// a narrow tile leaves out.
    fn mma(kernel: Kernel, [m, n, k]: [u32; 3]) -> u64 {
        let Kernel::Gemm(choice) = kernel else { return 0 };
        let i = choice.kernel;
        let whole = |extent: u32, tile: u32| u64::from(extent.next_multiple_of(tile));
        let one = match i.family {
            Family::WmmaDense => 16 * 16 * 16,
            Family::Sm80Dense => 16 * 8 * 16,
            Family::Sm80Sparse24 => 16 * 8 * 32,
            Family::Sm90Dense => u64::from(64 * i.bm * 16),
            Family::Sm90Sparse24 => u64::from(64 * i.bm * 32),
        };
        let columns = match i.hopper() {
            Some(shape) if shape.mixes() => ROWS,
            Some(shape) => i.bn * shape.cluster,
            None => i.bn,
        };
        whole(m, i.bm) * whole(n, columns) * whole(k, i.bk) / one
    }

    #[test]
    fn every_kernel_is_checked_and_counted_once() {
        let device = EmulatedDevice::open(1);
        let rows = rows(device, "bench --shape 70x104x136 --kernel all --dtype f16,bf16");
        assert_eq!(rows.len(), Kernel::gpu().count());
        for row in &rows {
            let kernel = row.case.kernel;
            let name = kernel.name();
            assert!(row.check.passed, "{name}: {:?}", row.check.fault);
            assert!(row.times().is_none() && row.gb_per_s().is_none());
            let Emulation { counters, seconds } = row.emulation.as_ref().unwrap();
            assert_eq!(counters.mma, mma(kernel, [70, 104, 136]), "{name}");
            assert_eq!(counters.instructions, counters.families.values().sum::<u64>(), "{name}");
            assert!(counters.lane_instructions <= 32 * counters.instructions && *seconds > 0.0);
            if let Kernel::Gemm(_) = kernel {
                assert_eq!(counters.bytes.global_written, 70 * 104 * 2, "{name}");
            }
        }
    }

    #[test]
    fn fragments_are_loaded_without_bank_conflicts() {
        let device = EmulatedDevice::open(1);
        for row in rows(device, "bench --shape 64x64x256 --kernel all --op dense,sparse") {
            let name = row.case.kernel.name();
            let text = ptx::entry(ptx::module_of(name), name).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let sites = &row.emulation.as_ref().unwrap().counters.shared_sites;
            let is_ldmatrix = |line: u32| lines[line as usize - 1].contains("ldmatrix.");
            let fragments: Vec<_> = sites.iter().filter(|(line, _)| is_ldmatrix(**line)).collect();
            let Kernel::Gemm(choice) = row.case.kernel else { unreachable!() };
            let instance = choice.kernel;
            let by_ldmatrix = [Family::Sm80Dense, Family::Sm80Sparse24].contains(&instance.family);
            assert_eq!(fragments.is_empty(), !by_ldmatrix);
            for (line, site) in fragments {
                assert_eq!(site.wavefronts, site.ideal, "{} line {line}", instance.name);
            }
        }
    }

    fn fault<'a>(rows: &'a [Row], kernel: &str) -> Option<&'a str> {
        let row = rows.iter().find(|row| row.case.kernel.name().starts_with(kernel)).unwrap();
        assert_eq!(row.check.passed, row.check.fault.is_none());
        assert_eq!(row.check.passed, row.emulation.is_some());
        assert_eq!(row.check.passed, row.check.method != BACKEND);
        row.check.fault.as_deref()
    }

    /// PTX with `from` replaced in the instructions called `opcode`.
    fn changed(opcode: &str, from: &str, to: &str) -> String {
        let is_meant = |line: &str| line.trim_start().starts_with(opcode) && line.contains(from);
        assert!(ptx::SM_80.lines().any(is_meant));
        let change = |line: &str| match is_meant(line) {
            true => line.replace(from, to) + "\n",
            false => line.to_owned() + "\n",
        };
        ptx::SM_80.lines().map(change).collect()
    }

    /// Rows of all three operations on such PTX.
    fn rows_with(ptx: String) -> Vec<Row> {
        let kernels = "sm80_dense_f16_64x64x64,sm80_sparse24_f16_64x64x64,compress24_f16";
        let line = format!("bench --shape 64x64x512 --kernel {kernels}");
        rows(EmulatedDevice::with_ptx(1, ptx), &line)
    }

    #[test]
    fn a_finding_fails_its_rows_and_the_others_go_on() {
        let rows = rows_with(changed("cp.async.wait_group", "cp", "// cp"));
        for kernel in ["sm80_dense_f16", "sm80_sparse24_f16"] {
            let fault = fault(&rows, kernel).unwrap();
            assert!(fault.starts_with(kernel) && fault.contains(" PTX line "), "{fault}");
        }
        assert_eq!(fault(&rows, "compress24"), None);
    }

    #[test]
    fn a_finding_of_the_packing_fails_the_sparse_rows_too() {
        let rows = rows_with(changed("ld.global.nc.L1", "];", "+4];"));
        for kernel in ["compress24_f16", "sm80_sparse24_f16"] {
            let fault = fault(&rows, kernel).unwrap();
            assert!(fault.starts_with("compress24_f16: misaligned"), "{fault}");
        }
        assert_eq!(fault(&rows, "sm80_dense"), None);
    }

    #[test]
    fn an_early_end_is_a_fault_and_unknown_ptx_an_error() {
        let rows = rows_with(changed("bar.sync", "bar.sync 0", "trap"));
        assert!(fault(&rows, "sm80_dense").unwrap().starts_with("trap at sm80_dense_f16"));
        assert_eq!(fault(&rows, "compress24"), None);

        let device = EmulatedDevice::with_ptx(1, changed("ldmatrix", "ldmatrix", "ldtensor"));
        let line = "bench --shape 64x64x512 --op compress,dense \
                    --kernel compress24_f16,sm80_dense_f16_64x64x64";
        let (rows, _, result) = run(device, line);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("ldtensor"), "{error}");
        assert_eq!(rows.len(), 1);
    }
}
