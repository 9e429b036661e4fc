//! The product against the independent crate `gemm`, sparse against dense, and what must not matter.

use ::gemm::Parallelism;
use half::{bf16, f16};
use layout::activation::Activation;
use reference::random::{Fill, matrix};
use reference::{
    Element, Epilogue, Error, MatMut, MatRef, OutputOf, Packed, Scalar, Weights, gemm, judge,
    judge_rows, prune,
};

/// Odd shapes, and shapes across the borders of tiles, runs, slices of K and blocks.
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 17, 4),
    (3, 5, 7),
    (7, 3, 66),
    (16, 16, 64),
    (33, 65, 31),
    (65, 121, 130),
    (64, 120, 128),
    (5, 241, 257),
    (257, 9, 100),
    (31, 31, 513),
    (2, 2, 1001),
    (100, 100, 100),
    (300, 130, 70),
    (2100, 7, 9),
    (3, 4200, 5),
];

fn view<T>(data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::contiguous(data, rows, cols).unwrap()
}

/// `X . W^T` in f64 by the crate `gemm`.
fn independent<T: Scalar>(x: &[T], w: &[T], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let (x, w, mut y) = (wide(x), wide(w), vec![0.0; m * n]);
    let (x, w, out) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
    let (kk, nn) = (k as isize, n as isize);
    // SAFETY: x is [m, k], w [n, k], out [m, n], with the strides given.
    unsafe {
        #[rustfmt::skip]
        ::gemm::gemm(
            m, n, k, out, 1, nn, false, x, 1, kk, w, kk, 1,
            0.0, 1.0, false, false, false, Parallelism::None,
        );
    }
    y
}

fn run<'a, T: Element, O: OutputOf<T>>(
    x: MatRef<'_, T>,
    w: impl Into<Weights<'a, T>>,
    epilogue: &Epilogue<'_, T, O>,
) -> Vec<O> {
    let w = w.into();
    let (m, n) = (x.rows(), epilogue.columns(w.n()));
    let mut y = vec![O::from_f32(f32::NAN); m * n];
    gemm(x, w, epilogue, &mut MatMut::contiguous(&mut y, m, n).unwrap()).unwrap();
    y
}

fn bits<O: Scalar>(y: &[O]) -> Vec<u32> {
    y.iter().map(|y| y.bits()).collect()
}

fn agrees_with_independent<T: Element + OutputOf<T>>() {
    for (i, &(m, n, k)) in SHAPES.iter().enumerate() {
        let seed = 10 * i as u64;
        let (x, w) =
            (matrix::<T>(Fill::Normal, seed, m, k), matrix::<T>(Fill::Uniform, seed + 1, n, k));
        let want = independent(&x, &w, (m, n, k));
        let absolute =
            |x: &[T]| x.iter().map(|x| T::from_f32(x.to_f32().abs())).collect::<Vec<T>>();
        let magnitude = independent(&absolute(&x), &absolute(&w), (m, n, k));
        let (x, w) = (view(&x, m, k), view(&w, n, k));
        let judged = judge(x, w, &Epilogue::<T>::default()).unwrap();
        let narrow = run(x, w, &Epilogue::<T, f32>::default());
        let unit = k as f64 * f32::UNIT_ROUNDOFF;
        for e in 0..m * n {
            let s = magnitude[e];
            assert!((judged.reference()[e] - want[e]).abs() <= s * 1e-13, "{m}x{n}x{k} at {e}");
            assert!((narrow[e] as f64 - want[e]).abs() <= s * unit, "{m}x{n}x{k} at {e}");
            let bound = judged.magnitude()[e];
            assert!(s <= bound * (1.0 + 1e-15) && bound <= s * (1.0 + 3.0 * unit) + 1e-30);
        }
    }
}

#[test]
fn dense_agrees_with_an_independent_gemm() {
    agrees_with_independent::<f16>();
    agrees_with_independent::<bf16>();
}

fn sparse_is_dense<T: Element>() {
    for (i, &(m, n, k)) in SHAPES.iter().enumerate() {
        let seed = 100 + 10 * i as u64;
        let (x, mut w) =
            (matrix::<T>(Fill::Normal, seed, m, k), matrix::<T>(Fill::Normal, seed + 1, n, k));
        prune(&mut MatMut::contiguous(&mut w, n, k).unwrap());
        let packed = Packed::pack(view(&w, n, k)).unwrap();
        let (x, unpacked) = (view(&x, m, k), packed.unpack());
        let w = view(&unpacked, n, k);
        let epilogue = Epilogue::<T, f32>::default();
        let (dense, sparse) = (run(x, w, &epilogue), run(x, &packed, &epilogue));
        assert_eq!(bits(&dense), bits(&sparse), "{m}x{n}x{k}");
        let (dense, sparse) =
            (judge(x, w, &epilogue).unwrap(), judge(x, &packed, &epilogue).unwrap());
        assert_eq!(dense.reference(), sparse.reference());
        assert_eq!(dense.magnitude(), sparse.magnitude());
    }
}

