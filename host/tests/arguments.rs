//! What the library does with arguments before anything reaches a GPU, on a device that records
//! launches and runs none.

use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::Dtype;
use layout::params::{GemmParams, HopperParams};
use sparseflow::device::{Device, DeviceInfo, Launch, Memory, TensorMap};
use sparseflow::gemm::{MAX_EXTENT, MAX_STRIDE};
use sparseflow::{
    Choice, Epilogue, Matrix, PackedWeight, Plan, Result, Weight, gemm, kernels, linear,
};
use std::any::Any;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a launch was: entry, blocks, blocks of a cluster, parameters.
#[derive(Debug, PartialEq)]
struct Launched {
    entry: &'static str,
    grid: u32,
    cluster: u32,
    params: Vec<u8>,
}

struct Recorder {
    info: DeviceInfo,
    next: AtomicU64,
    launches: Mutex<Vec<Launched>>,
}

struct Address(u64, u64);

impl Memory for Address {
    fn address(&self) -> u64 {
        self.0
    }
    fn bytes(&self) -> u64 {
        self.1
    }
    fn upload(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn download(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
    fn fill(&self, _: u8) -> Result<()> {
        Ok(())
    }
}

impl Device for Recorder {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        let size = bytes.next_multiple_of(256);
        Ok(Arc::new(Address(self.next.fetch_add(size, Ordering::Relaxed), bytes)))
    }
    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        self.allocate(bytes)
    }
    fn tensor_map(&self, _: &TensorMap) -> Result<[u64; 16]> {
        Ok([0; 16])
    }
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let Launch { entry, grid, cluster, .. } = *launch;
        let params = launch.params.to_vec();
        self.launches.lock().unwrap().push(Launched { entry, grid, cluster, params });
        Ok(())
    }
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        (0..items).map(|i| item(i).map(|()| 1.0)).collect()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn recorder(shared_bytes: u32) -> Arc<dyn Device> {
    recorder_of((8, 0), shared_bytes)
}

fn hopper() -> Arc<dyn Device> {
    recorder_of((9, 0), 227 << 10)
}

fn recorder_of(sm: (u32, u32), shared_bytes: u32) -> Arc<dyn Device> {
    let info = DeviceInfo {
        name: "recorder".to_owned(),
        sm,
        multiprocessors: 100,
        l2_bytes: 1 << 20,
        shared_bytes,
        memory_bytes: 1 << 40,
        driver: String::new(),
    };
    Arc::new(Recorder { info, next: AtomicU64::new(1 << 20), launches: Mutex::default() })
}

fn launches(device: &Arc<dyn Device>) -> Vec<Launched> {
    let recorder = device.as_any().downcast_ref::<Recorder>().unwrap();
    std::mem::take(&mut recorder.launches.lock().unwrap())
}

fn empty(device: &Arc<dyn Device>, rows: usize, cols: usize) -> Matrix<f16> {
    Matrix::uninitialized(device, rows, cols).unwrap()
}

/// The message of the error of this product.
fn refused(x: &Matrix<f16>, w: &Matrix<f16>, e: Epilogue<'_, f16>, y: &mut Matrix<f16>) -> String {
    gemm(x, Weight::Dense(w), &e, y).unwrap_err().to_string()
}

#[test]
fn shapes_that_do_not_match_are_named() {
    let d = recorder(99 << 10);
    let (x, w, mut y) = (empty(&d, 4, 8), empty(&d, 5, 8), empty(&d, 4, 5));
    let e = Epilogue::default();
    let text = refused(&x, &empty(&d, 5, 9), e, &mut y);
    assert_eq!(text, "invalid argument: columns of X (K of W) is 8, must be 9");
    let text = refused(&x, &w, e, &mut empty(&d, 3, 5));
    assert_eq!(text, "invalid argument: rows of Y (M of X) is 3, must be 4");
    let text = refused(&x, &w, e, &mut empty(&d, 4, 6));
    assert_eq!(text, "invalid argument: columns of Y (N of W) is 6, must be 5");
    let bias = empty(&d, 1, 4);
    let text = refused(&x, &w, Epilogue { bias: Some(&bias), ..e }, &mut y);
    assert_eq!(text, "invalid argument: columns of bias is 4, must be 5");
    let c = empty(&d, 4, 4);
    let text = refused(&x, &w, Epilogue { beta: 1.0, c: Some(&c), ..e }, &mut y);
    assert_eq!(text, "invalid argument: columns of C is 4, must be 5");
    assert_eq!(launches(&d), []);
}

