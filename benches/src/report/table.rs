//! The table, for a terminal and as Markdown.

use super::peers::{Mean, means, notes};
use super::{Report, Row, Soak, passed, tuned};
use crate::kernel::dtype_name;
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use std::collections::BTreeSet;

/// The columns that every table has.
const COLUMNS: [&str; 6] = ["op", "kernel", "dtype", "epilogue", "shape", "check"];
/// What follows them where rows were timed.
const TIMES: [&str; 5] = ["median us", "cv", "TFLOPS", "executed", "GB/s"];
/// What follows them where kernels without epilogue took turns with rows.
const BARE: [&str; 1] = ["fused/bare"];
/// What ends a row where peers were measured.
const PEERS: [&str; 3] = ["best peer", "its us", "ratio"];
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
GB/s counts X, W as stored, C and Y once; of compress, the W that is read.";

/// What stands under it where kernels without epilogue took turns with rows.
const BARE_LEGEND: &str = "\
fused/bare is how much longer the row takes than the same kernel and schedule without an epilogue, Y in the type
of X: the two take turns, and the median of the ratios of neighbouring turns is given.";

/// What stands under it where peers were measured.
const PEER_LEGEND: &str = "\
Peers take turns with the row on the same inputs, plans and W prepared beforehand; ratio is the best peer's
median over the row's, so above 1 the row is faster. cublaslt is the fastest of the heuristic's first 16
algorithms, cusparselt the default plan, cusparselt-searched the plan after the library's search; of compress,
cusparselt compresses a W that is pruned already. Peers fuse GELU in its tanh form only; a form in brackets is
what the peer computed in the place of the row's.";

/// What stands over the geometric means.
const MEANS: [&str; 6] = ["suite", "op", "dtype", "epilogue", "shapes", "best peer"];

/// What stands under a table of counters.
const EMULATOR_LEGEND: &str = "\
Shapes are MxNxK, of W alone NxK. rel is ||y - reference|| / ||reference||. Each row is one launch of the
compiled PTX on the emulator: mma and instr are warps' instructions, bank conflicts the wavefronts of
shared memory lost to them, sectors/req the 32-byte sectors that a warp's request to global memory touches,
KB what lanes ask of it. seconds are those of this machine's emulation: they say nothing of a GPU.";

/// The report for a terminal.
pub fn text(report: &Report<'_>) -> String {
    let shown = |table: Table| table.trim_fmt();
    format!("{}\n\n{}", report.environment, body(report, NOTHING, shown))
}

/// The report as Markdown; `command` is what made it.
pub fn markdown(report: &Report<'_>, command: &str) -> String {
    let shown = |table: Table| table.to_string();
    let body = body(report, ASCII_MARKDOWN, shown);
    format!("`{command}`\n\n{}\n\n{body}", report.environment)
}

/// All below the environment.
fn body(report: &Report<'_>, style: TableStyle, shown: impl Fn(Table) -> String) -> String {
    let rows = report.rows;
    let mut parts = vec![shown(table(rows, style))];
    let means = means(rows, report.groups);
    if !means.is_empty() {
        let title =
            "Geometric means of the ratio, by suite: to each row's best peer, and to each peer.";
        parts.push(title.to_owned());
        parts.push(shown(means_table(&means, style)));
    }
    parts.push(legend(rows));
    parts.extend(tuned::lines(rows, report.groups));
    parts.extend(notes(rows));
    parts.extend(report.soak.map(|Soak { runs, rows, errors }| {
        format!("{runs} runs, {rows} rows computed and checked, {errors} errors")
    }));
    parts.push(summary(rows));
    parts.join("\n\n") + "\n"
}

/// Whether the columns are those of the emulator. All rows of a run come from one backend.
fn emulated(rows: &[Row]) -> bool {
    rows.iter().any(Row::is_emulated)
}

/// Whether peers were looked at.
fn has_peers(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.peers.is_empty())
}

