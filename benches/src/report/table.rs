//! The table, for a terminal and as Markdown.

use super::{Row, passed};
use crate::environment::Environment;
use crate::kernel::{Op, dtype_name};
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};

const COLUMNS: [&str; 11] = [
    "op",
    "kernel",
    "dtype",
    "epilogue",
    "shape",
    "check",
    "median us",
    "cv",
    "TFLOPS",
    "executed",
    "GB/s",
];
/// The first column of figures.
const FIGURES: usize = 6;

/// What stands under every table.
const LEGEND: &str = "\
Shapes are MxNxK, of W alone NxK. rel is ||y - reference|| / ||reference||, cv the standard deviation
over the mean. TFLOPS is 2MNK / median, dense-equivalent; executed is half of it where W is sparse.
GB/s counts X, W as stored and Y once; of compress, the W that is read.";

/// The report for a terminal.
pub fn text(rows: &[Row], environment: &Environment) -> String {
    let table = table(rows, NOTHING);
    format!("{environment}\n\n{}\n\n{LEGEND}\n{}\n", table.trim_fmt(), summary(rows))
}

/// The report as Markdown; `command` is what made it.
pub fn markdown(rows: &[Row], environment: &Environment, command: &str) -> String {
    let table = table(rows, ASCII_MARKDOWN);
    format!("`{command}`\n\n{environment}\n\n{table}\n\n{LEGEND}\n\n{}\n", summary(rows))
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
    table.set_header(COLUMNS);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(FIGURES) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let case = &row.case;
    let compress = case.op == Op::Compress;
    let figure = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), significant);
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
        figure(row.times().map(|times| times.median)),
        row.times().map_or_else(|| "-".to_owned(), |times| format!("{:.1}%", times.cv * 100.0)),
        figure(row.tflops()),
        figure(row.tflops_executed()),
        figure(row.gb_per_s()),
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
    use crate::report::tests::row;

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
