//! The table, for a terminal and as Markdown.

use super::{Row, passed};
use crate::environment::Environment;
use crate::kernel::{Op, dtype_name};
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};

/// The columns that every table has.
const COLUMNS: [&str; 6] = ["op", "kernel", "dtype", "epilogue", "shape", "check"];
/// What follows them where rows were timed.
const TIMES: [&str; 5] = ["median us", "cv", "TFLOPS", "executed", "GB/s"];
/// What follows them where the emulator ran them.
const COUNTERS: [&str; 8] = [
    "mma",
    "warp instr",
    "bank conflicts",
    "sectors/req",
    "KB read",
    "KB written",
    "seconds",
    "M lane instr/s",
];

/// What stands under a table of times.
const LEGEND: &str = "\
Shapes are MxNxK, of W alone NxK. rel is ||y - reference|| / ||reference||, cv the standard deviation
over the mean. TFLOPS is 2MNK / median, dense-equivalent; executed is half of it where W is sparse.
GB/s counts X, W as stored and Y once; of compress, the W that is read.";

/// What stands under a table of counters.
const EMULATOR_LEGEND: &str = "\
Shapes are MxNxK, of W alone NxK. rel is ||y - reference|| / ||reference||. Each row is one launch of the
compiled PTX on the emulator: mma and instr are warps' instructions, bank conflicts the wavefronts of
shared memory lost to them, sectors/req the 32-byte sectors that a warp's request to global memory touches,
KB what lanes ask of it. seconds are those of this machine's emulation: they say nothing of a GPU.";

/// The report for a terminal.
pub fn text(rows: &[Row], environment: &Environment) -> String {
    let (table, legend) = (table(rows, NOTHING), legend(rows));
    format!("{environment}\n\n{}\n\n{legend}\n{}\n", table.trim_fmt(), summary(rows))
}

/// The report as Markdown; `command` is what made it.
pub fn markdown(rows: &[Row], environment: &Environment, command: &str) -> String {
    let (table, legend) = (table(rows, ASCII_MARKDOWN), legend(rows));
    format!("`{command}`\n\n{environment}\n\n{table}\n\n{legend}\n\n{}\n", summary(rows))
}

/// Whether the columns are those of the emulator. All rows of a run come from one backend.
fn emulated(rows: &[Row]) -> bool {
    rows.iter().any(Row::is_emulated)
}

fn legend(rows: &[Row]) -> &'static str {
    if emulated(rows) { EMULATOR_LEGEND } else { LEGEND }
}

/// One line on whether the rows are right.
fn summary(rows: &[Row]) -> String {
    let wrong = rows.iter().filter(|row| !row.check.passed).count();
    match passed(rows) {
        true => format!("{} rows, all right", rows.len()),
        false => format!("{wrong} of {} rows FAILED", rows.len()),
    }
}

fn table(rows: &[Row], style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    let emulated = emulated(rows);
    let figures = if emulated { &COUNTERS[..] } else { &TIMES };
    table.set_header(COLUMNS.iter().chain(figures));
    for row in rows {
        let figures = if emulated { counters(row).to_vec() } else { times(row).to_vec() };
        table.add_row(cells(row).into_iter().chain(figures));
    }
    for column in table.column_iter_mut().skip(COLUMNS.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let case = &row.case;
    let compress = case.op == Op::Compress;
    let check = match (&row.check.fault, row.check.errors) {
        _ if !row.check.passed => {
            format!("FAILED: {}", row.check.fault.as_deref().unwrap_or("wrong"))
        }
        (_, Some(errors)) => format!("ok, rel {:.1e}", errors.rel_fro),
        (_, None) => "ok, every bit".to_owned(),
    };
    [
        case.op.to_string(),
        case.kernel.name().to_owned(),
        dtype_name(case.dtype).to_owned(),
        if compress { "-".to_owned() } else { case.fused.to_string() },
        case.extents(),
        check,
    ]
}

/// A figure, or a dash where there is none.
fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), significant)
}

fn times(row: &Row) -> [String; TIMES.len()] {
    [
        figure(row.times().map(|times| times.median)),
        row.times().map_or_else(|| "-".to_owned(), |times| format!("{:.1}%", times.cv * 100.0)),
        figure(row.tflops()),
        figure(row.tflops_executed()),
        figure(row.gb_per_s()),
    ]
}

fn counters(row: &Row) -> [String; COUNTERS.len()] {
    let Some(emulation) = &row.emulation else {
        return std::array::from_fn(|_| "-".to_owned());
    };
    let counters = &emulation.counters;
    let rate = counters.lane_instructions as f64 / emulation.seconds.max(1e-9) / 1e6;
    [
        counters.mma.to_string(),
        counters.instructions.to_string(),
        counters.bank_conflicts().to_string(),
        significant(counters.sectors_per_request()),
        significant(counters.bytes.global_read as f64 / 1e3),
        significant(counters.bytes.global_written as f64 / 1e3),
        significant(emulation.seconds),
        significant(rate),
    ]
}

/// Two digits at the least.
fn significant(figure: f64) -> String {
    match figure {
        10.0.. => format!("{figure:.1}"),
        0.1.. => format!("{figure:.2}"),
        0.001.. => format!("{figure:.4}"),
        _ => format!("{figure:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::report::tests::{emulated, row};

    fn rows() -> Vec<Row> {
        vec![row(Op::Dense, true), row(Op::Compress, true), row(Op::Sparse, false)]
    }

    #[test]
    fn a_wrong_row_stands_out() {
        let text = text(&rows(), &Environment::now(&Backend::Cpu));
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
        let figures =
            |word: &str| -> Vec<&str> { line(word).split_whitespace().rev().take(5).collect() };
        assert!(line("cpu_sparse24").contains("FAILED: y[1, 2] is NaN, must be 3"), "{text}");
        assert_eq!(figures("cpu_sparse24"), ["-"; 5]);
        assert_eq!(figures("cpu_dense"), ["2.00", "2400.0", "2400.0", "16.3%", "5.00"]);
        assert!(line("cpu_compress24").contains(" 2000x3000 "), "{text}");
        assert_eq!(figures("cpu_compress24")[..3], ["2.00", "-", "-"]);
        assert!(text.ends_with("1 of 3 rows FAILED\n"));
    }

    #[test]
    fn the_emulator_has_columns_of_its_own() {
        let rows = [emulated(Op::Dense, true), emulated(Op::Sparse, false)];
        let text = text(&rows, &Environment::now(&Backend::Cpu));
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
        let figures =
            |word: &str| -> Vec<&str> { line(word).split_whitespace().rev().take(8).collect() };
        let want = ["0.48", "0.25", "8.19", "16.4", "2.50", "4", "4000", "128"];
        assert_eq!(figures("cpu_dense"), want, "{text}");
        assert_eq!(figures("cpu_sparse24"), ["-"; 8]);
        assert!(line("M lane instr/s").contains("bank conflicts") && !text.contains("TFLOPS"));
    }

    #[test]
    fn markdown_names_command_and_environment() {
        let environment = Environment::now(&Backend::Cpu);
        let text = markdown(&rows(), &environment, "bench --suite quick");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "`bench --suite quick`");
        assert_eq!(lines[2], environment.to_string());
        assert!(lines[4].starts_with("| op ") && lines[5].starts_with("|---"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 5);
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!(
            [1234.56, 9.876, 0.01234, 0.00012].map(significant),
            ["1234.6", "9.88", "0.0123", "1.2e-4"]
        );
    }
}
