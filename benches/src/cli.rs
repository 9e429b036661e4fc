//! The command line.

use crate::kernel::{DTYPES, Kernel, OUTPUTS, Op};
use crate::suites::{Shape, Suite};
use clap::{Parser, ValueEnum};
use layout::instance::Dtype;
use layout::params::Output;
use reference::random::Fill;
use sparseflow::Schedule;
use sparseflow::epilogue::Fused;
use std::path::PathBuf;

/// Value of `--kernel` that stands for every kernel that applies.
pub const ALL_KERNELS: &str = "all";

/// Measures SparseFlow's kernels. Every row is checked against the reference before it is timed.
///
/// On the emulator a row runs once, under all of the emulator's checks, and has counters in place of
/// times; a finding fails the row.
///
/// The environment variable SPARSEFLOW_LOG (error, warn, info, debug) says what is logged to stderr.
///
/// Exit status: 0 where every row is right, 1 where a row is wrong or the measurement failed, 2 for
/// bad usage.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Cli {
    /// Shapes by name [default: cubes on a GPU, quick on emulator and CPU]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub suite: Vec<Suite>,
    /// A shape; may be repeated
    #[arg(long, value_name = "MxNxK", value_delimiter = ',')]
    pub shape: Vec<Shape>,
    /// What to measure [default: dense,sparse; on GPU and emulator also compress]
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<Op>,
    /// Only this kernel, where it applies; may be repeated; `all` stands for every one [default: the
    /// one that the library picks]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = kernel_name)]
    pub kernel: Vec<String>,
    /// How the blocks of those kernels share the work: tiles, split-k-2 to split-k-64, stream-k
    #[arg(long, value_name = "NAME", requires = "kernel", default_value_t)]
    pub schedule: Schedule,
    /// Measure what is fastest for each row and take that kernel and schedule, or what a former run has
    /// stored; without it rows take what the library picks unmeasured, so that figures can be reproduced
    #[arg(long, conflicts_with = "kernel")]
    pub tune: bool,
    /// The file that keeps what was tuned [default: autotune.sqlite3 in $SPARSEFLOW_CACHE, else in
    /// sparseflow of the user's cache directory]
    #[arg(long, value_name = "PATH", requires = "tune")]
    pub cache: Option<PathBuf>,
    /// Instead of rows, measure fresh processes up to their first result on a cold cache of the driver, and
    /// the host's part of a call: of the first --shape, --op and --dtype, --repeat processes [default: 5]
    #[arg(long, conflicts_with_all = ["tune", "peers", "kernel", "suite", "dump", "markdown", "runs"])]
    pub startup: bool,
    /// One process of --startup
    #[arg(long, hide = true, requires = "startup")]
    pub startup_process: bool,
    /// Element types: f16, bf16
    #[arg(long, value_delimiter = ',', default_value = "f16", value_parser = dtype)]
    pub dtype: Vec<Dtype>,
    /// What is fused behind the product: none, relu, gelu (erf), gelu-tanh or silu, each also with
    /// bias (bias, bias-relu, ...), and those with residual (a C is added: bias-residual, residual-relu,
    /// ...) or gated (features are gates and values in turn, Y has N/2 columns: gated-silu, ...). On a
    /// GPU such a row also takes turns with the same kernel without an epilogue: fused/bare
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "none")]
    pub epilogue: Vec<Fused>,
    /// Type of Y: input (that of X and W), f32, or int8 (rows scaled, rounded and saturated)
    #[arg(long, value_name = "TYPE", value_delimiter = ',', default_value = "input",
        value_parser = output)]
    pub output: Vec<Output>,
    /// Where to run
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// Also measure cuBLASLt and cuSPARSELt, in turns with each row; needs a GPU
    #[arg(long)]
    pub peers: bool,
    /// Where to look for their libraries before the usual places; may be repeated
    #[arg(long, value_name = "DIR", requires = "peers")]
    pub peer_libs: Vec<PathBuf>,
    /// Timed launches of each row; the emulator times nothing [default: 30 on a GPU; on the CPU 5,
    /// fewer where they take over half a second]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repeat: Option<u32>,
    /// Compute all rows so often: the first time every row is checked in full; then each Y is computed again
    /// over poison, must have the same bits, and is timed again. Peers take part in the first run only.
    /// Between runs the operands and Y of all rows stay in the host's memory
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Seed of the random inputs, and of the order in which the emulator runs warps
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How the inputs are drawn
    #[arg(long, value_enum, default_value_t = Inputs::Uniform)]
    pub inputs: Inputs,
    /// Write the rows, the environment, and every sample or counter as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "PATH")]
    pub markdown: Option<PathBuf>,
    /// Write x, w (pruned, where it is sparse), bias, c, row_scale and y of every row, as far as it has
    /// them, as {row}_{x|w|bias|c|row_scale|y}.npy
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// List backends, suites, epilogues, outputs and kernels, and stop
    #[arg(long)]
    pub list: bool,
}

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The GPU if there is one, else the CPU reference
    Auto,
    /// The first NVIDIA GPU
    Cuda,
    /// The PTX that a GPU would run, on the CPU: checked and counted, not timed
    Emulator,
    /// The CPU reference
    Cpu,
}

