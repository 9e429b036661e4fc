//! What will be measured, in the order of the table, known before anything runs.

use crate::backend::Backend;
use crate::cli::{ALL_KERNELS, Cli, Usage};
use crate::kernel::{Kernel, Op, dtype_name, output_name};
use crate::suites::{Shape, Suite};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use layout::instance::Dtype;
use layout::params::Output;
use sparseflow::autotune::{Problem, Tuner};
use sparseflow::cache::Store;
use sparseflow::epilogue::Fused;
use sparseflow::{Choice, Device, heuristic, kernels};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// One row to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// What is measured.
    pub op: Op,
    /// With what.
    pub kernel: Kernel,
    /// Element type.
    pub dtype: Dtype,
    /// What is fused behind the product; none for a compression.
    pub fused: Fused,
    /// Type of Y; of a compression, that of W.
    pub output: Output,
    /// What the tuner measured, where the kernel is its choice.
    pub tuned: Option<Tuned>,
    /// The product; of a compression, N and K are the extents of W and M means nothing.
    pub shape: Shape,
}

/// What the tuner measured of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// Median time of the tuner's choice in microseconds.
    pub median_us: f64,
    /// What the heuristic chose, where the record says.
    pub heuristic: Option<Choice>,
    /// Median time of that in microseconds, where it was measured.
    pub heuristic_us: Option<f64>,
    /// How long tuning took in seconds; `None` where a former run had stored the record.
    pub seconds: Option<f64>,
}

impl Case {
    /// MxNxK; of a compression NxK.
    pub fn extents(&self) -> String {
        let Shape { n, k, .. } = self.shape;
        if self.op == Op::Compress { format!("{n}x{k}") } else { self.shape.to_string() }
    }

    /// The epilogue, and the type of Y where it is not that of X; nothing of a compression.
    pub fn epilogue(&self) -> Option<String> {
        let form = || match self.output {
            Output::Input => self.fused.to_string(),
            output => format!("{} {}", self.fused, output_name(output, self.dtype)),
        };
        (self.op != Op::Compress).then(form)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.extents())?;
        self.epilogue().map_or(Ok(()), |epilogue| write!(f, " {epilogue}"))
    }
}

/// The rows that the command line asks for, those of one type and shape together.
///
/// # Errors
/// [`Usage`] where a kernel that was asked for cannot run here, or no row is left.
pub fn plan(cli: &Cli, backend: &Backend) -> Result<Vec<Case>> {
    let ops = match (&cli.op[..], backend) {
        ([], Backend::Cuda(_) | Backend::Emulator(_)) => &[Op::Dense, Op::Sparse, Op::Compress][..],
        ([], Backend::Cpu) => &[Op::Dense, Op::Sparse],
        (ops, _) => ops,
    };
    let chooser = Chooser::new(cli, backend);
    let mut cases = Vec::new();
    let mut odd = Vec::new();
    for &dtype in &unique(&cli.dtype) {
        let mut compressed = Vec::new();
        for shape in shapes(cli, backend) {
            for &op in &unique(ops) {
                let forms = match op {
                    Op::Compress if compressed.contains(&(shape.n, shape.k)) => continue,
                    Op::Compress => {
                        compressed.push((shape.n, shape.k));
                        vec![(Output::Input, Fused::default())]
                    }
                    Op::Dense | Op::Sparse => forms(cli),
                };
                for (output, fused) in forms {
                    if fused.gated && !shape.n.is_multiple_of(2) {
                        odd.push(shape);
                        continue;
                    }
                    let kernels = chooser.choose(op, dtype, (output, fused), shape)?;
                    let case =
                        |(kernel, tuned)| Case { op, kernel, dtype, fused, output, tuned, shape };
                    cases.extend(kernels.into_iter().map(case));
                }
            }
        }
    }
    let list = |names: Vec<String>| names.join(", ");
    if !odd.is_empty() {
        let shapes = list(unique(&odd).iter().map(Shape::to_string).collect());
        let text =
            format!("gated: gates and values alternate, so N must be even, unlike in {shapes}");
        if cases.is_empty() {
            return Err(Usage(text).into());
        }
        eprintln!("bench: {text}; left out");
    }
    if cases.is_empty() {
        return Err(Usage(format!(
            "nothing to measure: on {} no kernel of {} computes {} in {}",
            backend.name(),
            list(cli.kernel.clone()),
            list(ops.iter().map(Op::to_string).collect()),
            list(cli.dtype.iter().map(|&dtype| dtype_name(dtype).to_owned()).collect()),
        ))
        .into());
    }
    Ok(cases)
}

/// The types of Y and the epilogues that the command line asks for, those of one type together.
fn forms(cli: &Cli) -> Vec<(Output, Fused)> {
    let epilogues = unique(&cli.epilogue);
    let of = |output| epilogues.iter().map(move |&fused| (output, fused));
    unique(&cli.output).into_iter().flat_map(of).collect()
}

/// Shapes that are summed up together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The suite's, or `shapes` for those that were asked for one by one.
    pub name: String,
    /// All of them.
    pub shapes: Vec<Shape>,
}

