//! The binary as another program sees it: exit status, JSON, files.

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use half::f16;
use npyz::NpyFile;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Unit roundoff of f16 and of f32.
const UNIT_ROUNDOFF: (f64, f64) = (1.0 / 2048.0, 1.0 / 16_777_216.0);

fn bench(arguments: &str) -> Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(arguments.split_whitespace()).assert()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// A dumped f16 matrix or vector, widened, and its extents.
fn load(directory: &Path, name: &str) -> (Vec<f64>, Vec<u64>) {
    let bytes = fs::read(directory.join(name)).unwrap();
    let npy = NpyFile::new(&bytes[..]).unwrap();
    let shape = npy.shape().to_vec();
    (npy.into_vec::<f16>().unwrap().into_iter().map(f16::to_f64).collect(), shape)
}

#[test]
fn a_run_leaves_all_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let dump = path("made/by/bench");
    let assert = bench(&format!(
        "--backend cpu --shape 17x33x40 --op dense,sparse,compress --epilogue none,bias-relu \
         --repeat 3 --json {} --markdown {} --dump {}",
        path("f.json").display(),
        path("g.md").display(),
        dump.display(),
    ))
    .success();
    assert!(stdout(&assert).ends_with("5 rows, all right\n"));
    assert_eq!(stderr(&assert), "");

    let report: Value = serde_json::from_slice(&fs::read(path("f.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let kernels: Vec<&str> = rows.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    let (dense, sparse) = ("cpu_dense_f16", "cpu_sparse24_f16");
    assert_eq!(kernels, [dense, dense, sparse, sparse, "cpu_compress24_f16"]);
    for row in rows {
        assert_eq!((&row["check"]["passed"], &row["backend"]), (&true.into(), &"cpu".into()));
        assert_eq!(row["samples_us"].as_array().unwrap().len(), 3);
        assert!(row["time_us"]["median"].as_f64().unwrap() > 0.0);
        assert!(row["gb_per_s"].as_f64().unwrap() > 0.0);
    }
    let figure = |row: usize, key: &str| rows[row][key].as_f64().unwrap();
    assert_eq!(figure(1, "tflops"), figure(1, "tflops_executed"));
    assert_eq!(figure(2, "tflops"), 2.0 * figure(2, "tflops_executed"));
    assert_eq!((rows[1]["shape"]["m"].as_u64(), rows[4]["shape"]["m"].as_u64()), (Some(17), None));

    let markdown = fs::read_to_string(path("g.md")).unwrap();
    assert!(markdown.starts_with("`bench --backend cpu --shape 17x33x40 "));
    assert_eq!(markdown.lines().filter(|line| line.starts_with('|')).count(), 2 + 5);

    (0..4).for_each(|row| recompute(&dump, row, row % 2 == 1));
    let (pruned, shape) = load(&dump, "4_w.npy");
    assert_eq!((shape, &pruned), (vec![33, 40], &load(&dump, "2_w.npy").0));
    let nonzeros = |w: &[f64]| w.chunks(4).map(|g| g.iter().filter(|&&w| w != 0.0).count()).max();
    assert_eq!((nonzeros(&pruned), nonzeros(&load(&dump, "0_w.npy").0)), (Some(2), Some(4)));
    assert!(!dump.join("4_x.npy").exists() && !dump.join("0_bias.npy").exists());
}

#[test]
fn the_emulator_counts_what_the_kernels_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let kernels = "sm80_dense_f16_64x64x64,sm80_sparse24_f16_32x64x64,compress24_f16";
    let run = |seed: u32| {
        let assert = bench(&format!(
            "--backend emulator --shape 64x64x64 --kernel {kernels} --seed {seed} --json {} --dump {}",
            path("f.json").display(),
            path("dump").display(),
        ))
        .success();
        let report: Value = serde_json::from_slice(&fs::read(path("f.json")).unwrap()).unwrap();
        (stdout(&assert), report)
    };
    let (text, report) = run(1);
    assert!(text.ends_with("3 rows, all right\n") && text.contains("bank conflicts"), "{text}");
    assert_eq!(
        (&report["schema_version"], &report["environment"]["gpu"]),
        (&1.into(), &Value::Null)
    );
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        assert_eq!((&row["check"]["passed"], &row["backend"]), (&true.into(), &"emulator".into()));
        for key in ["time_us", "tflops", "tflops_executed", "gb_per_s"] {
            assert_eq!(row[key], Value::Null, "{key}");
        }
        assert_eq!(row["samples_us"], Value::Array(vec![]));
        assert!(row["emulator"]["seconds"].as_f64().unwrap() > 0.0);
    }

    let counter = |row: usize, key: &str| rows[row]["emulator"][key].as_u64().unwrap();
    // Dense: one block of 4 warps; each has 2 x 4 tiles of m16n8 and 4 steps of k16. Sparse: two blocks
    // of 4 warps; each has 1 tile of 16 features by 4 of 8 tokens, and 2 steps of k32.
    assert_eq!([0, 1, 2].map(|row| counter(row, "mma")), [4 * 2 * 4 * 4, 2 * 4 * 4 * 2, 0]);
    assert_eq!(rows[0]["emulator"]["families"]["mma"], 128);
    assert_eq!(rows[1]["emulator"]["families"]["mma.sp"], 64);
    // X and W are read once, Y is written once. W is packed from 2 bytes an element to 1.125.
    assert_eq!(counter(0, "global_read_bytes"), 2 * 64 * 64 * 2);
    assert_eq!(counter(0, "global_written_bytes"), 64 * 64 * 2);
    assert_eq!(counter(2, "global_read_bytes"), 64 * 64 * 2);
    assert_eq!(counter(2, "global_written_bytes"), 64 * 64 + 64 * 64 / 8);
    // The kernels of a GEMM never split a warp where tiles are whole.
    assert_eq!([0, 1].map(|row| counter(row, "divergent_branches")), [0, 0]);

    // Another order of warps, with the same inputs' counts.
    let (_, other) = run(2);
    let other = &other["rows"][0]["emulator"];
    for key in ["mma", "warp_instructions", "bank_conflicts", "barriers", "families"] {
        assert_eq!(other[key], rows[0]["emulator"][key], "{key}");
    }
    for name in ["0_x", "0_w", "0_y", "1_x", "1_w", "1_y", "2_w"] {
        let (matrix, extents) = load(&path("dump"), &format!("{name}.npy"));
        assert_eq!((matrix.len(), extents), (64 * 64, vec![64, 64]), "{name}");
    }
}

