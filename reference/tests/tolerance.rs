//! The judge passes what is right and catches what is wrong, by one unit or by one nibble.

use half::{bf16, f16};
use layout::activation::Activation;
use layout::packed24::{GROUP, is_legal};
use layout::params::Output;
use reference::random::{Fill, exact_depth, matrix};
use reference::{
    Accumulator, Check, Element, Epilogue, Error, Judged, MatMut, MatRef, OutputOf, Packed, Scalar,
    Weights, check, exact, gemm, judge, judge_rows, verify, verify_accumulated,
};

fn view<T>(data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::contiguous(data, rows, cols).unwrap()
}

fn run<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
) -> Vec<O> {
    let w = w.into();
    let columns = epilogue.columns(w.n());
    let mut y = vec![O::from_f32(f32::NAN); x.rows() * columns];
    gemm(x, w, epilogue, &mut MatMut::contiguous(&mut y, x.rows(), columns).unwrap()).unwrap();
    y
}

/// Every epilogue, over every type, dense and sparse, with every kind of input.
fn every_epilogue<T: Element, O: OutputOf<T>>(fill: Fill) {
    let (m, n, k) = (37, 30, 83);
    let (x, w) = (matrix::<T>(fill, 1, m, k), matrix::<T>(fill, 2, n, k));
    let (c, bias) = (matrix::<T>(fill, 3, m, n), matrix::<T>(fill, 4, 1, n));
    let c: Vec<O::Addend> = c.iter().map(|c| O::Addend::from_f32(c.to_f32())).collect();
    let scales: Vec<f32> = (0..m).map(|row| (row as f32 - 12.0) * 0.7).collect();
    let (x, w, c) = (view(&x, m, k), view(&w, n, k), view(&c, m, n));
    let packed = Packed::prune_and_pack(w).unwrap();
    for activation in Activation::ALL {
        for (alpha, beta) in [(1.0, 0.0), (0.25, 0.0), (-0.3, 1.7), (1.0, 1.0)] {
            for (bias, gated) in [(None, false), (Some(&bias[..]), false), (Some(&bias[..]), true)]
            {
                let row_scale = (O::OUTPUT == Output::Int8).then_some(&scales[..]);
                let epilogue: Epilogue<'_, T, O> =
                    Epilogue { alpha, beta, c: Some(c), bias, activation, gated, row_scale };
                let columns = epilogue.columns(n);
                let y = run(x, w, &epilogue);
                let found = verify(x, w, &epilogue, view(&y, m, columns)).unwrap();
                assert!(found.passed, "{:?} {found:?}", (alpha, beta, activation, gated));
                let y = run(x, &packed, &epilogue);
                let found = verify(x, &packed, &epilogue, view(&y, m, columns)).unwrap();
                assert!(
                    found.passed && found.elements == m * columns,
                    "{:?} {found:?}",
                    (alpha, beta, activation, gated)
                );
            }
        }
    }
}

#[test]
fn every_epilogue_passes() {
    for fill in [Fill::Normal, Fill::Uniform, Fill::Special] {
        every_epilogue::<f16, f16>(fill);
        every_epilogue::<bf16, bf16>(fill);
        every_epilogue::<f16, f32>(fill);
        every_epilogue::<bf16, f32>(fill);
        every_epilogue::<f16, i8>(fill);
        every_epilogue::<bf16, i8>(fill);
    }
}

/// The neighbour of `y` away from `reference`.
fn one_too_far(y: f16, reference: f64) -> f16 {
    let outwards = (y.to_f64() >= reference) == (y.to_f64() >= 0.0);
    f16::from_bits(if outwards { y.to_bits() + 1 } else { y.to_bits() - 1 })
}