#[test]
fn sparse_equals_dense_on_the_unpacked_bit_for_bit() {
    sparse_is_dense::<f16>();
    sparse_is_dense::<bf16>();
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (m, n, k) = (130, 250, 300);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, k), matrix::<f16>(Fill::Normal, 2, n, k));
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let all = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let activation = Activation::Gelu;
            let epilogue = Epilogue::<f16> { activation, ..Default::default() };
            let packed = Packed::prune_and_pack(w).unwrap();
            let judged = judge(x, w, &epilogue).unwrap();
            let wide = [judged.reference(), judged.magnitude()].concat();
            let wide: Vec<u64> = wide.iter().map(|x| x.to_bits()).collect();
            (bits(&run(x, w, &epilogue)), bits(&run(x, &packed, &epilogue)), packed, wide)
        })
    };
    let alone = all(1);
    for threads in [2, 3, 7] {
        assert!(all(threads) == alone, "{threads} threads");
    }
}

#[test]
fn sampled_rows_are_the_rows_of_the_whole() {
    let (m, n, k) = (90, 33, 50);
    let (x, w) = (matrix::<bf16>(Fill::Normal, 1, m, k), matrix::<bf16>(Fill::Normal, 2, n, k));
    let c = matrix::<bf16>(Fill::Normal, 3, m, n);
    let (x, w) = (view(&x, m, k), view(&w, n, k));
    let c = Some(view(&c, m, n));
    let epilogue = Epilogue::<bf16> { beta: 0.5, c, ..Default::default() };
    let all = judge(x, w, &epilogue).unwrap();
    let rows = [89, 0, 41, 41, 7];
    let some = judge_rows(x, w, &epilogue, &rows).unwrap();
    assert_eq!(some.rows(), rows);
    for (i, row) in rows.into_iter().enumerate() {
        let (of_all, of_some) = (row * n..(row + 1) * n, i * n..(i + 1) * n);
        assert_eq!(all.reference()[of_all.clone()], some.reference()[of_some.clone()]);
        assert_eq!(all.magnitude()[of_all], some.magnitude()[of_some]);
    }
    let error = judge_rows(x, w, &epilogue, &[3, 90]).unwrap_err();
    assert_eq!(error, Error::Row { row: 90, rows: 90 });
}

#[test]
fn strides_leave_gaps_untouched() {
    let (m, n, k) = (19, 23, 37);
    let (ldx, ldw, ldc, ldy) = (40, 37, 31, 29);
    let (x, w) = (matrix::<f16>(Fill::Normal, 1, m, ldx), matrix::<f16>(Fill::Normal, 2, n, ldw));
    let c = matrix::<f16>(Fill::Normal, 3, m, ldc);
    let compact = |data: &[f16], ld: usize, cols: usize| -> Vec<f16> {
        data.chunks(ld).flat_map(|row| row[..cols].to_vec()).collect()
    };
    let strided = Epilogue {
        beta: 2.0,
        c: Some(MatRef::new(&c[..(m - 1) * ldc + n], m, n, ldc).unwrap()),
        ..Default::default()
    };
    let mut y = vec![f16::from_f32(9.0); (m - 1) * ldy + n];
    let (sx, sw) = (MatRef::new(&x, m, k, ldx).unwrap(), MatRef::new(&w, n, k, ldw).unwrap());
    gemm(sx, sw, &strided, &mut MatMut::new(&mut y, m, n, ldy).unwrap()).unwrap();

    let (x, w, c) = (compact(&x, ldx, k), compact(&w, ldw, k), compact(&c, ldc, n));
    let plain = Epilogue { beta: 2.0, c: Some(view(&c, m, n)), ..Default::default() };
    assert_eq!(compact(&y, ldy, n), run(view(&x, m, k), view(&w, n, k), &plain));
    let gaps = y.chunks(ldy).flat_map(|row| row.get(n..).unwrap_or_default().to_vec());
    assert!(gaps.into_iter().all(|y| y.to_f32() == 9.0));
}