/// Computes Y of a dumped row from the files alone, and compares.
fn recompute(dump: &Path, row: usize, bias_relu: bool) {
    let (m, n, k) = (17, 33, 40);
    let (x, x_shape) = load(dump, &format!("{row}_x.npy"));
    let (w, w_shape) = load(dump, &format!("{row}_w.npy"));
    let (y, y_shape) = load(dump, &format!("{row}_y.npy"));
    assert_eq!([x_shape, w_shape, y_shape], [[m, k], [n, k], [m, n]].map(|s| s.to_vec()));
    let bias = bias_relu.then(|| load(dump, &format!("{row}_bias.npy")).0);
    let (m, n, k) = (m as usize, n as usize, k as usize);
    for (i, &y) in y.iter().enumerate() {
        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        let mut want: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
        let mut sum: f64 = x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum();
        if let Some(bias) = &bias {
            want = (want + bias[i % n]).max(0.0);
            sum += bias[i % n].abs();
        }
        // Sixteen roundings are more than any epilogue has.
        let bound = UNIT_ROUNDOFF.0 * want.abs() + (k + 16) as f64 * UNIT_ROUNDOFF.1 * sum;
        assert!((y - want).abs() <= bound, "row {row}, element {i} of {}: {y} {want}", m * n);
    }
}

/// A dumped matrix of any type, widened.
fn widened(directory: &Path, name: &str) -> Vec<f64> {
    let bytes = fs::read(directory.join(name)).unwrap();
    let npy = NpyFile::new(&bytes[..]).unwrap();
    match npy.dtype().descr().as_str() {
        "'<f2'" => npy.into_vec::<f16>().unwrap().into_iter().map(f16::to_f64).collect(),
        "'<f4'" => npy.into_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
        "'|i1'" => npy.into_vec::<i8>().unwrap().into_iter().map(f64::from).collect(),
        other => panic!("{name} is of type {other}"),
    }
}

