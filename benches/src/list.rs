//! What there is to choose from: `--list`.

use crate::cli::BackendName;
use crate::kernel::{Kernel, OUTPUTS};
use crate::suites::Suite;
use clap::ValueEnum;
use sparseflow::Choice;
use sparseflow::epilogue::Fused;
use std::fmt::Display;

/// Backends, suites, epilogues, outputs and kernels.
pub fn text() -> String {
    let mut text = "backends\n".to_owned();
    for value in BackendName::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        text += &format!("  {:8} {help}\n", value.get_name());
    }
    text += "\nsuites\n";
    for suite in Suite::value_variants() {
        text += &format!("  {:8} {}\n", suite.name(), join(suite.shapes()));
    }
    text += &format!(
        "\nepilogues\n  {}\n\noutputs\n  {}\n\nkernels (of GPU and emulator, but for cpu_*)\n",
        join(Fused::all()),
        join(OUTPUTS.map(|(name, _)| name)),
    );
    for kernel in Kernel::gpu().chain(Kernel::cpu()) {
        let Kernel::Gemm(Choice { kernel: instance, .. }) = kernel else {
            text += &format!("  {:34} {}\n", kernel.name(), kernel.op());
            continue;
        };
        text += &format!(
            "  {:34} {:8} tile {}x{}x{}, {} stages, {} threads, {} KiB of shared memory\n",
            kernel.name(),
            kernel.op(),
            instance.bm,
            instance.bn,
            instance.bk,
            instance.stages,
            instance.threads(),
            instance.shared_bytes() / 1024,
        );
    }
    text
}

fn join(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}