/// Whether kernels without epilogue took turns with rows.
fn has_bare(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.bare.is_some())
}

fn legend(rows: &[Row]) -> String {
    if emulated(rows) {
        return EMULATOR_LEGEND.to_owned();
    }
    let bare = has_bare(rows).then_some(BARE_LEGEND);
    let peers = has_peers(rows).then_some(PEER_LEGEND);
    [Some(LEGEND), bare, peers].into_iter().flatten().collect::<Vec<_>>().join("\n")
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
    let (emulated, has_bare, has_peers) = (emulated(rows), has_bare(rows), has_peers(rows));
    let figures = if emulated { &COUNTERS[..] } else { &TIMES };
    let peers = if has_peers { &PEERS[..] } else { &[] };
    let bare = if has_bare { &BARE[..] } else { &[] };
    table.set_header(COLUMNS.iter().chain(figures).chain(bare).chain(peers));
    for row in rows {
        let figures = if emulated { counters(row).to_vec() } else { times(row).to_vec() };
        let peers = if has_peers { best_peer(row).to_vec() } else { Vec::new() };
        let bare = has_bare.then(|| ratio(row.bare_ratio()));
        table.add_row(cells(row).into_iter().chain(figures).chain(bare).chain(peers));
    }
    right_aligned(table, COLUMNS.len())
}