/// Computes Y of a dumped row with any of residual, gates and ReLU from the files alone, and compares.
fn recompute_form(dump: &Path, row: usize, (m, n, k): (usize, usize, usize), json: &Value) {
    let (form, output) = (json["epilogue"].as_str().unwrap(), json["output"].as_str().unwrap());
    let load = |name: &str| widened(dump, &format!("{row}_{name}.npy"));
    let (x, w, y) = (load("x"), load("w"), load("y"));
    let mut z = vec![0.0; m * n];
    let mut s = vec![0.0; m * n];
    let bias = if form.contains("bias") { load("bias") } else { vec![0.0; n] };
    let c = if form.contains("residual") { load("c") } else { vec![0.0; m * n] };
    for i in 0..m * n {
        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        let products = x.iter().zip(w).map(|(x, w)| x * w);
        z[i] = products.clone().sum::<f64>() + c[i] + bias[i % n];
        s[i] = products.map(f64::abs).sum::<f64>() + c[i].abs() + bias[i % n].abs();
    }
    let activated = |z: f64| if form.contains("relu") { z.max(0.0) } else { z };
    let relative = (k + 16) as f64 * UNIT_ROUNDOFF.1;
    let columns = if form.contains("gated") { n / 2 } else { n };
    let scale = if output == "int8" { load("row_scale") } else { vec![1.0; m] };
    let rounding = match output {
        "int8" => |_: f64| 0.5,
        "f32" => |y: f64| y.abs() * UNIT_ROUNDOFF.1,
        _ => |y: f64| y.abs() * UNIT_ROUNDOFF.0,
    };
    assert_eq!(y.len(), m * columns, "{form} {output}");
    for (i, &y) in y.iter().enumerate() {
        let (row, col) = (i / columns, i % columns);
        let (mut want, error) = match form.contains("gated") {
            true => {
                let (gate, value) = (row * n + 2 * col, row * n + 2 * col + 1);
                (activated(z[gate]) * z[value], 3.0 * relative * s[gate] * s[value])
            }
            false => (activated(z[i]), relative * s[i]),
        };
        want *= scale[row];
        if output == "int8" {
            want = want.clamp(-128.0, 127.0);
        }
        let bound = rounding(want) + error * scale[row];
        assert!((y - want).abs() <= bound, "{form} {output}, element {i}: {y} {want} {bound:e}");
    }
    if output == "int8" {
        let levels: std::collections::BTreeSet<i64> = y.iter().map(|&y| y as i64).collect();
        assert!(levels.len() > 20, "the scales leave {levels:?}");
    }
}

#[test]
fn every_form_of_the_epilogue_is_computed_checked_and_dumped() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (m, n, k) = (17, 34, 40);
    for backend in ["cpu", "emulator"] {
        let line = format!(
            "--backend {backend} --shape {m}x{n}x{k} --op dense,sparse --output input,f32,int8 --runs 2 \
             --epilogue residual,bias-residual-relu,gated-relu,bias-gated --json {} --dump {}",
            path("f.json").display(),
            path("dump").display(),
        );
        let assert = bench(&line).success();
        let text = stdout(&assert);
        assert!(text.contains("2 runs, 48 rows computed and checked, 0 errors\n"), "{text}");
        let report: Value = serde_json::from_slice(&fs::read(path("f.json")).unwrap()).unwrap();
        assert_eq!(report["soak"], serde_json::json!({ "runs": 2, "rows": 48, "errors": 0 }));
        let rows = report["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 24);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!((&row["check"]["passed"], &row["bare"]), (&true.into(), &Value::Null));
            let later = row["later_runs_us"].as_array().unwrap();
            assert_eq!((later.len(), later[0].is_null()), (1, backend == "emulator"));
            recompute_form(&path("dump"), index, (m, n, k), row);
        }
    }
}

#[test]
fn gates_need_an_even_number_of_features() {
    let assert = bench("--backend cpu --shape 2x3x4,2x4x4 --epilogue gated-silu").success();
    assert!(stderr(&assert).contains("unlike in 2x3x4; left out"), "{}", stderr(&assert));
    assert!(stdout(&assert).ends_with("2 rows, all right\n"));
}