#[test]
fn gates_and_row_scales_that_do_not_fit_are_named() {
    let d = recorder(99 << 10);
    let (x, w) = (empty(&d, 4, 8), empty(&d, 6, 8));
    let gated = Epilogue { gated: true, ..Default::default() };
    let text = refused(&x, &empty(&d, 5, 8), gated, &mut empty(&d, 4, 5));
    assert_eq!(
        text,
        "invalid argument: N of a gated product is 5, must be even: gates and values alternate"
    );
    let text = refused(&x, &w, gated, &mut empty(&d, 4, 6));
    assert_eq!(text, "invalid argument: columns of Y (N/2 of W) is 6, must be 3");
    let scales = |columns| Matrix::<f32>::uninitialized(&d, 1, columns).unwrap();
    let (four, five) = (scales(4), scales(5));
    let e = Epilogue { row_scale: Some(&four), ..Default::default() };
    let text = refused(&x, &w, e, &mut empty(&d, 4, 6));
    assert_eq!(text, "invalid argument: row_scale is given, must be absent unless Y is int8");
    let mut y = Matrix::<i8>::uninitialized(&d, 4, 6).unwrap();
    let e = Epilogue { row_scale: Some(&five), ..Default::default() };
    let text = gemm(&x, Weight::Dense(&w), &e, &mut y).unwrap_err().to_string();
    assert_eq!(text, "invalid argument: columns of row_scale (M of X) is 5, must be 4");
    assert_eq!(launches(&d), []);
    let e = Epilogue { row_scale: Some(&four), ..Default::default() };
    gemm(&x, Weight::Dense(&w), &e, &mut y).unwrap();
    assert_eq!(launches(&d).len(), 1);
}

#[test]
fn extents_over_the_limit_are_named() {
    let d = recorder(99 << 10);
    let k = MAX_EXTENT + 1;
    let (x, w, mut y) = (empty(&d, 1, k), empty(&d, 1, k), empty(&d, 1, 1));
    let text = refused(&x, &w, Epilogue::default(), &mut y);
    assert!(text.contains(&format!("K is {k}, must be at most {MAX_EXTENT}")), "{text}");
    let text = PackedWeight::prune_and_pack(&w).err().unwrap().to_string();
    assert!(text.contains(&format!("columns of W is {k}")), "{text}");
    let text = Matrix::<f16>::uninitialized(&d, usize::MAX, 2).unwrap_err().to_string();
    assert!(text.contains("matrix extent"), "{text}");
}