impl Group {
    /// Whether `case` is of one of these shapes. A compression is of every shape with its N and K.
    pub fn has(&self, case: &Case) -> bool {
        let Shape { n, k, .. } = case.shape;
        match case.op {
            Op::Compress => self.shapes.iter().any(|shape| (shape.n, shape.k) == (n, k)),
            Op::Dense | Op::Sparse => self.shapes.contains(&case.shape),
        }
    }
}

/// The suites that the command line asks for, else the default one; then its single shapes.
pub fn groups(cli: &Cli, backend: &Backend) -> Vec<Group> {
    let suites = match (&cli.suite[..], &cli.shape[..], backend) {
        ([], [], Backend::Cuda(_)) => &[Suite::Cubes][..],
        ([], [], Backend::Emulator(_) | Backend::Cpu) => &[Suite::Quick],
        (suites, ..) => suites,
    };
    let mut groups: Vec<Group> = unique(suites)
        .into_iter()
        .map(|suite| Group { name: suite.name(), shapes: suite.shapes() })
        .collect();
    if !cli.shape.is_empty() {
        groups.push(Group { name: "shapes".to_owned(), shapes: cli.shape.clone() });
    }
    groups
}

/// The shapes of all groups, each once.
fn shapes(cli: &Cli, backend: &Backend) -> Vec<Shape> {
    let groups = groups(cli, backend);
    unique(&groups.into_iter().flat_map(|group| group.shapes).collect::<Vec<_>>())
}

fn unique<T: Copy + PartialEq>(items: &[T]) -> Vec<T> {
    let mut unique = Vec::with_capacity(items.len());
    for item in items {
        if !unique.contains(item) {
            unique.push(*item);
        }
    }
    unique
}

/// Why `kernel` does not take the operands of `problem`, or `None` where it does.
fn refusal(kernel: Kernel, problem: &Problem) -> Option<String> {
    let Kernel::Gemm(Choice { kernel, .. }) = kernel else { return None };
    let Problem { m, n, k, .. } = problem;
    let limit = match k.is_multiple_of(8) {
        false => "K must be a multiple of 8",
        true => "N must be a multiple of 8, Y of X's type, neither gated nor with a residual",
    };
    (!kernels::takes(kernel, problem))
        .then(|| format!("{} does not take {m}x{n}x{k}: {limit}", kernel.name))
}

/// Chooses the kernels of the rows.
struct Chooser<'a> {
    cli: &'a Cli,
    backend: &'a Backend,
    /// Where rows are tuned.
    tuner: Option<Tuner>,
    progress: ProgressBar,
}

impl<'a> Chooser<'a> {
    fn new(cli: &'a Cli, backend: &'a Backend) -> Self {
        let store = || match &cli.cache {
            Some(path) => Store::open(path),
            None => Store::open_default(),
        };
        let device = backend.gpu().filter(|_| cli.tune);
        let tuner = device.map(|device| Tuner::new(device, store()));
        // Draws on stderr, and only where that is a terminal.
        Self { cli, backend, tuner, progress: ProgressBar::new_spinner() }
    }

    /// The kernels of a row: those of `--kernel` that apply, or the one that the tuner or the library takes.
    fn choose(
        &self,
        op: Op,
        dtype: Dtype,
        form: (Output, Fused),
        shape: Shape,
    ) -> Result<Vec<(Kernel, Option<Tuned>)>> {
        let names = &self.cli.kernel;
        if let (Some(device), [], Op::Dense | Op::Sparse) = (self.backend.device(), &names[..], op)
        {
            return Ok(vec![self.pick(device, op == Op::Sparse, dtype, form, shape)?]);
        }
        let Shape { m, n, k } = shape;
        let problem = Problem::new(op == Op::Sparse, dtype, m, n, k).with_epilogue(form.1, form.0);
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let every = names.is_empty() || has(ALL_KERNELS);
        let mut chosen = Vec::new();
        for kernel in self.backend.kernels() {
            let named = has(kernel.name());
            if (kernel.op(), kernel.dtype()) != (op, dtype) || !(every || named) {
                continue;
            }
            let kernel = match kernel {
                Kernel::Gemm(choice) => {
                    Kernel::Gemm(Choice { schedule: self.cli.schedule, ..choice })
                }
                other => other,
            };
            match self.backend.obstacle(kernel).or_else(|| refusal(kernel, &problem)) {
                None => chosen.push((kernel, None)),
                Some(reason) if named => return Err(Usage(reason).into()),
                Some(_) => {}
            }
        }
        Ok(chosen)
    }

