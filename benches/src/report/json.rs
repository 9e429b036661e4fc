//! The rows as JSON, for other programs: the schema of the contract, null where a figure does not
//! apply.

use super::Row;
use crate::environment::Environment;
use crate::kernel::{Op, dtype_name};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised when a key changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema_version: u32,
    environment: &'a Environment,
    rows: Vec<JsonRow<'a>>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    op: String,
    kernel: &'static str,
    dtype: &'static str,
    epilogue: Option<String>,
    backend: &'static str,
    shape: JsonShape,
    check: JsonCheck<'a>,
    time_us: Option<JsonTimes>,
    samples_us: Option<&'a [f64]>,
    tflops: Option<f64>,
    tflops_executed: Option<f64>,
    gb_per_s: Option<f64>,
    peers: BTreeMap<&'static str, Peer>,
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

/// A vendor library on the same row. None is measured yet.
#[derive(Serialize)]
enum Peer {}

impl<'a> From<&'a Row> for JsonRow<'a> {
    fn from(row: &'a Row) -> Self {
        let case = &row.case;
        let gemm = case.op != Op::Compress;
        let errors = row.check.errors;
        Self {
            op: case.op.to_string(),
            kernel: case.kernel.name(),
            dtype: dtype_name(case.dtype),
            epilogue: gemm.then(|| case.fused.to_string()),
            backend: row.backend,
            shape: JsonShape { m: gemm.then_some(case.shape.m), n: case.shape.n, k: case.shape.k },
            check: JsonCheck {
                passed: row.check.passed,
                max_abs: errors.map(|errors| errors.max_abs),
                rel_fro: errors.map(|errors| errors.rel_fro),
                tolerance: errors.map(|errors| errors.tolerance),
                method: row.check.method,
                fault: row.check.fault.as_deref(),
            },
            time_us: row.times().map(|times| JsonTimes {
                min: times.min,
                median: times.median,
                p95: times.p95,
                cv: times.cv,
            }),
            samples_us: row.times().map(|times| &times.samples[..]),
            tflops: row.tflops(),
            tflops_executed: row.tflops_executed(),
            gb_per_s: row.gb_per_s(),
            peers: BTreeMap::new(),
        }
    }
}

/// The report.
///
/// # Errors
/// None that is known; serde's signature has one.
pub fn json(rows: &[Row], environment: &Environment) -> Result<String> {
    let rows = rows.iter().map(JsonRow::from).collect();
    let report = Report { schema_version: SCHEMA_VERSION, environment, rows };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::report::tests::row;
    use serde_json::{Value, json};

    fn rows(rows: &[Row]) -> Value {
        let text = super::json(rows, &Environment::now(&Backend::Cpu)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["rows"].clone()
    }

    #[test]
    fn every_key_of_the_contract_is_there() {
        let want = json!({
            "op": "sparse",
            "kernel": "cpu_sparse24_f16",
            "dtype": "f16",
            "epilogue": "none",
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
            "peers": {},
        });
        assert_eq!(rows(&[row(Op::Sparse, true)])[0], want);
    }

    #[test]
    fn the_environment_has_every_key() {
        let text = super::json(&[], &Environment::now(&Backend::Cpu)).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&report), ["environment", "rows", "schema_version"]);
        assert_eq!(report["schema_version"], 1);
        let environment = &report["environment"];
        let want = [
            "commit",
            "cores",
            "cpu",
            "driver",
            "gpu",
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
