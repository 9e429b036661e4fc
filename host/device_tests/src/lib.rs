//! Small kernels, one per instruction family, on the emulator and on a GPU.
//!
//! `gpu/test_kernels` holds the kernels, [`cases()`] the inputs and, computed naively, the outputs they
//! must have. `tests/goldens.rs` runs every case on the emulator under several schedules and compares with
//! both that and the output recorded from an H200 (`goldens/`); `tests/gpu.rs` does the same on a GPU,
//! or records.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@case`] | what a case is |
//! | [`mod@cases`] | the list of cases |
//! | [`emulator`] | running one on the emulator |
//! | [`gpu`] | running one on a GPU |
//! | [`ptx`] | the compiled kernels |

pub mod case;
pub mod cases;
pub mod emulator;
pub mod gpu;
pub mod ptx;

pub use case::{Arg, Case, Contents, TensorMap};
pub use cases::{by_name, cases};

/// Outputs recorded from an H200, by case.
static GOLDENS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/goldens.rs"));

/// The output recorded for a case.
pub fn golden(name: &str) -> Option<&'static [u8]> {
    GOLDENS.iter().find(|(golden, _)| *golden == name).map(|(_, bytes)| *bytes)
}

/// The names of all goldens.
pub fn golden_names() -> impl Iterator<Item = &'static str> {
    GOLDENS.iter().map(|(name, _)| *name)
}
