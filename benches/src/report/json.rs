//! The rows as JSON, for other programs: the schema of the contract, null where a figure does not
//! apply.
//!
//! Rows of the emulator have no times (`time_us` null, `samples_us` empty) and under `emulator` what the
//! launch did; the key is null on every other row, and where a finding ended the launch.

use super::{Peer, Report, Row, Soak};
use crate::cases::Tuned;
use crate::check::Verdict;
use crate::emulator::Emulation;
use crate::environment::Environment;
use crate::kernel::{Op, dtype_name, output_name};
use crate::startup::Startup;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised when a key changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct JsonReport<'a> {
    schema_version: u32,
    environment: &'a Environment,
    rows: Vec<JsonRow<'a>>,
    /// Null where there was one run.
    soak: Option<Soak>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    op: String,
    kernel: &'static str,
    /// How its thread blocks share the work; null where it is no GEMM of the GPU.
    schedule: Option<String>,
    dtype: &'static str,
    epilogue: Option<String>,
    /// Type of Y; null where it is no product.
    output: Option<&'static str>,
    backend: &'static str,
    shape: JsonShape,
    check: JsonCheck<'a>,
    time_us: Option<JsonTimes>,
    samples_us: Option<&'a [f64]>,
    tflops: Option<f64>,
    tflops_executed: Option<f64>,
    gb_per_s: Option<f64>,
    emulator: Option<JsonEmulation<'a>>,
    tuned: Option<JsonTuned>,
    /// Null where the row has no epilogue, or nothing took turns with it.
    bare: Option<JsonBare<'a>>,
    /// Median times of the runs after the first, which all other figures are of; null where one was wrong or
    /// is not timed.
    later_runs_us: &'a [Option<f64>],
    peers: BTreeMap<&'static str, Option<JsonPeer<'a>>>,
}

#[derive(Serialize)]
struct JsonShape {
    m: Option<usize>,
    n: usize,
    k: usize,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    passed: bool,
    max_abs: Option<f64>,
    rel_fro: Option<f64>,
    tolerance: Option<f64>,
    method: &'static str,
    fault: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonTimes {
    min: f64,
    median: f64,
    p95: f64,
    cv: f64,
}

/// Counters of the row's one launch. Instructions are a warp's, unless they say otherwise; bytes are
/// those that lanes ask for, each lane counted.
#[derive(Serialize)]
struct JsonEmulation<'a> {
    /// On this machine; says nothing of a GPU.
    seconds: f64,
    warp_instructions: u64,
    lane_instructions: u64,
    mma: u64,
    /// Completed by a block or cluster.
    barriers: u64,
    /// Wavefronts lost to them, of `shared_wavefronts`.
    bank_conflicts: u64,
    shared_wavefronts: u64,
    /// 32-byte sectors that a warp's request to global memory touches.
    sectors_per_request: f64,
    global_read_bytes: u64,
    global_written_bytes: u64,
    shared_read_bytes: u64,
    shared_written_bytes: u64,
    /// Branches at which a warp split.
    divergent_branches: u64,
    /// Instructions by family.
    families: &'a BTreeMap<&'static str, u64>,
}

impl<'a> From<&'a Emulation> for JsonEmulation<'a> {
    fn from(emulation: &'a Emulation) -> Self {
        let counters = &emulation.counters;
        Self {
            seconds: emulation.seconds,
            warp_instructions: counters.instructions,
            lane_instructions: counters.lane_instructions,
            mma: counters.mma,
            barriers: counters.barriers,
            bank_conflicts: counters.bank_conflicts(),
            shared_wavefronts: emulation.shared_wavefronts(),
            sectors_per_request: counters.sectors_per_request(),
            global_read_bytes: counters.bytes.global_read,
            global_written_bytes: counters.bytes.global_written,
            shared_read_bytes: counters.bytes.shared_read,
            shared_written_bytes: counters.bytes.shared_written,
            divergent_branches: counters.divergent_branches,
            families: &counters.families,
        }
    }
}