#[test]
fn one_unit_too_far_is_caught_anywhere() {
    let (m, n, k) = (6, 7, 4);
    let (x, w) = (matrix::<f16>(Fill::Uniform, 1, m, k), matrix::<f16>(Fill::Uniform, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let judged = judge(x, w, &Epilogue::<f16>::default()).unwrap();
    let y = run(x, w, &Epilogue::<f16>::default());
    assert!(check(&judged, view(&y, m, n)).unwrap().passed);
    for i in 0..m * n {
        let mut y = y.clone();
        y[i] = one_too_far(y[i], judged.reference()[i]);
        let found = check(&judged, view(&y, m, n)).unwrap();
        let worst = found.worst.unwrap();
        assert_eq!((found.passed, found.wrong, found.nan), (false, 1, 0));
        assert_eq!((worst.row, worst.col), (i / n, i % n));
        assert_eq!((worst.got, worst.want), (y[i].to_f64(), judged.reference()[i]));
        assert_eq!(found.tolerance, worst.bound);
        assert!(found.max_abs >= (worst.got - worst.want).abs());
    }
}

#[test]
fn poison_left_anywhere_is_caught() {
    let (m, n, k) = (9, 11, 64);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, k), matrix::<f16>(Fill::Normal, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let good = run(x, w, &Epilogue::<f16>::default());
    let check = |y: &[f16]| verify(x, w, &Epilogue::default(), view(y, m, n)).unwrap();
    for poison in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY, f16::MAX] {
        for i in 0..m * n {
            let mut y = good.clone();
            y[i] = poison;
            let found = check(&y);
            assert_eq!((found.passed, found.wrong), (false, 1));
            assert_eq!(found.nan, poison.is_nan() as usize);
            let worst = found.worst.unwrap();
            assert_eq!((worst.row, worst.col), (i / n, i % n));
        }
    }
    let all = check(&vec![f16::NAN; m * n]);
    assert_eq!((all.passed, all.nan, all.max_abs, all.rel_fro), (false, m * n, 0.0, 0.0));
    assert!(!check(&vec![f16::ZERO; m * n]).passed);
}

/// Mistakes that kernels make, each of which must fail where the right Y passes.
#[test]
fn typical_mistakes_are_caught() {
    let (m, n, k) = (48, 40, 256);
    let (x, w) = (matrix::<bf16>(Fill::Normal, 1, m, k), matrix::<bf16>(Fill::Normal, 2, n, k));
    let bias = matrix::<bf16>(Fill::Normal, 3, 1, n);
    let (x, packed) = (view(&x, m, k), Packed::prune_and_pack(view(&w, n, k)).unwrap());
    let epilogue = Epilogue { bias: Some(&bias), ..Default::default() };
    let y = run(x, &packed, &epilogue);
    let check = |y: &[bf16]| -> Check { verify(x, &packed, &epilogue, view(y, m, n)).unwrap() };
    assert!(check(&y).passed);

    // Rows and columns off by one.
    let mut shifted = y.clone();
    shifted.rotate_right(n);
    assert!(!check(&shifted).passed);
    shifted.rotate_left(n + 1);
    assert!(!check(&shifted).passed);
    // A bias that is left out, or off by one.
    assert!(!check(&run(x, &packed, &Epilogue::default())).passed);
    let mut off = bias.clone();
    off.rotate_left(1);
    assert!(!check(&run(x, &packed, &Epilogue { bias: Some(&off), ..epilogue })).passed);
    // W that is not pruned.
    assert!(!check(&run(x, view(&w, n, k), &epilogue)).passed);

    let e = packed.extents();
    let with = |values: Vec<bf16>, metadata: Vec<u32>| {
        let wrong = Packed::from_parts(n, k, values, metadata).unwrap();
        check(&run(x, &wrong, &epilogue))
    };
    let nibble = |metadata: &[u32], row: usize, q: usize| {
        let (word, shift) = e.nibble_position(row, q);
        (metadata[word] >> shift & 0xF) as u8
    };
    let mut swaps = 0;
    for (row, q) in [(0, 0), (7, 15), (8, 16), (15, 31), (39, 62)] {
        // The nibbles of two neighbouring groups swapped.
        let (a, b) = (nibble(packed.metadata(), row, q), nibble(packed.metadata(), row, q + 1));
        assert!(is_legal(a) && is_legal(b) && q + 1 < k / GROUP);
        if a == b {
            continue;
        }
        let (mut values, mut metadata) = (packed.values().to_vec(), packed.metadata().to_vec());
        for (q, from, to) in [(q, a, b), (q + 1, b, a)] {
            let (word, shift) = e.nibble_position(row, q);
            metadata[word] ^= ((from ^ to) as u32) << shift;
        }
        let found = with(values.clone(), metadata);
        assert!(!found.passed && found.worst.unwrap().col == row, "nibbles at {row}, {q}");
        // The two values of a group swapped.
        let at = e.value_index(row, q);
        values.swap(at, at + 1);
        assert!(!with(values, packed.metadata().to_vec()).passed, "values at {row}, {q}");
        swaps += 1;
    }
    assert!(swaps >= 3);
}

#[test]
fn small_integers_are_exact() {
    fn exact_in<T: Element, O: OutputOf<T>>(k: usize) {
        let (m, n) = (20, 30);
        let (x, w) = (matrix::<T>(Fill::Integers, 1, m, k), matrix::<T>(Fill::Integers, 2, n, k));
        let (x, w) = (view(&x, m, k), view(&w, n, k));
        let epilogue = Epilogue::<T, O> { activation: Activation::Relu, ..Default::default() };
        let judged = judge(x, w, &epilogue).unwrap();
        let mut y = run(x, w, &epilogue);
        let found = exact(&judged, view(&y, m, n)).unwrap();
        assert!(found.passed, "{found:?}");
        let as_is = judged.reference().iter().zip(&y).all(|(&r, y)| r == y.to_f64());
        assert!(as_is || k > exact_depth::<O>());
        // A difference far below the tolerance is still one.
        let i = (0..m * n).max_by_key(|&i| y[i].to_f32() as i64).unwrap();
        let by = 1.0 + 2.0 * O::UNIT_ROUNDOFF as f32;
        y[i] = O::from_f32(y[i].to_f32() * by);
        let found = exact(&judged, view(&y, m, n)).unwrap();
        assert_eq!((found.wrong, found.worst.unwrap().row), (1, i / n));
    }
    exact_in::<f16, f16>(exact_depth::<f16>());
    exact_in::<bf16, bf16>(exact_depth::<bf16>());
    exact_in::<bf16, bf16>(3000);
    exact_in::<f16, f32>(3000);
}

/// The check of a 1x1 Y that should be `x * w` (K = 1).
fn product<T: Element, O: OutputOf<T>>(x: f32, w: f32, y: O, activation: Activation) -> Check {
    let (x, w) = ([T::from_f32(x)], [T::from_f32(w)]);
    let epilogue = Epilogue::<T, O> { activation, ..Default::default() };
    let judged = judge(view(&x, 1, 1), view(&w, 1, 1), &epilogue).unwrap();
    check(&judged, view(&[y], 1, 1)).unwrap()
}

#[test]
fn overflow_is_right_where_rounding_says_so() {
    let f16_is = |x: f32, w: f32, y: f16| product::<f16, f16>(x, w, y, Activation::None).passed;
    let (inf, max) = (f16::INFINITY, f16::MAX);
    // 65536 rounds to infinity; 65520 is the first that does; 65504 is the largest finite.
    assert!(f16_is(256.0, 256.0, inf) && !f16_is(256.0, 256.0, max));
    assert!(!f16_is(256.0, 256.0, -inf) && f16_is(-256.0, 256.0, -inf));
    assert!(f16_is(65520.0 / 16.0, 16.0, inf), "4095 * 16");
    assert!(f16_is(65504.0, 1.0, max) && !f16_is(65504.0, 1.0, inf));
    assert!(!f16_is(256.0, 256.0, f16::NAN));
    // Far beyond, a saturated value is wrong.
    assert!(!f16_is(65504.0, 65504.0, max) && f16_is(65504.0, 65504.0, inf));
    // In f32 the same product is finite.
    assert!(product::<f16, f32>(256.0, 256.0, 65536.0, Activation::None).passed);
    // bf16 beyond f32: the product overflows, whatever the reference in f64 says.
    let big = bf16::MAX.to_f32();
    assert!(product::<bf16, bf16>(big, big, bf16::INFINITY, Activation::None).passed);
    assert!(!product::<bf16, bf16>(big, big, bf16::MAX, Activation::None).passed);
}

#[test]
fn infinite_and_nan_references_ask_for_just_that() {
    let is = |x: f32, y: f32, a: Activation| product::<f16, f32>(x, 1.0, y, a).passed;
    let (inf, nan, none) = (f32::INFINITY, f32::NAN, Activation::None);
    assert!(
        is(inf, inf, none) && !is(inf, -inf, none) && !is(inf, nan, none) && !is(inf, 0.0, none)
    );
    assert!(is(nan, nan, none) && !is(nan, inf, none) && !is(nan, 0.0, none));
    // ReLU of -Inf is 0, of NaN is NaN.
    let relu = Activation::Relu;
    assert!(is(-inf, 0.0, relu) && !is(-inf, 1e-30, relu) && !is(-inf, nan, relu));
    assert!(is(nan, nan, relu) && !is(nan, 0.0, relu));
}

#[test]
fn without_work_there_is_no_room() {
    // K = 0, no epilogue: only zeros, of either sign, are right.
    let none: [f16; 0] = [];
    let judged =
        judge(view(&none, 1, 0), view(&none, 1, 0), &Epilogue::<f16, f32>::default()).unwrap();
    for (y, right) in [(0.0, true), (-0.0, true), (f32::from_bits(1), false), (1.0, false)] {
        assert_eq!(check(&judged, view(&[y], 1, 1)).unwrap().passed, right, "{y}");
    }
    assert!(!exact(&judged, view(&[-0.0f32], 1, 1)).unwrap().passed, "a sign is a bit");
}

#[test]
fn underflow_is_allowed_half_a_unit() {
    // 2^-24 * 0.5 lies half way between 0 and the smallest subnormal of f16.
    let tiny = f16::from_bits(1);
    let is = |w: f32, y: f16| product::<f16, f16>(tiny.to_f32(), w, y, Activation::None).passed;
    assert!(is(0.5, f16::ZERO) && is(0.5, tiny) && is(0.75, tiny));
    assert!(!is(0.75, f16::ZERO) && !is(0.25, tiny) && !is(0.5, -tiny));
}

#[test]
fn only_judged_rows_are_looked_at() {
    let (m, n, k) = (8, 5, 12);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, k), matrix::<f16>(Fill::Normal, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let mut y = run(x, w, &Epilogue::<f16>::default());
    y[3 * n] = f16::NAN;
    let check = |rows: &[usize]| -> Check {
        let judged: Judged = judge_rows(x, w, &Epilogue::<f16>::default(), rows).unwrap();
        check(&judged, view(&y, m, n)).unwrap()
    };
    assert!(check(&[0, 7]).passed);
    assert_eq!(check(&[7, 3]).worst.unwrap().row, 3);
    let nothing = check(&[]);
    assert!(nothing.passed && nothing.worst.is_none() && nothing.elements == 0);
    let judged = judge(x, w, &Epilogue::<f16>::default()).unwrap();
    let error = reference::check(&judged, view(&y, m - 1, n)).unwrap_err();
    assert_eq!(error, Error::Shape { what: "rows of Y", got: 7, want: 8 });
}

#[test]
fn verify_joins_its_parts() {
    // More rows than are judged at a time; one mistake in each part.
    let (m, n, k) = (2500, 3, 8);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, k), matrix::<f16>(Fill::Normal, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let mut y = run(x, w, &Epilogue::<f16>::default());
    let verify = |y: &[f16]| verify(x, w, &Epilogue::default(), view(y, m, n)).unwrap();
    let whole = check(&judge(x, w, &Epilogue::<f16>::default()).unwrap(), view(&y, m, n)).unwrap();
    let parts = verify(&y);
    assert_eq!((parts.max_abs, parts.worst), (whole.max_abs, whole.worst));
    assert!((parts.rel_fro / whole.rel_fro - 1.0).abs() < 1e-12 && parts.rel_fro < 5e-4);
    for row in [5, 1024, 2499] {
        y[row * n] = f16::from_f32(100.0 + row as f32);
    }
    let found = verify(&y);
    assert_eq!((found.wrong, found.elements, found.worst.unwrap().row), (3, m * n, 2499));
}

#[test]
fn errors_reach_the_caller() {
    let data = vec![f16::ONE; 32];
    let found =
        verify(view(&data, 2, 4), view(&data, 3, 8), &Epilogue::default(), view(&data, 2, 3));
    assert_eq!(found.unwrap_err(), Error::Shape { what: "columns of X", got: 4, want: 8 });
    let found =
        verify(view(&data, 0, 4), view(&data, 3, 4), &Epilogue::default(), view(&data, 0, 4));
    assert_eq!(found.unwrap_err(), Error::Shape { what: "columns of Y", got: 4, want: 3 });
    let deep = vec![f16::ZERO; (1 << 23) + 1];
    let deep = view(&deep, 1, deep.len());
    let found = judge(deep, deep, &Epilogue::<f16>::default()).unwrap_err();
    assert_eq!(found.to_string(), "K is 8388609, and a sum in f32 can be bounded up to 8388608");
}

/// The check of int8 results of `x * scale` (K = 1).
fn int8(x: f32, scale: f32, y: i8) -> Check {
    let (x, w) = ([f16::from_f32(x)], [f16::ONE]);
    let scales = [scale];
    let epilogue = Epilogue::<f16, i8> { row_scale: Some(&scales), ..Default::default() };
    let judged = judge(view(&x, 1, 1), view(&w, 1, 1), &epilogue).unwrap();
    check(&judged, view(&[y], 1, 1)).unwrap()
}

#[test]
fn int8_may_go_either_way_only_at_a_boundary() {
    let right = |x: f32, scale: f32| -> Vec<i8> {
        (i8::MIN..=i8::MAX).filter(|&y| int8(x, scale, y).passed).collect()
    };
    assert_eq!((right(2.0, 1.0), right(2.0, 1.2), right(-3.0, 1.2)), (vec![2], vec![2], vec![-4]));
    // 5 * 0.5 lies where 2 and 3 meet.
    assert_eq!(right(5.0, 0.5), [2, 3]);
    // An error of 2 * 2^-24 * 5 * 0.5 reaches the next f32, and not much farther.
    assert_eq!((right(5.0, 0.5f32.next_up()), right(5.0, 0.500_001)), (vec![2, 3], vec![3]));
    // Beyond the range, the nearest number and no other, however large the error.
    assert_eq!((right(2048.0, 3.0), right(-60000.0, 1e30)), (vec![127], vec![-128]));
    assert_eq!((right(127.5, 1.0), right(-128.5, 1.0)), (vec![127], vec![-128]));
    assert_eq!((right(f32::INFINITY, 2.0), right(f32::INFINITY, -2.0)), (vec![127], vec![-128]));
    assert_eq!(right(f32::NAN, 1.0), [0]);
}

#[test]
fn int8_of_integers_is_exact() {
    let (m, n, k) = (20, 30, 40);
    let (x, w) = (matrix::<f16>(Fill::Integers, 1, m, k), matrix::<f16>(Fill::Integers, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let scales: Vec<f32> = (0..m).map(|row| [0.25, 0.5, 1.0, -8.0][row % 4]).collect();
    let epilogue = Epilogue::<f16, i8> { row_scale: Some(&scales), ..Default::default() };
    let judged = judge(x, w, &epilogue).unwrap();
    let mut y = run(x, w, &epilogue);
    assert!(exact(&judged, view(&y, m, n)).unwrap().passed);
    assert!(y.contains(&127) && y.contains(&-128) && y.contains(&1));
    y[7] ^= 1;
    assert_eq!(exact(&judged, view(&y, m, n)).unwrap().wrong, 1);
}

#[test]
fn gates_and_values_are_told_apart() {
    let (m, n, k) = (9, 14, 20);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, k), matrix::<f16>(Fill::Normal, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let activation = Activation::Silu;
    let epilogue = Epilogue::<f16, f32> { gated: true, activation, ..Default::default() };
    let y = run(x, w, &epilogue);
    let z = run(x, w, &Epilogue::<f16, f32>::default());
    let silu = |z: f32| z as f64 / (1.0 + (-z as f64).exp());
    let want = |gate: usize| -> Vec<f32> {
        z.chunks(2).map(|z| (silu(z[gate]) * z[1 - gate] as f64) as f32).collect()
    };
    let judged = judge(x, w, &epilogue).unwrap();
    let passed = |y: &[f32]| check(&judged, view(y, m, n / 2)).unwrap().passed;
    assert!(passed(&y) && passed(&want(0)) && !passed(&want(1)));
    // The bound is of the size of the errors: one part in 2^16 of the magnitudes is too much.
    for i in 0..y.len() {
        let mut y = y.clone();
        let s = judged.magnitude();
        y[i] += (s[2 * i] * s[2 * i + 1]) as f32 / 65536.0;
        assert!(!passed(&y), "{i}");
    }
}

/// `x . w` as a tensor core sums it in f16: 8 products at a time, and a rounding.
fn sums_in_f16(x: &[f16], w: &[f16]) -> f16 {
    let products = x.iter().zip(w).map(|(x, w)| x.to_f64() * w.to_f64());
    let products: Vec<f64> = products.collect();
    let add = |sum: f16, block: &[f64]| f16::from_f64(sum.to_f64() + block.iter().sum::<f64>());
    products.chunks(8).fold(f16::ZERO, add)
}

#[test]
fn sums_in_f16_have_their_own_bound() {
    for (k, fill) in [(64, Fill::Normal), (1000, Fill::Normal), (4096, Fill::Uniform)] {
        let (m, n) = (12, 10);
        let (x, w) = (matrix::<f16>(fill, 1, m, k), matrix::<f16>(fill, 2, n, k));
        let each = |row: usize| {
            let x = &x[row * k..][..k];
            w.chunks(k).map(move |w| sums_in_f16(x, w)).collect::<Vec<_>>()
        };
        let y: Vec<f16> = (0..m).flat_map(each).collect();
        let (x, w, none) = (view(&x, m, k), view(&w, n, k), Epilogue::default());
        let found = verify_accumulated(x, w, &none, view(&y, m, n), Accumulator::F16).unwrap();
        assert!(found.passed, "{k}: {found:?}");
        let as_f32 = verify(x, w, &none, view(&y, m, n)).unwrap();
        assert!(k > 1000 || !as_f32.passed, "{k}: f32 would be nearer");
        // A sum that is off by more than its roundings can be is wrong still.
        let judged = judge(x, w, &none).unwrap().accumulated_in(Accumulator::F16);
        let mut y = y;
        let roundings = 2.0 * (k as f64 / 16.0).ceil();
        let by = judged.magnitude()[5] * roundings / 2048.0;
        y[5] = f16::from_f64(judged.reference()[5] + 1.1 * by);
        assert_eq!(check(&judged, view(&y, m, n)).unwrap().wrong, 1, "{k}");
    }
}

#[test]
fn sums_in_f16_may_overflow_on_the_way() {
    // 60000 + 60000 - 60000: a running sum beyond 65504, a result within.
    let x = [60000.0, 60000.0, -60000.0].map(f16::from_f32);
    let w = [f16::ONE; 3];
    let epilogue = Epilogue::<f16> { activation: Activation::Relu, ..Default::default() };
    let judged = judge(view(&x, 1, 3), view(&w, 1, 3), &epilogue).unwrap();
    let passes = |judged: &Judged, y: f16| check(judged, view(&[y], 1, 1)).unwrap().passed;
    let narrow = judged.clone().accumulated_in(Accumulator::F16);
    for y in [f16::INFINITY, f16::NAN, f16::ZERO] {
        assert!(passes(&narrow, y) && !passes(&judged, y), "{y}");
    }
    assert!(passes(&narrow, x[0]) && passes(&judged, x[0]));
    assert!(!passes(&narrow, f16::ONE));
    // Without a sum that large, infinity is wrong.
    let small = [600.0, 600.0, -600.0].map(f16::from_f32);
    let judged = judge(view(&small, 1, 3), view(&w, 1, 3), &epilogue).unwrap();
    assert!(!passes(&judged.accumulated_in(Accumulator::F16), f16::INFINITY));
}
