//! Kernels broken on purpose, by a change of their PTX: the emulator must notice, by a finding, a
//! deadlock, or an output other than the naive computation's, under at least one of the schedules that
//! the unchanged kernel passes.

use device_tests::{Case, by_name, emulator};
use ptx_emulator::{Error, FindingKind, Module};

const SEEDS: u64 = 8;

/// What was noticed.
#[derive(Debug, Default)]
struct Noticed {
    findings: Vec<FindingKind>,
    deadlock: bool,
    wrong: bool,
}

/// Runs a case whose kernel has had each occurrence of `from`, or the first alone, replaced.
fn mutate(name: &str, from: &str, to: &str, all: bool) -> Noticed {
    let case = by_name(name);
    let text = case.arch.entry(case.entry).expect("a kernel");
    assert!(text.contains(from), "{name} has no `{from}`");
    let text = if all { text.replace(from, to) } else { text.replacen(from, to, 1) };
    run(&case, &Module::parse(&text).expect("PTX"))
}

fn run(case: &Case, module: &Module) -> Noticed {
    let mut noticed = Noticed::default();
    for seed in 0..SEEDS {
        let report = match emulator::run_module(module, case, seed) {
            Ok(outcome) => {
                noticed.wrong |= outcome.output != case.expected;
                outcome.report
            }
            Err(Error::Stopped { report, .. }) => {
                noticed.deadlock = true;
                *report
            }
            Err(error) => panic!("{error}"),
        };
        noticed.findings.extend(report.findings.iter().map(|finding| finding.kind));
    }
    noticed
}

/// Tests: name, case, what is replaced by what, in all places or the first, and what must be noticed.
macro_rules! mutations {
    ($($test:ident: $case:literal, $from:literal => $to:literal, $all:literal, $expected:expr;)*) => {$(
        #[test]
        fn $test() {
            let noticed = mutate($case, $from, $to, $all);
            assert!($expected(&noticed), "{noticed:?}");
        }
    )*};
}

fn finds(kind: FindingKind) -> impl Fn(&Noticed) -> bool {
    move |noticed| noticed.findings.contains(&kind)
}

fn deadlocks(noticed: &Noticed) -> bool {
    noticed.deadlock
}

fn is_wrong(noticed: &Noticed) -> bool {
    noticed.wrong
}

mutations! {
    transpose_without_barrier:
        "transpose", "bar.sync 0;" => "", true, finds(FindingKind::Race);
    reduction_without_barrier:
        "block_reduce", "bar.sync 0;" => "", true, finds(FindingKind::Race);
    histogram_without_first_barrier:
        "histogram", "bar.sync 0;" => "", false, finds(FindingKind::Race);
    ring_that_does_not_wait:
        "mbarrier_ring", "mbarrier.try_wait.parity" => "setp.eq.u32 ended, 1, 1; //", true,
        finds(FindingKind::Race);
    ring_of_which_nothing_is_free:
        "mbarrier_ring", "mbarrier.init.shared::cta.b64" => "// ", false, is_wrong;
    copy_without_proxy_fence:
        "tensor_copy_128_inside", "fence.proxy.async.shared::cta;" => "", true,
        finds(FindingKind::Proxy);
    copy_that_nobody_waits_for:
        "tensor_copy_128_inside", "mbarrier.try_wait.parity" => "setp.eq.u32 ended, 1, 1; //", true,
        is_wrong;
    copy_that_expects_bytes_without_arriving:
        "tensor_copy_128_inside", "mbarrier.arrive.expect_tx.shared::cta.b64 _, "
            => "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 ", true, deadlocks;
    store_without_proxy_fence:
        "tensor_store_128_inside", "fence.proxy.async.shared::cta;" => "", true,
        finds(FindingKind::Proxy);
    store_without_wait:
        "tensor_store_128_inside", "cp.async.bulk.wait_group" => "// ", true,
        finds(FindingKind::InFlight);
    multicast_to_one_block:
        "tensor_multicast", "], %rs1;" => "], 1;", true, deadlocks;
    multicast_before_the_peer_is_ready:
        "tensor_multicast", "barrier.cluster" => "// ", true,
        finds(FindingKind::Race);
    product_without_proxy_fence:
        "wgmma_f16_n64_shared", "fence.proxy.async.shared::cta;" => "", true,
        finds(FindingKind::Proxy);
    product_without_fence:
        "wgmma_f16_n64_shared", "wgmma.fence.sync.aligned;" => "", true,
        finds(FindingKind::Proxy);
    product_without_wait:
        "wgmma_f16_n64_shared", "wgmma.wait_group.sync.aligned 0;" => "", true, is_wrong;
    product_without_commit:
        "wgmma_f16_n64_shared", "wgmma.commit_group.sync.aligned;" => "", true, is_wrong;
    selectors_swapped:
        "wgmma_sp_f16_n64_shared", ", 1, 1, 1, 1, 0, 0;" => ", 0, 1, 1, 1, 0, 0;", true, is_wrong;
    matrices_transposed:
        "stmatrix_plain", ".x4.shared" => ".x4.trans.shared", true, is_wrong;
    registers_not_given_back:
        "setmaxnreg_roles", "setmaxnreg.dec.sync.aligned.u32 40;" => "", true, deadlocks;
}

#[test]
fn corrupted_metadata_is_illegal() {
    let mut case = by_name("wgmma_sp_f16_n64_registers");
    let device_tests::Contents::Bytes(words) = &mut case.buffers[1] else { panic!("metadata") };
    words[17] |= 0x0f;
    let module = Module::parse(case.arch.text()).expect("PTX");
    assert!(run(&case, &module).findings.contains(&FindingKind::Illegal));
}

#[test]
fn a_flipped_phase_is_noticed() {
    for name in ["mbarrier_ring", "tensor_ring", "tensor_copy_128_inside", "setmaxnreg_roles"] {
        let case = by_name(name);
        let flip = |line: &str| match line.rsplit_once(", ") {
            Some((wait, parity)) if wait.contains("mbarrier.try_wait.parity") => format!(
                ".reg .b32 flipped; xor.b32 flipped, {}, 1;\n{wait}, flipped;\n",
                parity.trim_end_matches(';')
            ),
            _ => format!("{line}\n"),
        };
        let text: String = case.arch.entry(case.entry).unwrap().lines().map(flip).collect();
        let noticed = run(&case, &Module::parse(&text).unwrap());
        assert!(noticed.deadlock || noticed.wrong, "{name}: {noticed:?}");
    }
}

#[test]
fn unchanged_kernels_are_clean() {
    for name in ["transpose", "mbarrier_ring", "tensor_multicast", "wgmma_f16_n64_shared"] {
        let noticed = mutate(name, "ret;", "ret;", true);
        assert!(noticed.findings.is_empty() && !noticed.deadlock && !noticed.wrong, "{name}");
    }
}