/// What the tuner measured, in microseconds, where the row's kernel is its choice.
#[derive(Serialize)]
struct JsonTuned {
    median_us: f64,
    heuristic_us: Option<f64>,
    /// Kernel and schedule that the heuristic chose.
    heuristic: Option<String>,
    from_store: bool,
    /// How long tuning took.
    seconds: Option<f64>,
}

impl From<Tuned> for JsonTuned {
    fn from(tuned: Tuned) -> Self {
        Self {
            median_us: tuned.median_us,
            heuristic_us: tuned.heuristic_us,
            heuristic: tuned.heuristic.map(|choice| choice.to_string()),
            from_store: tuned.seconds.is_none(),
            seconds: tuned.seconds,
        }
    }
}

/// The row's kernel and schedule without an epilogue, Y in the type of X, timed in turns with it.
#[derive(Serialize)]
struct JsonBare<'a> {
    median_us: f64,
    /// How much longer the row takes, from neighbouring turns.
    ratio: Option<f64>,
    samples_us: &'a [f64],
}

/// A vendor's library on the same row, timed in turns with it; null in its place where it took no part.
#[derive(Serialize)]
struct JsonPeer<'a> {
    median_us: Option<f64>,
    tflops: Option<f64>,
    /// Its median over the row's: above 1 the row is faster.
    ratio: Option<f64>,
    /// The form of the epilogue that it computed.
    epilogue: Option<String>,
    check: JsonCheck<'a>,
    samples_us: Option<&'a [f64]>,
}

impl<'a> JsonPeer<'a> {
    fn new(row: &Row, peer: &'a Peer) -> Option<Self> {
        let check = JsonCheck::from(peer.outcome.as_ref().ok()?);
        let times = peer.times.as_ref();
        Some(Self {
            median_us: times.map(|times| times.median),
            tflops: times.and_then(|times| row.tflops_in(times)),
            ratio: row.ratio(peer),
            epilogue: (row.case.op != Op::Compress).then(|| peer.form.to_string()),
            check,
            samples_us: times.map(|times| &times.samples[..]),
        })
    }
}

impl<'a> From<&'a Verdict> for JsonCheck<'a> {
    fn from(verdict: &'a Verdict) -> Self {
        let errors = verdict.errors;
        Self {
            passed: verdict.passed,
            max_abs: errors.map(|errors| errors.max_abs),
            rel_fro: errors.map(|errors| errors.rel_fro),
            tolerance: errors.map(|errors| errors.tolerance),
            method: verdict.method,
            fault: verdict.fault.as_deref(),
        }
    }
}

impl<'a> From<&'a Row> for JsonRow<'a> {
    fn from(row: &'a Row) -> Self {
        let case = &row.case;
        let gemm = case.op != Op::Compress;
        Self {
            op: case.op.to_string(),
            kernel: case.kernel.name(),
            schedule: case.kernel.schedule().map(|schedule| schedule.to_string()),
            dtype: dtype_name(case.dtype),
            epilogue: gemm.then(|| case.fused.to_string()),
            output: gemm.then(|| output_name(case.output, case.dtype)),
            backend: row.backend,
            shape: JsonShape { m: gemm.then_some(case.shape.m), n: case.shape.n, k: case.shape.k },
            check: JsonCheck::from(&row.check),
            time_us: row.times().map(|times| JsonTimes {
                min: times.min,
                median: times.median,
                p95: times.p95,
                cv: times.cv,
            }),
            samples_us: match row.times() {
                Some(times) => Some(&times.samples),
                None => row.is_emulated().then_some(&[]),
            },
            tflops: row.tflops(),
            tflops_executed: row.tflops_executed(),
            gb_per_s: row.gb_per_s(),
            emulator: row.emulation.as_ref().map(JsonEmulation::from),
            tuned: case.tuned.map(JsonTuned::from),
            bare: row.bare.as_ref().filter(|_| row.check.passed).map(|bare| JsonBare {
                median_us: bare.median,
                ratio: row.bare_ratio(),
                samples_us: &bare.samples,
            }),
            later_runs_us: &row.later_runs_us,
            peers: row.peers.iter().map(|peer| (peer.name, JsonPeer::new(row, peer))).collect(),
        }
    }
}

