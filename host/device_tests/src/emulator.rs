//! Running a case on the emulator.

use crate::case::{Arg, Case, Contents, TensorMap};
use crate::ptx::Arch;
use layout::descriptor::Swizzle;
use ptx_emulator::family::tensor_map::{self, Element};
use ptx_emulator::{Error, Launch, Memory, Module, Report};
use std::sync::OnceLock;

/// What a run left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The output buffer.
    pub output: Vec<u8>,
    /// Bytes of it that nothing has written, or that came from nothing.
    pub poisoned: usize,
    /// Counters and findings.
    pub report: Report,
}

/// Runs a case under the schedule of a seed.
///
/// # Errors
/// PTX that the emulator does not know, and launches that it stopped.
pub fn run(case: &Case, seed: u64) -> Result<Outcome, Error> {
    run_module(module(case.arch)?, case, seed)
}

/// Runs a case whose kernel is taken from another module, such as a changed one.
///
/// # Errors
/// As for [`run`].
pub fn run_module(module: &Module, case: &Case, seed: u64) -> Result<Outcome, Error> {
    let memory = Memory::new();
    let buffers: Vec<u64> = case
        .buffers
        .iter()
        .map(|contents| match contents {
            Contents::Bytes(bytes) => memory.upload(bytes),
            Contents::Undefined(bytes) => memory.alloc(*bytes),
        })
        .collect();
    let mut launch = Launch::new(case.entry)
        .grid([case.grid, 1, 1])
        .block([case.block, 1, 1])
        .shared_bytes(case.shared_bytes as usize)
        .seed(seed);
    if case.cluster > 1 {
        launch = launch.cluster([case.cluster, 1, 1]);
    }
    for arg in &case.args {
        launch = match arg {
            Arg::Buffer(index) => launch.arg(buffers[*index]),
            Arg::Map(map) => launch.arg(memory.upload(&encode(map, buffers[map.buffer])?)),
            Arg::Number(number) => launch.arg(*number),
        };
    }
    let report = launch.run(module, &memory)?;
    let (address, bytes) = (buffers[case.output], case.buffers[case.output].bytes());
    let output = memory.download::<u8>(address, bytes)?;
    Ok(Outcome { output, poisoned: memory.poisoned(address, bytes)?, report })
}

/// The parsed kernels of an architecture.
///
/// # Errors
/// PTX that the emulator does not know.
fn module(arch: Arch) -> Result<&'static Module, Error> {
    static MODULES: [OnceLock<Module>; 2] = [const { OnceLock::new() }; 2];
    let cell = &MODULES[usize::from(arch == Arch::Sm90a)];
    if let Some(module) = cell.get() {
        return Ok(module);
    }
    let module = Module::parse(arch.text())?;
    Ok(cell.get_or_init(|| module))
}

fn encode(map: &TensorMap, address: u64) -> Result<[u8; tensor_map::BYTES], Error> {
    let swizzle = match map.swizzle {
        Swizzle::None => tensor_map::Swizzle::None,
        Swizzle::B32 => tensor_map::Swizzle::B32,
        Swizzle::B64 => tensor_map::Swizzle::B64,
        Swizzle::B128 => tensor_map::Swizzle::B128,
    };
    let (dims, boxes) = ([map.columns, map.rows], [map.box_columns, map.box_rows]);
    tensor_map::TensorMap::new(Element::U16, address, &dims, &[map.pitch], &boxes)
        .swizzle(swizzle)
        .encode()
        .map_err(|error| Error::Launch(error.to_string()))
}
