//! `bench`: SparseFlow's kernels, each row checked against the reference and then timed, or counted on the
//! emulator.
//!
//! | module | what it holds |
//! |---|---|
//! | `cli` | the command line |
//! | `suites` | shapes by name |
//! | `kernel` | what a row can be computed with |
//! | `cases` | the rows to be, planned before anything runs |
//! | `problem` | the operands of a shape, and the judgement of its results |
//! | `backend`, `gpu`, `cpu` | where rows are computed |
//! | `emulator` | what only the emulator tells: counters and findings |
//! | `peers` | the vendor's libraries on the operands of a row |
//! | `contest` | times of several contestants that take turns |
//! | `run` | the rows, one after the other, and again |
//! | `check` | whether a row is right |
//! | `report` | table, Markdown, JSON |
//! | `environment` | on what, and with what |
//! | `npy`, `output` | files |
//! | `startup` | `--startup` |
//! | `list` | `--list` |

mod backend;
mod cases;
mod check;
mod cli;
mod contest;
mod cpu;
mod emulator;
mod environment;
mod gpu;
mod kernel;
mod list;
mod npy;
mod output;
mod peers;
mod problem;
mod report;
mod run;
mod startup;
mod suites;

use anyhow::{Context, Result};
use backend::Backend;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cli::{Cli, Usage};
use environment::Environment;
use peers::Peers;
use report::{Report, Soak};
use run::{Run, Settings};
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// Environment variable with the least level of what the library logs to stderr [default: warn].
const LOG: &str = "SPARSEFLOW_LOG";

fn main() -> ExitCode {
    let level = std::env::var(LOG).ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match bench(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => match error.downcast::<Usage>() {
            // Says it as for any other bad usage, and exits with 2.
            Ok(usage) => Cli::command().error(ErrorKind::ValueValidation, usage).exit(),
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Does what the command line asks for; whether every row is right.
fn bench(cli: &Cli) -> Result<bool> {
    cli.check()?;
    if cli.list {
        print(&list::text())?;
        return Ok(true);
    }
    if cli.startup_process {
        print(&startup::process(cli)?)?;
        return Ok(true);
    }
    if let Some(directory) = &cli.dump {
        output::probe_directory(directory)?;
    }
    for path in cli.json.iter().chain(&cli.markdown) {
        output::probe(path)?;
    }

    if cli.startup {
        let startup = startup::measure(cli)?;
        // Opened only now: a process with a context keeps the driver warm.
        let environment = Environment::now(&Backend::open(cli.backend, cli.seed)?, None);
        print(&format!("{environment}\n\n{}", startup.text()))?;
        if let Some(path) = &cli.json {
            output::write(path, report::json::startup(&startup, &environment)?.as_bytes())?;
        }
        return Ok(true);
    }

    let backend = Backend::open(cli.backend, cli.seed)?;
    let cases = cases::plan(cli, &backend)?;
    let peers = Peers::open(cli, backend.gpu());
    let environment = &Environment::now(&backend, peers.as_ref());
    let settings = Settings {
        runs: cli.runs,
        repeat: cli.repeat,
        seed: cli.seed,
        fill: cli.inputs.into(),
        dump: cli.dump.as_deref(),
        peers: peers.as_ref(),
    };
    let (rows, result) = Run::all(&cases, &backend, &settings);
    let groups = &cases::groups(cli, &backend);
    let report = Report { rows: &rows, environment, groups, soak: Soak::of(cli.runs, &rows) };

    if result.is_ok() || !rows.is_empty() {
        print(&report::table::text(&report))?;
    }
    // Files are for whole measurements.
    result?;
    if let Some(path) = &cli.json {
        output::write(path, report::json::json(&report)?.as_bytes())?;
    }
    if let Some(path) = &cli.markdown {
        let text = report::table::markdown(&report, &command());
        output::write(path, text.as_bytes())?;
    }
    Ok(report::passed(&rows))
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("writing to stdout")
}

/// The command line, as it would be typed.
fn command() -> String {
    let arguments = std::env::args().skip(1).map(|argument| {
        let plain = !argument.is_empty() && !argument.contains(|c: char| c.is_whitespace());
        if plain { argument } else { format!("{argument:?}") }
    });
    std::iter::once("bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}
