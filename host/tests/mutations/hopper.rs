//! The Hopper kernels: what orders producer, consumers, bulk copies and products.

use super::*;

/// Y that tensor maps store; K of more blocks than stages; and so many tiles for each consumer of the emulator,
/// which has 16 multiprocessors, that its staging area is used again: at least two.
fn shape(kernel: &Instance) -> (usize, usize, usize) {
    let block = kernel.hopper().unwrap();
    let boxes_of_a_tile = block.parts() * block.subtiles();
    let tiles = (block.boxes() + 2).div_ceil(boxes_of_a_tile).max(2);
    let consumers = 16 / kernel.cluster * if kernel.ping_pong { 2 } else { 1 };
    // Two tiles of tokens.
    let columns = kernel.bn * kernel.cluster * (consumers * tiles).div_ceil(2);
    let k = kernel.bk * (kernel.stages + 2) + 8;
    (kernel.bm as usize + 9, (columns - 8) as usize, k as usize)
}

fn run_on(kernel: &'static Instance, text: &str, seed: u64) -> Outcome {
    run_shape::<f16>(kernel, shape(kernel), text, seed, keep)
}

fn text(kernel: &Instance) -> String {
    ptx::entry(ptx::SM_90A, kernel.name).unwrap()
}

/// The kernels with the smallest tiles: of all dense ones, of those for sparse W whose consumers take turns, of
/// those whose clusters load X together, of those that finish a tile behind the next, and of those with three
/// consumers.
fn some() -> [&'static Instance; 5] {
    let smallest = |suits: fn(&Instance) -> bool| {
        let of_f16 = kernels::all().filter(|i| i.family.is_hopper() && i.dtype == Dtype::F16);
        of_f16.filter(|i| suits(i)).min_by_key(|i| i.bm * i.bn).unwrap()
    };
    [
        smallest(|i| !i.family.is_sparse()),
        smallest(|i| i.family.is_sparse() && i.ping_pong && i.cluster == 1),
        smallest(|i| i.family.is_sparse() && i.cluster == 2 && i.slices == 1),
        smallest(|i| i.hopper().is_some_and(|shape| shape.lead() > 0)),
        smallest(|i| i.hopper().is_some_and(|shape| shape.mixes())),
    ]
}

/// What tells where in a kernel a line is: each wait for a stage comes right before one of the last three.
const LANDMARKS: [&str; 4] =
    ["mbarrier.try_wait", "mbarrier.arrive.expect_tx", "wgmma.fence", "stmatrix"];

/// The text of a kernel with its lines that contain `opcode`, and of whose next landmark `before` is a part,
/// replaced by what `to` makes of them, given their number among these.
fn edited(
    kernel: &Instance,
    opcode: &str,
    before: &str,
    to: impl Fn(usize, &str) -> String,
) -> String {
    let text = text(kernel);
    let lines: Vec<&str> = text.lines().collect();
    let landmark = |from: usize| {
        let mut rest = lines[from + 1..].iter();
        let is_one = |line: &&&str| LANDMARKS.iter().any(|landmark| line.contains(landmark));
        rest.find(is_one).is_some_and(|line| line.contains(before))
    };
    let mut found = 0;
    let mut edit = |(at, line): (usize, &&str)| match line.contains(opcode)
        && (before.is_empty() || landmark(at))
    {
        true => {
            found += 1;
            to(found - 1, line) + "\n"
        }
        false => format!("{line}\n"),
    };
    let edited = lines.iter().enumerate().map(&mut edit).collect();
    assert!(found > 0, "{}: no `{opcode}` before `{before}`", kernel.name);
    edited
}

/// Whether a schedule ends in a finding or a stop that has one of `signs` in its message.
fn assert_reported(kernel: &'static Instance, text: &str, what: &str, signs: &[&str]) {
    let mut outcomes = Vec::new();
    for seed in 0..SEEDS {
        let outcome = run_on(kernel, text, seed);
        if let Outcome::Caught(why) = &outcome
            && signs.iter().any(|sign| why.contains(sign))
        {
            return;
        }
        let brief: String = format!("{outcome:?}").chars().take(300).collect();
        outcomes.push(brief);
    }
    panic!("{} with {what} was not reported as {signs:?}: {outcomes:?}", kernel.name);
}

