//! The emulator catches what it is there to catch: shipped kernels with one thing broken in their PTX
//! or data are each noticed, by a finding or by a wrong result, and the unchanged text is clean under
//! every schedule tried.

#[path = "mutations/hopper.rs"]
mod hopper;

use half::{bf16, f16};
use layout::instance::{Dtype, Family, Instance, WMMA_ROW_PADDING};
use reference::random::{Fill, matrix};
use reference::{Element, MatRef, Packed, judge};
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::{EmulatedDevice, Epilogue, Matrix, PackedWeight, Plan, Weight, kernels, ptx};

/// More tiles of K than any kernel has stages, and 12 of 64 columns, so that the loop ends where it began in
/// kernels of 4 and 6 stages: in the slot that the epilogue overwrites first. Whole tiles and edges in both
/// directions for most.
const SHAPE: (usize, usize, usize) = (140, 270, 64 * 11 + 8);
const SEEDS: u64 = 8;

/// What a run ends in.
#[derive(Debug)]
enum Outcome {
    Right,
    Wrong,
    Caught(String),
}

/// Runs `kernel` as `text` has it, on small integers, and compares Y bit for bit. `spoil` may change the
/// packed W on its way to the device.
fn run<T: Element + Value + OutputOf<T>>(
    kernel: &'static Instance,
    text: &str,
    seed: u64,
    spoil: impl Fn(&mut Vec<u32>),
) -> Outcome {
    run_shape::<T>(kernel, SHAPE, text, seed, spoil)
}

/// The same for another product.
fn run_shape<T: Element + Value + OutputOf<T>>(
    kernel: &'static Instance,
    (m, n, k): (usize, usize, usize),
    text: &str,
    seed: u64,
    spoil: impl Fn(&mut Vec<u32>),
) -> Outcome {
    let device = EmulatedDevice::with_ptx(seed, text.to_owned());
    let (hx, hw) = (matrix::<T>(Fill::Integers, 1, m, k), matrix(Fill::Integers, 2, n, k));
    let x = Matrix::from_slice(&device, &hx, m, k).unwrap();
    let w = Matrix::from_slice(&device, &hw, n, k).unwrap();
    let host_packed = Packed::prune_and_pack(MatRef::contiguous(&hw, n, k).unwrap()).unwrap();
    let packed = PackedWeight::from_host(&device, &host_packed).unwrap();
    let mut words = host_packed.metadata().to_vec();
    spoil(&mut words);
    packed.write_metadata_unchecked(&words).unwrap();
    let mut y = Matrix::<T>::poisoned(&device, m, n).unwrap();
    let sparse = kernel.family.is_sparse();
    let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
    let plan = Plan::new(Some(kernel.into()), &x, weight, &Epilogue::default(), &mut y).unwrap();
    if let Err(error) = plan.launch() {
        return Outcome::Caught(error.to_string());
    }
    let rx = MatRef::contiguous(&hx, m, k).unwrap();
    let none = reference::Epilogue::<T>::default();
    let judged = match sparse {
        true => judge(rx, &host_packed, &none),
        false => judge(rx, MatRef::contiguous(&hw, n, k).unwrap(), &none),
    };
    let out = y.to_vec().unwrap();
    let view = MatRef::contiguous(&out, m, n).unwrap();
    match reference::exact(&judged.unwrap(), view).unwrap().passed {
        true => Outcome::Right,
        false => Outcome::Wrong,
    }
}

fn keep(_: &mut Vec<u32>) {}

/// Whether any schedule catches the text.
fn assert_caught(kernel: &'static Instance, text: &str, what: &str) {
    let outcomes: Vec<_> = (0..SEEDS).map(|seed| run::<f16>(kernel, text, seed, keep)).collect();
    assert!(
        outcomes.iter().any(|o| !matches!(o, Outcome::Right)),
        "{} with {what} was not noticed",
        kernel.name
    );
}

/// One instance of each family: the mutations are the same in all.
fn one_of_each() -> [&'static Instance; 3] {
    ["wmma_dense_f16_128x128x32", "sm80_dense_f16_64x64x64", "sm80_sparse24_f16_64x128x64"]
        .map(|name| kernels::find(name).unwrap())
}

#[test]
fn unchanged_kernels_are_clean_under_every_schedule() {
    for kernel in kernels::all().filter(|kernel| !kernel.family.is_hopper()) {
        let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
        for seed in 0..SEEDS {
            let outcome = match kernel.dtype {
                Dtype::F16 => run::<f16>(kernel, &text, seed, keep),
                Dtype::Bf16 => run::<bf16>(kernel, &text, seed, keep),
            };
            assert!(matches!(outcome, Outcome::Right), "{} seed {seed}: {outcome:?}", kernel.name);
        }
    }
}

fn compression<T: Element + Value>() {
    let (_, n, k) = SHAPE;
    let host = matrix::<T>(Fill::Special, 2, n, k);
    let want = Packed::prune_and_pack(MatRef::contiguous(&host, n, k).unwrap()).unwrap();
    for seed in 0..SEEDS {
        let device = EmulatedDevice::open(seed);
        let w = Matrix::from_slice(&device, &host, n, k).unwrap();
        let got = PackedWeight::prune_and_pack(&w).unwrap().to_host().unwrap();
        assert_eq!(got.metadata(), want.metadata());
        assert!(got.values().iter().zip(want.values()).all(|(a, b)| a.bits() == b.bits()));
    }
}

#[test]
fn compression_is_clean_under_every_schedule() {
    compression::<f16>();
    compression::<bf16>();
}