    /// What the tuner takes for a product, else the library.
    fn pick(
        &self,
        device: &Arc<dyn Device>,
        sparse: bool,
        dtype: Dtype,
        (output, fused): (Output, Fused),
        Shape { m, n, k }: Shape,
    ) -> Result<(Kernel, Option<Tuned>)> {
        let problem = Problem::new(sparse, dtype, m, n, k).with_epilogue(fused, output);
        let Some(tuner) = &self.tuner else {
            let choice = heuristic::select(&problem, device.info())?;
            return Ok((Kernel::Gemm(choice), None));
        };
        let op = if sparse { Op::Sparse } else { Op::Dense };
        self.progress.set_message(format!("tuning {op} {m}x{n}x{k} {fused}"));
        let started = Instant::now();
        let record =
            tuner.record(&problem).with_context(|| format!("tuning {op} {m}x{n}x{k} {fused}"))?;
        let tuned = Tuned {
            median_us: record.median_us,
            heuristic: record.heuristic,
            heuristic_us: record.heuristic_us,
            seconds: (!record.from_store).then(|| started.elapsed().as_secs_f64()),
        };
        Ok((Kernel::Gemm(record.choice), Some(tuned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use sparseflow::EmulatedDevice;

    fn rows_on(backend: &Backend, line: &str) -> Result<Vec<String>> {
        let cases = plan(&Cli::try_parse_from(line.split(' '))?, backend)?;
        Ok(cases.iter().map(Case::to_string).collect())
    }

    fn rows(line: &str) -> Result<Vec<String>> {
        rows_on(&Backend::Cpu, line)
    }

    #[test]
    fn each_row_is_planned_once() {
        let line = "bench --shape 1x2x3,4x2x3,1x2x3 --op compress,dense,dense --epilogue bias,bias";
        let want =
            ["cpu_compress24_f16 2x3", "cpu_dense_f16 1x2x3 bias", "cpu_dense_f16 4x2x3 bias"];
        assert_eq!(rows(line).unwrap(), want);
    }

    #[test]
    fn forms_are_planned_by_type_of_y_and_gates_need_an_even_n() {
        let line = "bench --shape 1x2x3,1x3x3 --op dense --epilogue bias,gated --output input,int8";
        let want = ["1x2x3 bias", "1x2x3 gated", "1x2x3 bias int8", "1x2x3 gated int8"]
            .into_iter()
            .chain(["1x3x3 bias", "1x3x3 bias int8"])
            .map(|row| format!("cpu_dense_f16 {row}"));
        assert!(rows(line).unwrap().into_iter().eq(want));
        let error = rows("bench --shape 1x3x3 --epilogue gated-silu").unwrap_err();
        assert!(error.downcast_ref::<Usage>().unwrap().0.ends_with("unlike in 1x3x3"));
    }

    #[test]
    fn the_cpu_measures_quick_dense_and_sparse_by_default() {
        assert_eq!(rows("bench").unwrap().len(), 2 * Suite::Quick.shapes().len());
        assert_eq!(rows("bench --suite quick --shape 9x9x9 --op dense").unwrap().len(), 13);
    }

    #[test]
    fn the_emulator_has_the_kernels_of_a_gpu_and_is_spared_large_shapes() {
        let emulator = Backend::Emulator(EmulatedDevice::open(1));
        let default = rows_on(&emulator, "bench").unwrap();
        assert_eq!(
            default,
            rows_on(&emulator, "bench --suite quick --op dense,sparse,compress").unwrap()
        );
        assert!(default.contains(&"compress24_f16 33x40".to_owned()), "{default:?}");
        let all = rows_on(&emulator, "bench --shape 1x8x8 --dtype f16,bf16 --kernel all").unwrap();
        assert_eq!(all.len(), Kernel::gpu().count());
        // Some want rows that are multiples of 16 bytes.
        let odd = rows_on(&emulator, "bench --shape 1x2x3 --dtype f16,bf16 --kernel all").unwrap();
        let picky: Vec<_> = kernels::all().filter(|kernel| kernel.family.is_hopper()).collect();
        assert_eq!(odd.len(), all.len() - picky.len());
        for kernel in picky {
            let line = format!("bench --shape 1x2x3 --dtype f16,bf16 --kernel {}", kernel.name);
            let error = rows_on(&emulator, &line).unwrap_err().downcast::<Usage>().unwrap().0;
            let want = format!("{} does not take 1x2x3: K must be a multiple of 8", kernel.name);
            assert_eq!(error, want);
        }
        let some = "sm90_sparse24_f16_192x256x64_c2";
        let line = format!("bench --shape 1x2x8 --kernel {some}");
        let error = rows_on(&emulator, &line).unwrap_err().downcast::<Usage>().unwrap().0;
        assert!(error.starts_with(&format!("{some} does not take 1x2x8: N must be")), "{error}");
    }

    #[test]
    fn kernels_apply_where_they_can() {
        let line = "bench --shape 1x2x3 --dtype f16,bf16 --kernel cpu_sparse24_bf16";
        assert_eq!(rows(line).unwrap(), ["cpu_sparse24_bf16 1x2x3 none"]);
        assert_eq!(rows("bench --shape 1x2x3 --kernel all").unwrap().len(), 2);
        let error = rows("bench --kernel compress24_f16").unwrap_err();
        assert!(error.downcast_ref::<Usage>().unwrap().0.contains("compress24_f16"));
    }
}