const DROPPED: fn(usize, &str) -> String = |_, _| String::new();
const RACE: &str = "shared-memory race";
const DEADLOCK: &str = "deadlock";
const PROXY: &str = "missing proxy fence";
const IN_FLIGHT: &str = "operand changed in flight";

#[test]
fn unchanged_hopper_kernels_are_clean() {
    for kernel in some() {
        for seed in 0..SEEDS {
            let outcome = run_on(kernel, &text(kernel), seed);
            assert!(matches!(outcome, Outcome::Right), "{} seed {seed}: {outcome:?}", kernel.name);
        }
    }
    // Y that tensor maps store, and Y that they cannot.
    for kernel in kernels::all().filter(|kernel| kernel.family.is_hopper()) {
        let text = text(kernel);
        let ways = if kernel.shares() { 2 } else { 1 };
        for (n, seed) in [(264, 2), (270, 3)].into_iter().take(ways) {
            let outcome = match kernel.dtype {
                Dtype::F16 => run_shape::<f16>(kernel, (140, n, 328), &text, seed, keep),
                Dtype::Bf16 => run_shape::<bf16>(kernel, (140, n, 328), &text, seed, keep),
            };
            assert!(matches!(outcome, Outcome::Right), "{} seed {seed}: {outcome:?}", kernel.name);
        }
    }
}

#[test]
fn a_missing_wait_for_a_stage_is_a_race() {
    let passed = |_: usize, _: &str| "setp.eq.u32 ended, 1, 1;".to_owned();
    for kernel in some() {
        let full = edited(kernel, "mbarrier.try_wait", "wgmma.fence", passed);
        assert_reported(kernel, &full, "no wait for a full stage", &[RACE, DEADLOCK]);
        let empty = edited(kernel, "mbarrier.try_wait", "expect_tx", passed);
        assert_reported(kernel, &empty, "no wait for an empty stage", &[RACE, DEADLOCK]);
        if kernel.ping_pong {
            let turn = edited(kernel, "mbarrier.try_wait", "mbarrier.try_wait", passed);
            assert_reported(kernel, &turn, "no wait for the turn", &[RACE, DEADLOCK]);
        }
        if kernel.hopper().unwrap().stagger() > 0 {
            let staged = edited(kernel, "mbarrier.try_wait", "stmatrix", passed);
            assert_reported(kernel, &staged, "boxes staged in a stage in use", &[RACE]);
        }
    }
}

#[test]
fn arrivals_that_do_not_add_up_are_noticed() {
    for kernel in some() {
        let dropped = edited(kernel, "mbarrier.arrive.shared", "", DROPPED);
        assert_reported(kernel, &dropped, "no stage given back", &[DEADLOCK]);
        // Pairs of barriers: a stage is full, it is empty.
        let is_empty = |at: usize| at % 2 == 1 && at < 2 * kernel.stages as usize;
        let readers = kernel.hopper().unwrap().team() * 4 * kernel.cluster;
        for (count, signs) in [(readers + 1, [DEADLOCK; 2]), (readers / 2, [RACE, DEADLOCK])] {
            let counted = edited(kernel, "mbarrier.init", "", |at, line| match is_empty(at) {
                true => format!("{}, {count};", line.rsplit_once(", ").unwrap().0),
                false => line.to_owned(),
            });
            assert_reported(kernel, &counted, &format!("{count} readers"), &signs);
        }
        for (bytes, signs) in [(16, [DEADLOCK; 2]), (-16, [RACE, DEADLOCK])] {
            let expecting = edited(kernel, "mbarrier.arrive.expect_tx", "", |_, line| {
                let (arrive, expected) = line.rsplit_once(", ").unwrap();
                let expected = expected.trim_end_matches(';');
                format!(
                    "{{ .reg .b32 other; add.s32 other, {expected}, {bytes};\n{arrive}, other; }}"
                )
            });
            assert_reported(kernel, &expecting, &format!("{bytes} more bytes expected"), &signs);
        }
    }
}