/// The same table, its columns from number `from` on to the right.
fn right_aligned(mut table: Table, from: usize) -> Table {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn means_table(means: &[Mean], style: TableStyle) -> Table {
    let names: BTreeSet<&str> = means.iter().flat_map(|mean| mean.each.keys().copied()).collect();
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(MEANS.iter().chain(&names));
    for mean in means {
        let each = names.iter().map(|name| ratio(mean.each.get(name).copied()));
        let figures = [mean.shapes.to_string(), ratio(Some(mean.best))];
        table.add_row(mean.of.iter().cloned().chain(figures).chain(each));
    }
    right_aligned(table, 4)
}

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let case = &row.case;
    let check = match (&row.check.fault, row.check.errors) {
        _ if !row.check.passed => {
            format!("FAILED: {}", row.check.fault.as_deref().unwrap_or("wrong"))
        }
        (_, Some(errors)) => format!("ok, rel {:.1e}", errors.rel_fro),
        (_, None) => "ok, every bit".to_owned(),
    };
    [
        case.op.to_string(),
        case.kernel.to_string(),
        dtype_name(case.dtype).to_owned(),
        case.epilogue().unwrap_or_else(|| "-".to_owned()),
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

/// Name, median and ratio, and the epilogue where it is not the row's.
fn best_peer(row: &Row) -> [String; PEERS.len()] {
    let Some((peer, of_it)) = row.best_peer() else {
        return std::array::from_fn(|_| "-".to_owned());
    };
    let name = match peer.form == row.case.fused {
        true => peer.name.to_owned(),
        false => format!("{} ({})", peer.name, peer.form),
    };
    let median = peer.times.as_ref().map(|times| times.median);
    [name, figure(median), ratio(Some(of_it))]
}

/// A ratio, or a dash where there is none.
fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"))
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
    use crate::cases::Group;
    use crate::environment::Environment;
    use crate::kernel::Op;
    use crate::report::peers::tests::{missing, peer};
    use crate::report::tests::{emulated, row};
    use layout::params::Output;
    use sparseflow::measure::Times;

    fn rows() -> Vec<Row> {
        vec![row(Op::Dense, true), row(Op::Compress, true), row(Op::Sparse, false)]
    }

    fn text(rows: &[Row], groups: &[Group]) -> String {
        let environment = &Environment::now(&Backend::Cpu, None);
        super::text(&Report { rows, environment, groups, soak: None })
    }

    #[test]
    fn a_wrong_row_stands_out() {
        let text = text(&rows(), &[]);
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
        let text = text(&rows, &[]);
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
        let environment = &Environment::now(&Backend::Cpu, None);
        let soak = Some(Soak { runs: 50, rows: 148, errors: 1 });
        let report = Report { rows: &rows(), environment, groups: &[], soak };
        let text = markdown(&report, "bench --suite quick");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "`bench --suite quick`");
        assert_eq!(lines[2], environment.to_string());
        assert!(lines[4].starts_with("| op ") && lines[5].starts_with("|---"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 5);
        assert!(lines.contains(&"50 runs, 148 rows computed and checked, 1 errors"), "{text}");
    }

    #[test]
    fn a_row_ends_with_its_best_peer_and_a_suite_with_the_means() {
        let mut gelu = row(Op::Dense, true);
        gelu.case.fused = "gelu".parse().unwrap();
        let mut tanh = peer("cublaslt", 6.0);
        tanh.form = "gelu-tanh".parse().unwrap();
        let rows = [
            row(Op::Dense, true).beside(vec![peer("cublaslt", 2.5)]),
            gelu.beside(vec![tanh]),
            row(Op::Sparse, true).beside(vec![peer("a", 10.0), missing("b", Err("no such shape"))]),
            row(Op::Sparse, false).beside(vec![missing("a", Ok("y[0, 0] is NaN"))]),
        ];
        let shapes = vec![rows[0].case.shape];
        let text = text(&rows, &[Group { name: "mine".to_owned(), shapes }]);
        let end = |line: &str, count: usize| -> Vec<String> {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[words.len() - count..].iter().map(|&word| word.to_owned()).collect()
        };
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("1000x2000x3000")).collect();
        assert_eq!(end(lines[0], 3), ["cublaslt", "2.50", "0.500"], "{text}");
        assert_eq!(end(lines[1], 4), ["cublaslt", "(gelu-tanh)", "6.00", "1.200"], "{text}");
        assert_eq!(end(lines[2], 3), ["a", "10.0", "2.000"], "{text}");
        assert_eq!(end(lines[3], 3), ["-", "-", "-"], "{text}");
        let means: Vec<&str> =
            text.lines().filter(|line| line.trim_start().starts_with("mine")).collect();
        let of = |line: &str| end(line, line.split_whitespace().count());
        assert_eq!(of(means[0]), ["mine", "dense", "f16", "none", "1", "0.500", "-", "0.500"]);
        assert_eq!(of(means[1]), ["mine", "dense", "f16", "gelu", "1", "1.200", "-", "1.200"]);
        assert_eq!(of(means[2]), ["mine", "sparse", "f16", "none", "1", "2.000", "2.000", "-"]);
        assert_eq!(means.len(), 3, "{text}");
        assert!(
            text.contains("b on sparse 1000x2000x3000: not measured (no such shape)"),
            "{text}"
        );
        assert!(text.contains("a on sparse 1000x2000x3000: FAILED: y[0, 0] is NaN"), "{text}");
    }

    #[test]
    fn a_row_with_an_epilogue_is_set_against_its_kernel_without() {
        let mut fused = row(Op::Dense, true).against(Times::new(vec![4.0; 3]));
        fused.case.fused = "bias-residual".parse().unwrap();
        fused.case.output = Output::Int8;
        let text = text(&[row(Op::Sparse, true), fused.beside(vec![peer("p", 5.0)])], &[]);
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
        let words: Vec<&str> = line("cpu_dense").split_whitespace().rev().take(5).collect();
        assert_eq!(words, ["1.000", "5.00", "(none)", "p", "1.250"], "{text}");
        assert!(line("cpu_dense").contains(" bias-residual int8 "), "{text}");
        let words: Vec<&str> = line("cpu_sparse24").split_whitespace().rev().take(4).collect();
        assert_eq!(words, ["-"; 4], "{text}");
        assert!(line("median us").contains("fused/bare") && text.contains(BARE_LEGEND));
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!(
            [1234.56, 9.876, 0.01234, 0.00012].map(significant),
            ["1234.6", "9.88", "0.0123", "1.2e-4"]
        );
    }
}
