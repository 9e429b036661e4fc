//! Every case on a GPU of compute capability 9.0: `cargo test -p device_tests --test gpu -- --ignored`.
//!
//! With `SPARSEFLOW_WRITE_GOLDENS=DIR` the outputs are written to DIR and compared with the naive computation
//! alone, not with the goldens.
//!
//! A kernel that fails leaves its process without a usable GPU, and one that hangs never ends. So each
//! test runs itself again in a process of its own, for a minute at most.

use device_tests::{by_name, golden, gpu};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Tells a process that it is to run its test itself.
const ALONE: &str = "SPARSEFLOW_GPU_CASE";
/// Where goldens are to be written.
const WRITE: &str = "SPARSEFLOW_WRITE_GOLDENS";
/// Longest time for a case, the driver's start and compiler included.
const LIMIT: Duration = Duration::from_secs(60);

fn check(name: &str) {
    if std::env::var_os(ALONE).is_some() {
        return run(name);
    }
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(program)
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .spawn()
        .expect("a process");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of the process") {
            break status;
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{name} took longer than {} s", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{name}: see above");
}

fn run(name: &str) {
    let case = by_name(name);
    let output = gpu::run(&case).unwrap_or_else(|error| panic!("{name}: {error}"));
    let directory = std::env::var_os(WRITE);
    if let Some(directory) = &directory {
        let path = Path::new(directory).join(format!("{name}.bin"));
        let written = std::fs::write(&path, &output);
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let same = |what: &str, other: &[u8]| {
        assert_eq!(output.len(), other.len(), "{name}: {what} has another size");
        let at = output.iter().zip(other).position(|(a, b)| a != b);
        let wrong = output.iter().zip(other).filter(|(a, b)| a != b).count();
        if let Some(at) = at {
            panic!("{name}: {wrong} bytes differ from {what}, the first of them byte {at}");
        }
    };
    same("the naive computation", &case.expected);
    if directory.is_none() {
        same("the golden", golden(name).unwrap_or_else(|| panic!("{name} has no golden")));
    }
}

macro_rules! tests {
    ($($name:ident)*) => {$(
        #[test]
        #[ignore = "needs an NVIDIA GPU"]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

device_tests::for_each_case!(tests);