#[test]
fn missing_fences_are_noticed() {
    for kernel in some() {
        for (fence, signs) in [
            ("fence.proxy.async.shared::cta;", [PROXY]),
            ("fence.mbarrier_init", [PROXY]),
            ("wgmma.fence", [PROXY]),
        ] {
            let text = edited(kernel, fence, "", DROPPED);
            assert_reported(kernel, &text, &format!("no {fence}"), &signs);
        }
    }
}

#[test]
fn weaker_waits_for_products_are_noticed() {
    for kernel in some() {
        for pending in 0..2 {
            let strict = format!("wgmma.wait_group.sync.aligned {pending};");
            let weak = format!("wgmma.wait_group.sync.aligned {};", pending + 1);
            let text = edited(kernel, &strict, "", |_, _| weak.clone());
            assert_reported(kernel, &text, &format!("{weak} for {strict}"), &[RACE, IN_FLIGHT]);
        }
    }
}

#[test]
fn staging_areas_that_are_written_too_early_are_races() {
    for kernel in some() {
        let pending = kernel.hopper().unwrap().boxes() - 1;
        let strict = format!("cp.async.bulk.wait_group.read {pending};");
        let weak = format!("cp.async.bulk.wait_group.read {};", pending + 1);
        let text = edited(kernel, &strict, "", |_, _| weak.clone());
        assert_reported(kernel, &text, &weak, &["has still to read"]);
        let barriers = edited(kernel, "bar.sync %r", "", DROPPED);
        assert_reported(kernel, &barriers, "no barrier of the consumers", &[RACE]);
        let last = edited(kernel, "cp.async.bulk.wait_group.read", "", DROPPED);
        assert_reported(kernel, &last, "no wait for its stores", &["may still read"]);
    }
}

#[test]
fn metadata_in_other_places_is_noticed() {
    for kernel in some().into_iter().filter(|kernel| kernel.family.is_sparse()) {
        // Operands after the accumulators: descriptors, metadata, selector, and five more.
        let operands = |line: &str| -> Vec<String> {
            let (_, operands) = line.rsplit_once('}').unwrap();
            operands.trim_end_matches(';').split(", ").map(str::to_owned).collect()
        };
        let swapped = edited(kernel, "wgmma.mma_async.sp", "", |_, line| {
            let operands = operands(line);
            let (metadata, selector) = (&operands[3], &operands[4]);
            let other = if selector == "0" { "1" } else { "0" };
            line.replace(&format!("{metadata}, {selector}"), &format!("{metadata}, {other}"))
        });
        assert!(swapped != text(kernel));
        let outcomes = (0..SEEDS).map(|seed| run_on(kernel, &swapped, seed));
        assert!(outcomes.into_iter().any(|outcome| matches!(outcome, Outcome::Wrong)));
        let changed = edited(kernel, "wgmma.mma_async.sp", "", |_, line| {
            let metadata = &operands(line)[3];
            format!("{line}\nxor.b32 {metadata}, {metadata}, 0xf;")
        });
        assert_reported(kernel, &changed, "metadata changed in flight", &["metadata register"]);
    }
}

#[test]
fn clusters_that_do_not_keep_together_are_noticed() {
    let [_, _, kernel, ..] = some();
    let alone = edited(kernel, "multicast::cluster", "", |_, line| {
        format!("{}, 1;", line.rsplit_once(", ").unwrap().0)
    });
    assert_reported(kernel, &alone, "multicast to one block", &[DEADLOCK]);
    let early = edited(kernel, "barrier.cluster", "", DROPPED);
    assert_reported(kernel, &early, "no barriers of the cluster", &[DEADLOCK, RACE, "mbarrier"]);
}

#[test]
fn blocks_that_exchange_sums_too_early_are_noticed() {
    let mut of_f16 = kernels::all().filter(|i| i.slices == 2 && i.dtype == Dtype::F16);
    let kernel = of_f16.find(|i| i.family.is_sparse()).unwrap();
    for (which, what) in
        ["sums sent into stages in use", "sums added before they have come"].into_iter().enumerate()
    {
        // Producer's warpgroup and consumers each have an arrival and a wait before the exchange, and after it.
        let early = edited(kernel, "barrier.cluster", "", |at, line| match at / 2 % 2 == which {
            true => String::new(),
            false => line.to_owned(),
        });
        assert_reported(kernel, &early, what, &[RACE]);
    }
}