/// The text of a kernel with `from` replaced where it directly follows a wait for all but `pending` groups
/// of copies: there `skip` times passed over, then `take` times replaced. The main loop is unrolled over its
/// slots, so one place in the source is several here.
fn mutate_after_wait(
    kernel: &Instance,
    pending: u32,
    from: &str,
    (skip, take): (usize, usize),
    to: &str,
) -> String {
    let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
    let wait = format!("cp.async.wait_group {pending};");
    let (mut out, mut rest, mut seen) = (String::new(), text.as_str(), 0);
    while let Some(at) = rest.find(&wait) {
        let (before, after) = rest.split_at(at + wait.len());
        out.push_str(before);
        rest = after;
        // Between the two asm statements there are comments of the compiler alone.
        let follows = rest.find(from).filter(|&at| !rest[..at].contains("mma.") && at < 200);
        if let Some(at) = follows {
            if (skip..skip + take).contains(&seen) {
                out.push_str(&rest[..at]);
                out.push_str(to);
                rest = &rest[at + from.len()..];
            }
            seen += 1;
        }
    }
    assert!(seen > skip, "{}: no `{from}` after `{wait}`", kernel.name);
    out + rest
}

const EVERY: usize = usize::MAX / 2;

#[test]
fn every_missing_barrier_is_a_race() {
    for kernel in one_of_each() {
        let pending = kernel.stages - 2;
        // The one before the epilogue is not among them: it comes right after that of the last stage.
        let barrier = |range| mutate_after_wait(kernel, pending, "bar.sync 0;", range, "");
        let texts = [
            ("before the first fragments", barrier((0, 1))),
            ("at the border of two stages", barrier((1, EVERY))),
        ];
        for (which, text) in texts {
            let caught = (0..SEEDS).any(|seed| {
                matches!(run::<f16>(kernel, &text, seed, keep), Outcome::Caught(why) if why.contains("race"))
            });
            assert!(caught, "{} without the barrier {which} was not called a race", kernel.name);
        }
    }
}

#[test]
fn a_weaker_wait_is_noticed() {
    for kernel in one_of_each() {
        let pending = kernel.stages - 2;
        let strict = format!("cp.async.wait_group {pending};");
        let weak = format!("cp.async.wait_group {};", pending + 1);
        let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
        let (first, rest) = text.split_once(&strict).unwrap();
        assert!(rest.contains(&strict), "{} has no wait in its loop", kernel.name);
        assert_caught(kernel, &format!("{first}{weak}{rest}"), "a weaker first wait");
        let in_loop = format!("{first}{strict}{}", rest.replace(&strict, &weak));
        assert_caught(kernel, &in_loop, "a weaker wait in the loop");
    }
}

#[test]
fn a_swapped_selector_is_noticed() {
    let kernel = kernels::find("sm80_sparse24_f16_64x128x64").unwrap();
    let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
    // The last one is in the loop of aligned operands.
    let mma = text.rfind("mma.sp::ordered_metadata").unwrap();
    let end = mma + text[mma..].find(';').unwrap();
    let swapped = match &text[end - 1..end] {
        "0" => "1",
        _ => "0",
    };
    let text = format!("{}{swapped}{}", &text[..end - 1], &text[end..]);
    assert_caught(kernel, &text, "a swapped selector");
}

#[test]
fn rows_off_by_one_are_noticed() {
    for kernel in one_of_each() {
        let row = match kernel.family {
            Family::WmmaDense => (kernel.bk + WMMA_ROW_PADDING) * 2,
            Family::Sm80Dense => kernel.bk * 2,
            Family::Sm80Sparse24 => kernel.bk,
            Family::Sm90Dense | Family::Sm90Sparse24 => unreachable!("not one of these"),
        };
        // The first fragment load, by a row of its tile.
        let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
        let load = text.rfind("ldmatrix.sync").or(text.rfind("wmma.load.a")).unwrap();
        let bracket = load + text[load..].find(']').unwrap();
        let shifted = format!("{}+{row}{}", &text[..bracket], &text[bracket..]);
        assert_caught(kernel, &shifted, "a fragment off by a row");
        // The first copy of the steady state, by a row of X.
        let copy = text.find("cp.async.cg").unwrap();
        let source = copy + text[copy..].find("], [").unwrap() + 4;
        let bracket = source + text[source..].find(']').unwrap();
        let shifted = format!("{}+{}{}", &text[..bracket], SHAPE.2 * 2, &text[bracket..]);
        assert_caught(kernel, &shifted, "a copy off by a row");
    }
}

#[test]
fn corrupt_metadata_is_noticed() {
    let kernel = kernels::find("sm80_sparse24_f16_64x128x64").unwrap();
    let text = ptx::entry(ptx::SM_80, kernel.name).unwrap();
    // An illegal nibble is an error that says so, whatever the values.
    let outcome = run::<f16>(kernel, &text, 0, |words| words[5] &= !0xF);
    assert!(
        matches!(&outcome, Outcome::Caught(why) if why.contains("nibble")),
        "an illegal nibble: {outcome:?}"
    );
    // A legal one in the wrong place gives a wrong Y. Word 5 covers row 1, columns 16..32.
    let outcome = run::<f16>(kernel, &text, 0, |words| {
        let other = if words[5] & 0xFFFF == 0x4444 { 0xEEEE } else { 0x4444 };
        words[5] = words[5] & 0xFFFF_0000 | other;
    });
    assert!(matches!(outcome, Outcome::Wrong), "legal but wrong metadata: {outcome:?}");
}