#[test]
fn the_seed_decides_the_inputs() {
    let directory = tempfile::tempdir().unwrap();
    let x = |seed: u32, dtype: &str| {
        let dump = directory.path().display();
        bench(&format!(
            "--backend cpu --shape 2x3x4 --op dense --seed {seed} --dtype {dtype} --dump {dump}"
        ))
        .success();
        fs::read(directory.path().join("0_x.npy")).unwrap()
    };
    let once = x(5, "f16");
    assert_eq!(once, x(5, "f16"));
    assert_ne!(once, x(6, "f16"));
    let wide = x(5, "bf16");
    assert_eq!(NpyFile::new(&wide[..]).unwrap().into_vec::<f32>().unwrap().len(), 8);
}

#[test]
fn the_start_up_of_fresh_processes_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.json");
    for op in ["dense", "sparse"] {
        let line = "--backend emulator --startup --shape 33x40x72 --repeat 2 --dtype bf16";
        let assert = bench(&format!("{line} --op {op} --json {}", path.display())).success();
        assert!(stdout(&assert).contains("medians of 2 fresh processes"), "{}", stdout(&assert));
        let report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let startup = &report["startup"];
        assert_eq!((&startup["op"], &startup["shape"]), (&op.into(), &"33x40x72".into()));
        for sample in startup["samples"].as_array().unwrap() {
            let figure = |key: &str| sample[key].as_f64().unwrap();
            let stages =
                ["library_ms", "init_ms", "context_ms", "operands_ms", "compile_ms", "result_ms"];
            let sum: f64 = stages.map(figure).iter().sum();
            assert!((figure("total_ms") - sum).abs() < 1e-6 && figure("result_ms") > 0.0);
            assert!(figure("plan_call_us") > 0.0 && figure("tuner_call_us") > 0.0);
        }
        assert_eq!(startup["samples"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn bad_usage_is_named_and_exits_with_2() {
    let bad = |arguments: &str, word: &str| {
        let assert = bench(arguments).code(2);
        assert!(stderr(&assert).contains(word), "{}", stderr(&assert));
        assert_eq!(stdout(&assert), "");
    };
    bad("--shape 17x33", "17x33");
    bad("--shape 0x1x1", "M is `0`");
    bad("--suite none-such", "none-such");
    bad("--kernel sm80_dense", "`sm80_dense`");
    bad("--epilogue swish", "`swish`");
    bad("--epilogue gated-silu --shape 2x3x4 --backend cpu", "unlike in 2x3x4");
    bad("--output int4", "`int4`");
    bad("--runs 0", "--runs");
    bad("--op transpose", "transpose");
    bad("--peer-libs /", "--peers");
    bad("--peers --peer-libs /no/such", "/no/such is no folder");
    bad("--backend emulator --repeat 3", "--repeat");
    bad("--backend emulator --kernel cpu_dense_f16", "cpu_dense_f16");
    bad("--backend cpu --kernel compress24_f16", "compress24_f16");
    bad("--tune --backend cpu", "--tune");
    bad("--schedule stream-k", "--kernel");
    bad("--kernel all --schedule split-k-99", "`split-k-99`");
    bad("--startup --op compress", "--startup");
    bad("--startup --backend cpu", "--startup");
    bad("--frobnicate", "--frobnicate");
}

#[test]
fn peers_without_a_gpu_are_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.json");
    for backend in ["cpu", "emulator"] {
        let assert =
            bench(&format!("--peers --backend {backend} --shape 3x5x7 --json {}", path.display()))
                .success();
        assert_eq!(stderr(&assert), "bench: --peers: peers need a GPU, none is measured\n");
        let report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(report["environment"]["peers"], serde_json::json!({}));
        for row in report["rows"].as_array().unwrap() {
            assert_eq!(row["peers"], serde_json::json!({}));
        }
    }
}

#[test]
fn a_path_that_cannot_be_written_is_found_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/out.json");
    let assert = bench(&format!("--backend cpu --suite llama --json {}", path.display())).code(1);
    assert!(stderr(&assert).contains("none/out.json"));
    assert_eq!(stdout(&assert), "");
}

#[test]
fn the_list_has_suites_epilogues_and_kernels() {
    let list = stdout(&bench("--list").success());
    let words = [
        "quick",
        "cubes",
        "llama",
        "4096x4096x11008",
        "bias-gelu-tanh",
        "bias-residual-silu",
        "input f32 int8",
        "cpu_dense_f16",
        "emulator",
    ];
    for word in words {
        assert!(list.contains(word), "{word}");
    }
    for kernel in sparseflow::kernels::all() {
        assert!(list.contains(kernel.name), "{}", kernel.name);
    }
}
