//! Every case on the emulator, under several schedules: no findings, the naive computation's output, and
//! the output that was recorded from an H200.

use device_tests::{by_name, cases, emulator, golden, golden_names};

const SEEDS: u64 = 8;

fn check(name: &str) {
    let case = by_name(name);
    for seed in 0..SEEDS {
        let outcome = emulator::run(&case, seed).unwrap_or_else(|error| panic!("{name}: {error}"));
        let findings: Vec<_> = outcome.report.findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{name}, seed {seed}:\n{}", findings.join("\n"));
        assert_eq!(outcome.poisoned, 0, "{name}, seed {seed}: bytes of the output not written");
        if let Some(at) = difference(&outcome.output, &case.expected) {
            panic!("{name}, seed {seed}: differs from the naive computation from byte {at} on");
        }
    }
    let golden = golden(name).unwrap_or_else(|| panic!("{name} has no golden"));
    if let Some(at) = difference(golden, &case.expected) {
        panic!("{name}: differs from the golden from byte {at} on");
    }
}

/// Where two outputs begin to differ.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    common.or_else(|| (a.len() != b.len()).then_some(a.len().min(b.len())))
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn all_cases_and_goldens_are_tested() {
            let tested = [$(stringify!($name)),*];
            let names: Vec<_> = cases().iter().map(|case| case.name).collect();
            assert_eq!(names, tested);
            assert!(golden_names().all(|golden| tested.contains(&golden)));
        }
    };
}

device_tests::for_each_case!(tests);