#[test]
fn strides_over_the_limit_are_named() {
    let d = hopper();
    let far = |stride| empty(&d, 2, stride).view(0, 0, 2, 64).unwrap();
    let (near, over) = (far(MAX_STRIDE), MAX_STRIDE + 1);
    let kernel = kernels::find("sm80_dense_f16_64x64x64").unwrap();
    let mut y = empty(&d, 2, 2);
    let mut plan = |choice: Option<Choice>, x: &Matrix<f16>, w: &Matrix<f16>| {
        let (w, e) = (Weight::Dense(w), Epilogue::default());
        Plan::new(choice, x, w, &e, &mut y).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(plan(Some(kernel.into()), &near, &near), Ok(()));
    let names = |text: String, what: &str| {
        let want = format!("row stride of {what} of sm80_dense_f16_64x64x64 is {over}, must be at");
        assert!(text.contains(&want), "{text}");
    };
    names(plan(Some(kernel.into()), &far(over), &near).unwrap_err(), "X");
    names(plan(Some(kernel.into()), &near, &far(over)).unwrap_err(), "W");
    // A tensor map has room for it, and one row has no next.
    let by_map = kernels::find(hopper_kernel(false)).unwrap();
    assert_eq!(plan(Some(by_map.into()), &far(over), &far(over)), Ok(()));
    let one = far(over).view(0, 0, 1, 64).unwrap();
    let mut y = empty(&d, 1, 1);
    let e = Epilogue::default();
    Plan::new(Some(kernel.into()), &one, Weight::Dense(&one), &e, &mut y).unwrap();
}

#[test]
fn empty_outputs_need_no_launch() {
    let d = recorder(99 << 10);
    for (m, n, k) in [(0, 5, 7), (5, 0, 7), (0, 0, 0)] {
        let w = empty(&d, n, k);
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        launches(&d);
        for weight in [Weight::Dense(&w), Weight::Sparse(&packed)] {
            linear(&empty(&d, m, k), weight, None, Activation::Relu).unwrap();
        }
        assert_eq!(launches(&d), []);
    }
}

#[test]
fn a_grid_covers_y() {
    let d = recorder(227 << 10);
    let (x, w) = (empty(&d, 1000, 64), empty(&d, 3000, 64));
    let mut y = empty(&d, 1000, 3000);
    let of_f16 = kernels::all().filter(|i| i.dtype == Dtype::F16 && !i.family.is_sparse());
    for kernel in of_f16.filter(|i| !i.family.is_hopper()) {
        let e = Epilogue::default();
        Plan::new(Some(kernel.into()), &x, Weight::Dense(&w), &e, &mut y)
            .unwrap()
            .launch()
            .unwrap();
        let launched = launches(&d).remove(0);
        let grid = 1000u32.div_ceil(kernel.bm) * 3000u32.div_ceil(kernel.bn);
        assert_eq!((launched.entry, launched.grid, launched.cluster), (kernel.name, grid, 1));
        assert_eq!(launched.params.len(), size_of::<GemmParams>());
    }
}

#[test]
fn blocks_of_hopper_kernels_cover_y_in_their_waves() {
    let d = hopper();
    for (m, n) in [(1000, 3000), (1, 8), (5000, 40)] {
        let (x, w, mut y) = (empty(&d, m, 64), empty(&d, n, 64), empty(&d, m, n));
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        let all = kernels::all().filter(|i| i.family.is_hopper() && i.dtype == Dtype::F16);
        for kernel in all {
            let weight = match kernel.family.is_sparse() {
                true => Weight::Sparse(&packed),
                false => Weight::Dense(&w),
            };
            launches(&d);
            let e = Epilogue::default();
            Plan::new(Some(kernel.into()), &x, weight, &e, &mut y).unwrap().launch().unwrap();
            let launched = launches(&d).pop().unwrap();
            let Launched { entry, grid, cluster, ref params } = launched;
            assert_eq!((entry, cluster, grid % cluster), (kernel.name, kernel.cluster, 0));
            // Blocks are persistent, unless they share each tile.
            let shared = kernel.slices > 1;
            assert!(shared || grid <= 100, "{entry}: {grid} blocks on 100 multiprocessors");
            assert_eq!(params.len(), size_of::<HopperParams>());
            let at = offset_of!(HopperParams, gemm) + offset_of!(GemmParams, waves);
            let waves = u32::from_le_bytes(params[at..at + 4].try_into().unwrap()) as usize;
            let columns = n.div_ceil((kernel.bn * cluster / kernel.slices) as usize);
            let tiles = m.div_ceil(kernel.bm as usize) * columns;
            let workers = (grid / cluster) as usize;
            assert!(!shared || workers == tiles, "{entry}: {workers} clusters for {tiles} tiles");
            assert!(workers * waves >= tiles && workers * (waves - 1) < tiles, "{entry} {m}x{n}");
        }
    }
}

/// The name of a Hopper kernel for dense and for sparse W.
fn hopper_kernel(sparse: bool) -> &'static str {
    let mut of_f16 = kernels::all().filter(|i| i.family.is_hopper() && i.dtype == Dtype::F16);
    of_f16.find(|i| i.family.is_sparse() == sparse).unwrap().name
}