#[test]
fn empty_extents() {
    let bias = matrix::<f16>(Fill::Normal, 1, 1, 5);
    let none: [f16; 0] = [];
    // K = 0: the dot products are 0 and the epilogue still applies.
    let epilogue = Epilogue::<f16> { bias: Some(&bias), ..Default::default() };
    let (x, w) = (view(&none, 3, 0), view(&none, 5, 0));
    let packed = Packed::prune_and_pack(w).unwrap();
    let want = [&bias[..]; 3].concat();
    assert_eq!(run(x, w, &epilogue), want);
    assert_eq!(run(x, &packed, &epilogue), want);
    let judged = judge(x, &packed, &epilogue).unwrap();
    assert_eq!(judged.magnitude()[4], bias[4].to_f64().abs());
    // M = 0 and N = 0: nothing.
    let w = vec![f16::ONE; 20];
    assert!(run(view(&none, 0, 4), view(&w, 5, 4), &Epilogue::<f16>::default()).is_empty());
    assert!(run(view(&w, 5, 4), view(&none, 0, 4), &Epilogue::<f16>::default()).is_empty());
    assert!(
        run(view(&none, 0, usize::MAX), view(&none, 0, usize::MAX), &Epilogue::<f16>::default())
            .is_empty()
    );
    assert!(judge(view(&w, 5, 4), view(&none, 0, 4), &Epilogue::<f16>::default()).is_ok());
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let data = vec![f16::ONE; 64];
    let epilogue = Epilogue::<f16>::default();
    let mut y = vec![f16::ZERO; 64];
    let mut try_shapes = |x: (usize, usize), w: (usize, usize), y_shape: (usize, usize)| {
        let mut y = MatMut::contiguous(&mut y, y_shape.0, y_shape.1).unwrap();
        gemm(view(&data, x.0, x.1), view(&data, w.0, w.1), &epilogue, &mut y)
    };
    assert_eq!(try_shapes((3, 4), (5, 4), (3, 5)), Ok(()));
    let shape = |what, got, want| Err(Error::Shape { what, got, want });
    assert_eq!(try_shapes((3, 4), (5, 8), (3, 5)), shape("columns of X", 4, 8));
    assert_eq!(try_shapes((3, 4), (5, 4), (4, 5)), shape("rows of Y", 4, 3));
    assert_eq!(try_shapes((3, 4), (5, 4), (3, 4)), shape("columns of Y", 4, 5));
}

#[test]
fn pruned_positions_take_no_part() {
    // W keeps positions 1 and 2 of each group; X is Inf and NaN where W is pruned.
    let w = [0.0, 1.0, 2.0, 0.0, 0.0, -3.0, 0.5, 0.0].map(f16::from_f32);
    let x = [f32::INFINITY, 1.0, 1.0, f32::NAN, f32::NAN, 2.0, 4.0, f32::NEG_INFINITY];
    let x = x.map(f16::from_f32);
    let (x, w) = (view(&x, 1, 8), view(&w, 1, 8));
    let epilogue = Epilogue::<f16>::default();
    let packed = Packed::pack(w).unwrap();
    assert_eq!(run(x, &packed, &epilogue)[0].to_f32(), -1.0);
    let judged = judge(x, &packed, &epilogue).unwrap();
    assert_eq!(judged.reference(), [-1.0]);
    assert!((judged.magnitude()[0] - 11.0).abs() < 1e-4);
    // A dense W multiplies all of it.
    assert!(
        run(x, w, &epilogue)[0].is_nan() && judge(x, w, &epilogue).unwrap().reference()[0].is_nan()
    );
}

#[test]
fn infinities_and_nans_go_through() {
    let x = [f32::INFINITY, 1.0, f32::INFINITY, f32::INFINITY, 1.0, f32::NAN].map(bf16::from_f32);
    let w = [1.0, 1.0, -1.0, 1.0].map(bf16::from_f32);
    let (x, w) = (view(&x, 3, 2), view(&w, 2, 2));
    let y = run(x, w, &Epilogue::<bf16>::default());
    let judged = judge(x, w, &Epilogue::<bf16>::default()).unwrap();
    for (y, r) in y.iter().map(|y| y.to_f64()).zip(judged.reference().iter().copied()) {
        assert!(y == r || y.is_nan() && r.is_nan(), "{y} {r}");
    }
    let y: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
    assert_eq!((y[0], y[1], y[2]), (f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY));
    assert!(y[3].is_nan() && y[4].is_nan() && y[5].is_nan());
}

#[test]
fn magnitudes_beyond_f32_are_found() {
    // Each product is 1e76: the sum of magnitudes overflows f32, the result is 0.
    let x = [1e38f32, 1e38].map(bf16::from_f32);
    let w = [1e38f32, -1e38].map(bf16::from_f32);
    let (x, w) = (view(&x, 1, 2), view(&w, 1, 2));
    let judged = judge(x, w, &Epilogue::<bf16>::default()).unwrap();
    assert_eq!(judged.reference(), [0.0]);
    assert!((judged.magnitude()[0] / 2e76 - 1.0).abs() < 0.01);
    let packed = Packed::pack(w).unwrap();
    let sparse = judge(x, &packed, &Epilogue::<bf16>::default()).unwrap();
    assert_eq!(judged.magnitude(), sparse.magnitude());
}