/// The report.
///
/// # Errors
/// None that is known; serde's signature has one.
pub fn json(report: &Report<'_>) -> Result<String> {
    let rows = report.rows.iter().map(JsonRow::from).collect();
    let Report { environment, soak, .. } = *report;
    let report = JsonReport { schema_version: SCHEMA_VERSION, environment, rows, soak };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

/// The report of `--startup`.
///
/// # Errors
/// As [`json`].
pub fn startup(startup: &Startup, environment: &Environment) -> Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        schema_version: u32,
        environment: &'a Environment,
        startup: &'a Startup,
    }
    let report = Report { schema_version: SCHEMA_VERSION, environment, startup };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::kernel::Kernel;
    use crate::report::peers::tests::{missing, peer};
    use crate::report::tests::{emulated, row};
    use layout::params::Output;
    use serde_json::{Value, json};
    use sparseflow::measure::Times;
    use sparseflow::{Choice, Schedule};

    fn text(rows: &[Row]) -> String {
        let environment = &Environment::now(&Backend::Cpu, None);
        super::json(&Report { rows, environment, groups: &[], soak: None }).unwrap()
    }

    fn rows(rows: &[Row]) -> Value {
        let text = text(rows);
        serde_json::from_str::<Value>(&text).unwrap()["rows"].clone()
    }

    #[test]
    fn every_key_of_the_contract_is_there() {
        let want = json!({
            "op": "sparse",
            "kernel": "cpu_sparse24_f16",
            "schedule": null,
            "dtype": "f16",
            "epilogue": "none",
            "output": "f16",
            "backend": "cpu",
            "shape": { "m": 1000, "n": 2000, "k": 3000 },
            "check": {
                "passed": true,
                "max_abs": 0.25,
                "rel_fro": 0.125,
                "tolerance": 0.5,
                "method": "f64",
                "fault": null,
            },
            "time_us": { "min": 4.0, "median": 5.0, "p95": 6.0, "cv": row(Op::Dense, true).times().unwrap().cv },
            "samples_us": [6.0, 5.0, 4.0],
            "tflops": 2400.0,
            "tflops_executed": 1200.0,
            "gb_per_s": 2.0,
            "emulator": null,
            "tuned": null,
            "bare": null,
            "later_runs_us": [],
            "peers": {},
        });
        assert_eq!(rows(&[row(Op::Sparse, true)])[0], want);
    }

    #[test]
    fn the_emulator_counts_and_times_nothing() {
        let rows = rows(&[emulated(Op::Dense, true), emulated(Op::Dense, false)]);
        let want = json!({
            "seconds": 0.25,
            "warp_instructions": 4000,
            "lane_instructions": 120_000,
            "mma": 128,
            "barriers": 3,
            "bank_conflicts": 4,
            "shared_wavefronts": 21,
            "sectors_per_request": 2.5,
            "global_read_bytes": 16_384,
            "global_written_bytes": 8192,
            "shared_read_bytes": 4096,
            "shared_written_bytes": 2048,
            "divergent_branches": 5,
            "families": { "mma": 128, "ldmatrix": 64 },
        });
        assert_eq!((&rows[0]["emulator"], &rows[0]["backend"]), (&want, &"emulator".into()));
        assert_eq!(rows[1]["emulator"], Value::Null);
        for key in ["time_us", "tflops", "tflops_executed", "gb_per_s"] {
            assert_eq!(rows[0][key], Value::Null, "{key}");
        }
        assert_eq!((&rows[0]["samples_us"], &rows[1]["samples_us"]), (&json!([]), &json!([])));
    }

    #[test]
    fn the_environment_has_every_key() {
        let text = text(&[]);
        let report: Value = serde_json::from_str(&text).unwrap();
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&report), ["environment", "rows", "schema_version", "soak"]);
        assert_eq!(report["schema_version"], 1);
        let environment = &report["environment"];
        let want = [
            "commit",
            "cores",
            "cpu",
            "driver",
            "gpu",
            "peers",
            "ptx_blake3",
            "rustc_device",
            "sm",
            "started_at",
        ];
        assert_eq!(keys(environment), want);
        let time = environment["started_at"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        assert_eq!((&environment["gpu"], &environment["sm"]), (&Value::Null, &Value::Null));
        assert_eq!(environment["ptx_blake3"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn peers_have_figures_or_are_null() {
        let peers = vec![peer("cublaslt", 2.5), missing("b", Err("no")), missing("c", Ok("wrong"))];
        let rows = rows(&[row(Op::Dense, true).beside(peers), row(Op::Dense, true)]);
        let peers = &rows[0]["peers"];
        assert_eq!(peers["cublaslt"]["median_us"], 2.5);
        assert_eq!(
            (&peers["cublaslt"]["tflops"], &peers["cublaslt"]["ratio"]),
            (&json!(4800.0), &json!(0.5))
        );
        assert_eq!(peers["cublaslt"]["check"]["passed"], true);
        assert_eq!(peers["cublaslt"]["samples_us"], json!([2.5]));
        assert_eq!(peers["b"], Value::Null);
        assert_eq!(
            (&peers["c"]["check"]["fault"], &peers["c"]["ratio"]),
            (&json!("wrong"), &Value::Null)
        );
        assert_eq!(rows[1]["peers"], json!({}));
    }

    #[test]
    fn a_row_with_an_epilogue_is_set_against_its_kernel_without() {
        let mut fused = row(Op::Dense, true).against(Times::new(vec![4.0, 4.0, 4.0]));
        fused.case.fused = "bias".parse().unwrap();
        fused.case.output = Output::F32;
        let rows = rows(&[fused]);
        assert_eq!((&rows[0]["output"], &rows[0]["epilogue"]), (&json!("f32"), &json!("bias")));
        let want = json!({ "median_us": 4.0, "ratio": 1.25, "samples_us": [4.0, 4.0, 4.0] });
        assert_eq!(rows[0]["bare"], want);
    }

    #[test]
    fn a_tuned_row_says_where_its_choice_comes_from() {
        let kernel = sparseflow::kernels::find("sm80_dense_f16_64x64x64").unwrap();
        let choice = Choice { kernel, schedule: Schedule::SplitK(3) };
        let mut row = row(Op::Dense, true);
        row.case.kernel = Kernel::Gemm(choice);
        let heuristic = Some(kernel.into());
        let tuned =
            Tuned { median_us: 4.0, heuristic, heuristic_us: Some(5.0), seconds: Some(0.5) };
        row.case.tuned = Some(tuned);
        let mut stored = row.clone();
        stored.case.tuned = Some(Tuned { seconds: None, heuristic: None, ..tuned });
        let rows = rows(&[row, stored]);
        assert_eq!(
            (&rows[0]["kernel"], &rows[0]["schedule"]),
            (&json!(kernel.name), &json!("split-k-3"))
        );
        let want = json!({
            "median_us": 4.0,
            "heuristic_us": 5.0,
            "heuristic": kernel.name,
            "from_store": false,
            "seconds": 0.5,
        });
        assert_eq!(rows[0]["tuned"], want);
        assert_eq!(rows[1]["tuned"]["from_store"], true);
        assert_eq!(rows[1]["tuned"]["heuristic"], Value::Null);
    }

    #[test]
    fn what_does_not_apply_is_null() {
        let rows = rows(&[row(Op::Dense, false), row(Op::Compress, true)]);
        for key in ["time_us", "samples_us", "tflops", "tflops_executed", "gb_per_s"] {
            assert_eq!(rows[0][key], Value::Null, "{key}");
        }
        assert_eq!(rows[0]["check"]["passed"], false);
        for value in [&rows[1]["shape"]["m"], &rows[1]["tflops"], &rows[1]["epilogue"]] {
            assert_eq!(*value, Value::Null);
        }
    }
}