/// How the inputs are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Inputs {
    /// Uniform in [-1, 1)
    Uniform,
    /// -2, -1, 0, 1 or 2: products are exact, and every machine must give the same bits
    Integers,
}

impl From<Inputs> for Fill {
    fn from(inputs: Inputs) -> Self {
        match inputs {
            Inputs::Uniform => Self::Uniform,
            Inputs::Integers => Self::Integers,
        }
    }
}

/// Bad usage found after the command line was parsed.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Cli {
    /// Refuses what goes not together, and folders that are none.
    pub fn check(&self) -> Result<(), Usage> {
        if let Some(path) = self.peer_libs.iter().find(|path| !path.is_dir()) {
            return Err(Usage(format!("--peer-libs: {} is no folder", path.display())));
        }
        if self.tune && matches!(self.backend, BackendName::Emulator | BackendName::Cpu) {
            return Err(Usage("--tune: only a GPU has times that tell kernels apart".to_owned()));
        }
        if self.backend == BackendName::Emulator && self.repeat.is_some() && !self.startup {
            let text = "--repeat: the emulator runs each row once and times nothing";
            return Err(Usage(text.to_owned()));
        }
        Ok(())
    }
}

fn dtype(text: &str) -> Result<Dtype, String> {
    let found = DTYPES.into_iter().find(|(name, _)| *name == text);
    let unknown = || format!("`{text}` is no element type; there are f16 and bf16");
    found.map(|(_, dtype)| dtype).ok_or_else(unknown)
}

fn output(text: &str) -> Result<Output, String> {
    let found = OUTPUTS.into_iter().find(|(name, _)| *name == text);
    let unknown = || format!("`{text}` is no type of Y; there are input, f32 and int8");
    found.map(|(_, output)| output).ok_or_else(unknown)
}

fn kernel_name(text: &str) -> Result<String, String> {
    let known = text == ALL_KERNELS || Kernel::gpu().chain(Kernel::cpu()).any(|k| k.name() == text);
    match known {
        true => Ok(text.to_owned()),
        false => Err(format!("no kernel is called `{text}`; `bench --list` names them all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let cli = parse(
            "bench --suite quick,cubes --shape 1x2x3 --shape 4x5x6 --op dense,compress \
                         --dtype bf16,f16 --epilogue bias-relu,none --kernel all --seed 7",
        )
        .unwrap();
        assert_eq!(cli.suite, [Suite::Quick, Suite::Cubes]);
        assert_eq!(cli.shape.len(), 2);
        assert_eq!(cli.op, [Op::Dense, Op::Compress]);
        assert_eq!(cli.dtype, [Dtype::Bf16, Dtype::F16]);
        assert_eq!(cli.epilogue.len(), 2);
        assert_eq!((cli.backend, cli.seed, cli.repeat), (BackendName::Auto, 7, None));
        assert!(cli.check().is_ok());
    }

    #[test]
    fn bad_values_are_named() {
        let fails = |line: &str, word: &str| {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word), "{error}");
        };
        fails("bench --shape 17x33", "17x33");
        fails("bench --kernel sm80", "`sm80`");
        fails("bench --epilogue swish", "`swish`");
        fails("bench --epilogue gated-residual", "`gated-residual`");
        fails("bench --output f64", "`f64`");
        fails("bench --runs 0", "0");
        fails("bench --dtype f32", "f32");
        fails("bench --repeat 0", "0");
        fails("bench --suite huge", "huge");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(parse("bench --peers").unwrap().check().is_ok());
        assert!(parse("bench --peer-libs /").unwrap_err().to_string().contains("--peers"));
        let cli = parse("bench --peers --peer-libs / --peer-libs /no/such").unwrap();
        assert_eq!(cli.check().unwrap_err().0, "--peer-libs: /no/such is no folder");
        assert!(parse("bench --backend emulator").unwrap().check().is_ok());
        for backend in ["emulator", "cpu"] {
            let cli = parse(&format!("bench --backend {backend} --tune")).unwrap();
            assert!(cli.check().unwrap_err().0.contains("--tune"));
        }
        assert!(parse("bench --tune --kernel all").is_err());
        assert!(parse("bench --cache x").is_err() && parse("bench --schedule stream-k").is_err());
        assert!(parse("bench --kernel all --schedule split-k-1").is_err());
        let cli = parse("bench --backend emulator --repeat 3").unwrap();
        assert!(cli.check().unwrap_err().0.contains("--repeat"));
    }
}