#[test]
fn a_hopper_kernel_names_the_operand_that_it_does_not_take() {
    let d = hopper();
    let frame = empty(&d, 80, 80);
    let (x, w) = (frame.view(0, 0, 64, 64).unwrap(), frame.view(0, 8, 64, 64).unwrap());
    let (odd, shifted) = (empty(&d, 64, 63), frame.view(0, 4, 64, 64).unwrap());
    let wide = empty(&d, 64, 68);
    let narrow = wide.view(0, 0, 64, 64).unwrap();
    let mut y = empty(&d, 64, 64);
    let mut outcome = |x: &Matrix<f16>, w: &Matrix<f16>, sparse| {
        let packed = PackedWeight::prune_and_pack(w).unwrap();
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(w) };
        let kernel = kernels::find(hopper_kernel(sparse)).unwrap();
        let e = Epilogue::default();
        Plan::new(Some(kernel.into()), x, weight, &e, &mut y).map(drop).map_err(|e| e.to_string())
    };
    for sparse in [false, true] {
        let name = hopper_kernel(sparse);
        assert_eq!(outcome(&x, &w, sparse), Ok(()));
        for x in [&shifted, &narrow] {
            let (at, stride) = (x.address(), x.stride());
            let want = format!(
                "invalid argument: X of {name} is at {at:#x}, rows {stride} elements apart, \
                 must be at a multiple of 16 bytes, rows at multiples of 16 bytes"
            );
            assert_eq!(outcome(x, &w, sparse), Err(want));
        }
        let text = outcome(&odd, &empty(&d, 64, 63), sparse).unwrap_err();
        assert!(text.contains("X of") && text.contains("rows 63 elements apart"), "{text}");
        let text = outcome(&empty(&d, 64, 0), &empty(&d, 64, 0), sparse).unwrap_err();
        let want = format!("product of {name} is 64x64x0, must be at least 1x1x1");
        assert!(text.contains(&want), "{text}");
    }
    let text = outcome(&x, &shifted, false).unwrap_err();
    assert!(text.contains(&format!("W of {} is at", hopper_kernel(false))), "{text}");
    // A packed W is aligned, whatever it was packed from.
    assert_eq!(outcome(&x, &shifted, true), Ok(()));
}

#[test]
fn without_a_kernel_asked_for_every_legal_shape_works() {
    let d = hopper();
    let launched = |m: usize, n: usize, k: usize, shift: usize, sparse: bool| {
        let put = |rows, cols| {
            empty(&d, rows + shift, cols + shift).view(shift, shift, rows, cols).unwrap()
        };
        let (x, w) = (put(m, k), put(n, k));
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        launches(&d);
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
        linear(&x, weight, None, Activation::None).unwrap();
        // W may be brought into another order before.
        kernels::find(launches(&d).pop().unwrap().entry).unwrap()
    };
    for sparse in [false, true] {
        assert!(launched(4096, 4096, 4096, 0, sparse).family.is_hopper());
        for (m, n, k) in [(1, 1, 1), (4096, 4096, 4095), (1, 1000, 7), (33, 5, 0)] {
            let kernel = launched(m, n, k, 0, sparse);
            assert!(!kernel.family.is_hopper(), "{} for {m}x{n}x{k}", kernel.name);
        }
        for shift in [1, 4] {
            let kernel = launched(4096, 4096, 4096, shift, sparse);
            assert!(!kernel.family.is_hopper(), "{} for a shift of {shift}", kernel.name);
        }
    }
}

#[test]
fn a_hopper_kernel_is_for_sm_90_alone() {
    for sm in [(8, 0), (8, 9), (10, 0), (12, 0)] {
        let d = recorder_of(sm, 227 << 10);
        let (x, w, mut y) = (empty(&d, 64, 64), empty(&d, 64, 64), empty(&d, 64, 64));
        let kernel = kernels::find(hopper_kernel(false)).unwrap();
        let e = Epilogue::default();
        let plan = Plan::new(Some(kernel.into()), &x, Weight::Dense(&w), &e, &mut y);
        let text = plan.map(drop).unwrap_err().to_string();
        let want = format!("is for sm_90 alone, the device is sm_{}{}", sm.0, sm.1);
        assert!(text.contains(&want), "{text}");
        linear(&x, Weight::Dense(&w), None, Activation::None).unwrap();
        assert!(!kernels::find(launches(&d)[0].entry).unwrap().family.is_hopper());
    }
}

#[test]
fn operands_must_not_overlap_y() {
    let d = recorder(99 << 10);
    let x = empty(&d, 8, 8);
    let mut y = x.view(0, 0, 8, 8).unwrap();
    let text = refused(&x, &empty(&d, 8, 8), Epilogue::default(), &mut y);
    assert_eq!(text, "X and Y overlap in device memory");
    let text = refused(&empty(&d, 8, 8), &x, Epilogue::default(), &mut y);
    assert_eq!(text, "W and Y overlap in device memory");

    let frame = empty(&d, 9, 8);
    let (mut y, w, x) = (frame.view(0, 0, 8, 8).unwrap(), empty(&d, 8, 8), empty(&d, 8, 8));
    let shifted = frame.view(1, 0, 8, 8).unwrap();
    let e = Epilogue { beta: 1.0, c: Some(&shifted), ..Default::default() };
    assert_eq!(refused(&x, &w, e, &mut y), "C and Y overlap in device memory");
    let same = frame.view(0, 0, 8, 8).unwrap();
    let e = Epilogue { beta: 1.0, c: Some(&same), ..Default::default() };
    gemm(&x, Weight::Dense(&w), &e, &mut y).unwrap();
    // Gated, a row of Y is half a row of C: in the same place it would overwrite what is still to be read.
    let e = Epilogue { gated: true, ..e };
    let mut half = frame.view(0, 0, 8, 4).unwrap();
    assert_eq!(refused(&x, &w, e, &mut half), "C and Y overlap in device memory");
}

#[test]
fn operands_of_another_device_are_refused() {
    let (a, b) = (recorder(99 << 10), recorder(99 << 10));
    let (x, w, mut y) = (empty(&a, 8, 8), empty(&b, 8, 8), empty(&a, 8, 8));
    let text = refused(&x, &w, Epilogue::default(), &mut y);
    assert_eq!(text, "W lives on another device than X");
}

#[test]
fn kernels_must_suit_operands_and_device() {
    let d = recorder(99 << 10);
    let (x, w, mut y) = (empty(&d, 8, 8), empty(&d, 8, 8), empty(&d, 8, 8));
    let plan = |name: &str, y: &mut Matrix<f16>| {
        let kernel = kernels::find(name).unwrap();
        let e = Epilogue::default();
        Plan::new(Some(kernel.into()), &x, Weight::Dense(&w), &e, y)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let text = plan("sm80_sparse24_f16_64x128x64", &mut y);
    assert!(text.contains("sm80_sparse24_f16_64x128x64, must be dense"), "{text}");
    let text = plan("sm80_dense_bf16_64x64x64", &mut y);
    assert!(text.contains("of F16"), "{text}");
    let text = plan("sm80_dense_f16_128x256x64", &mut y);
    let bytes = kernels::find("sm80_dense_f16_128x256x64").unwrap().shared_bytes();
    let needs = format!("{bytes} bytes of shared memory");
    assert!(text.contains(&needs) && text.contains("101376"), "{text}");
}

#[test]
fn a_small_device_gets_kernels_that_fit() {
    let d = recorder(99 << 10);
    let x = empty(&d, 8192, 8192);
    let w = empty(&d, 8192, 8192);
    let packed = PackedWeight::prune_and_pack(&w).unwrap();
    for weight in [Weight::Dense(&w), Weight::Sparse(&packed)] {
        launches(&d);
        linear(&x, weight, None, Activation::None).unwrap();
        let kernel = kernels::find(launches(&d)[0].entry).unwrap();
        assert!(kernel.shared_bytes() <= 99 << 10, "{}", kernel.name);
    }
}

#[test]
fn views_stay_inside() {
    let d = recorder(99 << 10);
    let a: Matrix<bf16> = Matrix::uninitialized(&d, 10, 20).unwrap();
    let v = a.view(2, 4, 8, 16).unwrap();
    assert_eq!(v.address(), a.address() + (2 * 20 + 4) * 2);
    assert_eq!((v.rows(), v.cols(), v.stride()), (8, 16, 20));
    for (row, col, rows, cols) in [(0, 0, 11, 1), (0, 5, 1, 16), (usize::MAX, 0, 2, 1)] {
        let text = a.view(row, col, rows, cols).unwrap_err().to_string();
        assert!(text.contains("inside 10 x 20"), "{text}");
    }
    let text = Matrix::from_slice(&d, &[f16::ONE; 5], 2, 3).unwrap_err().to_string();
    assert!(text.contains("is 5, must be 2 x 3 = 6"), "{text}");
}
