//! Every kernel against the reference: on the GPU if there is one, else on the emulator, which runs the
//! same PTX under its checks. Each test says which. Only what takes gigabytes, and the vendor's libraries
//! (`gpu/peers.rs`), need a GPU: those tests are ignored, and
//! `cargo test -p sparseflow --test gpu -- --include-ignored` runs them too.

#[path = "gpu/hopper.rs"]
mod hopper;
#[path = "gpu/peers.rs"]
mod peers;

use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::{Accumulator, Dtype, Instance};
use layout::params::Output;
use reference::random::{Fill, exact_depth, matrix};
use reference::{Check, Element, MatMut, MatRef, Packed, Scalar, judge, judge_rows};
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::{
    Choice, CudaDevice, Device, EmulatedDevice, Epilogue, Matrix, PackedWeight, Plan, Schedule,
    Weight, kernels,
};
use std::sync::{Arc, OnceLock};

fn device() -> Arc<dyn Device> {
    static DEVICE: OnceLock<Arc<dyn Device>> = OnceLock::new();
    open(&DEVICE, CudaDevice::open)
}

/// The device that runs `kernel`: for Ampere's one that compiles a kernel once for all forms of its epilogue. Tests use
/// each of them in some twenty forms, and the driver compiles one at a time.
fn device_of(kernel: &Instance) -> Arc<dyn Device> {
    static GENERAL: OnceLock<Arc<dyn Device>> = OnceLock::new();
    if kernel.family.is_hopper() { device() } else { open(&GENERAL, CudaDevice::open_general) }
}

fn open(
    cell: &OnceLock<Arc<dyn Device>>,
    gpu: impl Fn(u32) -> sparseflow::Result<Arc<dyn Device>>,
) -> Arc<dyn Device> {
    let device = cell.get_or_init(|| match gpu(0) {
        Err(error) if error.is_no_gpu() => EmulatedDevice::open(1),
        other => other.expect("the GPU of this machine"),
    });
    println!("on {}", device.info().name);
    Arc::clone(device)
}

/// Sizes around the edges of tiles, chunks, groups and metadata blocks.
const ODD_SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 16, 64),
    (2, 3, 5),
    (7, 17, 31),
    (8, 8, 8),
    (16, 15, 63),
    (17, 33, 40),
    (33, 65, 127),
    (64, 64, 65),
    (65, 129, 72),
    (127, 255, 192),
    (128, 256, 64),
    (129, 257, 136),
    (200, 300, 333),
    (257, 130, 520),
    (300, 520, 1000),
];

/// Operands of one product, on the host, and how they are laid out on the device.
struct Case<T: Element, O: OutputOf<T>> {
    shape: (usize, usize, usize),
    x: Vec<T>,
    w: Vec<T>,
    bias: Option<Vec<T>>,
    c: Option<Vec<O::Addend>>,
    alpha: f32,
    beta: f32,
    activation: Activation,
    gated: bool,
    row_scale: Option<Vec<f32>>,
    /// Elements by which rows and first elements are shifted, so that nothing is aligned.
    shift: usize,
}

impl<T: Element + Value, O: OutputOf<T>> Case<T, O> {
    fn new(shape: (usize, usize, usize), fill: Fill) -> Self {
        let (m, n, k) = shape;
        Self {
            shape,
            x: matrix(fill, 1, m, k),
            w: matrix(fill, 2, n, k),
            bias: None,
            c: None,
            alpha: 1.0,
            beta: 0.0,
            activation: Activation::None,
            gated: false,
            row_scale: None,
            shift: 0,
        }
    }

    fn with_everything(mut self, activation: Activation, fill: Fill) -> Self {
        let (m, n, _) = self.shape;
        self.bias = Some(matrix(fill, 3, 1, n));
        let c: Vec<T> = matrix(fill, 4, m, n);
        self.c = Some(c.into_iter().map(|c| O::Addend::from_f32(c.to_f32())).collect());
        (self.alpha, self.beta, self.activation) = (1.5, -0.5, activation);
        if O::OUTPUT == Output::Int8 {
            self.row_scale = Some((0..m).map(|row| (row % 17) as f32 * 0.9 - 5.0).collect());
        }
        self
    }

    fn gated(mut self) -> Self {
        self.gated = true;
        self
    }

    /// Columns of Y.
    fn columns(&self) -> usize {
        if self.gated { self.shape.1 / 2 } else { self.shape.1 }
    }

    /// A matrix of `rows` x `cols` on `device`, shifted inside a larger one.
    fn put<V: Value>(
        &self,
        device: &Arc<dyn Device>,
        data: &[V],
        rows: usize,
        cols: usize,
    ) -> Matrix<V> {
        let s = self.shift;
        let mut wide = vec![V::from_f32(f32::NAN); (rows + s) * (cols + s)];
        for r in 0..rows {
            wide[(r + s) * (cols + s) + s..][..cols].copy_from_slice(&data[r * cols..][..cols]);
        }
        let all = Matrix::from_slice(device, &wide, rows + s, cols + s).unwrap();
        all.view(s, s, rows, cols).unwrap()
    }

    /// Y as `choice` computes it, into a poisoned matrix.
    fn run(&self, choice: Choice) -> Vec<O> {
        let kernel = choice.kernel;
        let (m, n, k) = self.shape;
        let device = &device_of(kernel);
        let (x, w) = (self.put(device, &self.x, m, k), self.put(device, &self.w, n, k));
        let bias = self.bias.as_ref().map(|bias| self.put(device, bias, 1, n));
        let c = self.c.as_ref().map(|c| self.put(device, c, m, n));
        let row_scale = self.row_scale.as_ref().map(|scales| self.put(device, scales, 1, m));
        let (s, columns) = (self.shift, self.columns());
        let frame = Matrix::<O>::poisoned(device, m + s, columns + s).unwrap();
        let mut y = frame.view(s, s, m, columns).unwrap();
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        let weight = match kernel.family.is_sparse() {
            true => Weight::Sparse(&packed),
            false => Weight::Dense(&w),
        };
        let epilogue = Epilogue {
            alpha: self.alpha,
            beta: self.beta,
            c: c.as_ref(),
            bias: bias.as_ref(),
            activation: self.activation,
            gated: self.gated,
            row_scale: row_scale.as_ref(),
        };
        Plan::new(Some(choice), &x, weight, &epilogue, &mut y).unwrap().launch().unwrap();
        let out = y.to_vec().unwrap();
        let around = frame.to_vec().unwrap();
        let poison = u32::MAX >> (32 - 8 * size_of::<O>());
        for (i, value) in around.iter().enumerate() {
            let outside = i / (columns + s) < s || i % (columns + s) < s;
            assert!(!outside || value.bits() == poison, "{choice}: wrote outside Y");
        }
        if O::OUTPUT == Output::Int8 {
            // Poison is a number here: what was not written shows by differing in a second run.
            y.write(&vec![O::from_f32(85.0); m * columns]).unwrap();
            let plan = Plan::new(Some(choice), &x, weight, &epilogue, &mut y).unwrap();
            plan.launch().unwrap();
            let same = y.to_vec().unwrap().iter().zip(&out).all(|(a, b)| a.bits() == b.bits());
            assert!(same, "{choice}: part of Y was not written");
        }
        out
    }

    /// Compares Y with the reference.
    fn check(
        &self,
        choice: Choice,
        y: &[O],
        how: impl Fn(&reference::Judged, MatRef<'_, O>) -> Result<Check, reference::Error>,
    ) {
        let (m, n, k) = self.shape;
        let kernel = choice.kernel;
        let view = |data, rows, cols| MatRef::contiguous(data, rows, cols).unwrap();
        let x = view(&self.x, m, k);
        let c = self.c.as_ref().map(|c| MatRef::contiguous(c, m, n).unwrap());
        let epilogue: reference::Epilogue<'_, T, O> = reference::Epilogue {
            alpha: self.alpha,
            beta: self.beta,
            c,
            bias: self.bias.as_deref(),
            activation: self.activation,
            gated: self.gated,
            row_scale: self.row_scale.as_deref(),
        };
        let w = view(&self.w, n, k);
        let judged = if kernel.family.is_sparse() {
            judge(x, &Packed::prune_and_pack(w).unwrap(), &epilogue)
        } else {
            judge(x, w, &epilogue)
        };
        let y = MatRef::contiguous(y, m, self.columns()).unwrap();
        let judged = judged.unwrap().accumulated_in(kernel.accumulator);
        let check = how(&judged, y).unwrap();
        assert!(
            check.passed,
            "{choice} {:?} {:?} gated {} shift {}: {check:?}",
            self.shape, self.activation, self.gated, self.shift
        );
    }

    fn assert_close(&self, choice: impl Into<Choice>) {
        let choice = choice.into();
        self.check(choice, &self.run(choice), reference::check);
    }

    fn assert_exact(&self, choice: impl Into<Choice>) {
        let choice = choice.into();
        self.check(choice, &self.run(choice), reference::exact);
    }
}

fn kernels_of(dtype: Dtype) -> impl Iterator<Item = &'static Instance> {
    kernels::all()
        .filter(move |i| i.dtype == dtype && kernels::obstacle(i, device().info()).is_none())
}

/// Those that take operands however they lie. `gpu/hopper.rs` tests the others.
fn portable(dtype: Dtype) -> impl Iterator<Item = &'static Instance> {
    kernels_of(dtype).filter(|kernel| !kernel.family.is_hopper())
}

fn odd_shapes<T: Element + Value + OutputOf<T>>() {
    for kernel in portable(T::DTYPE) {
        for shape in ODD_SHAPES {
            for shift in [0, 1] {
                let mut case = Case::<T, T>::new(shape, Fill::Uniform);
                case.shift = shift;
                case.assert_close(kernel);
            }
        }
    }
}

#[test]
fn every_kernel_is_right_on_odd_shapes() {
    odd_shapes::<f16>();
    odd_shapes::<bf16>();
}

fn integers<T: Element + Value + OutputOf<T>>() {
    for kernel in portable(T::DTYPE) {
        for (m, n, k) in ODD_SHAPES {
            Case::<T, T>::new((m, n, k.min(exact_depth::<T>())), Fill::Integers)
                .assert_exact(kernel);
            // Sums in f16 are exact as far as results in f16 are.
            let k = match kernel.accumulator {
                Accumulator::F32 => k,
                Accumulator::F16 => k.min(exact_depth::<f16>()),
            };
            Case::<T, f32>::new((m, n, k), Fill::Integers).assert_exact(kernel);
        }
        for (m, n, k) in [(33, 66, 64), (65, 130, 200), (200, 300, 333)] {
            let mut case = Case::<T, i8>::new((m, n, k), Fill::Integers);
            case.row_scale = Some((0..m).map(|row| [0.25, 1.0, -0.5, 4.0][row % 4]).collect());
            case.assert_exact(kernel);
            case.gated().assert_exact(kernel);
            let mut case = Case::<T, f32>::new((m, n, k), Fill::Integers).gated();
            case.activation = Activation::Relu;
            case.assert_exact(kernel);
        }
    }
}

#[test]
fn small_integers_are_exact_bit_for_bit() {
    integers::<f16>();
    integers::<bf16>();
}

fn epilogues<T: Element + Value + OutputOf<T>>() {
    for kernel in portable(T::DTYPE) {
        for activation in Activation::ALL {
            for shape in [(65, 264, 136), (130, 67, 72)] {
                for shift in [0, 1] {
                    let mut case = Case::<T, T>::new(shape, Fill::Normal)
                        .with_everything(activation, Fill::Normal);
                    case.shift = shift;
                    case.assert_close(kernel);
                    let mut case = Case::<T, f32>::new(shape, Fill::Normal)
                        .with_everything(activation, Fill::Normal);
                    case.shift = shift;
                    case.assert_close(kernel);
                }
            }
            let mut bias_only = Case::<T, T>::new((40, 80, 96), Fill::Normal);
            bias_only.bias = Some(matrix(Fill::Normal, 3, 1, 80));
            bias_only.activation = activation;
            bias_only.assert_close(kernel);
        }
    }
}

#[test]
fn every_epilogue_is_right() {
    epilogues::<f16>();
    epilogues::<bf16>();
}

fn forms<T: Element + Value, O: OutputOf<T>>() {
    for kernel in portable(T::DTYPE) {
        for activation in Activation::ALL {
            for (shape, shift) in [((40, 80, 96), 0), ((67, 134, 72), 1), ((33, 2, 40), 0)] {
                let case = || {
                    let mut case = Case::<T, O>::new(shape, Fill::Normal)
                        .with_everything(activation, Fill::Normal);
                    case.shift = shift;
                    case
                };
                case().gated().assert_close(kernel);
                if O::OUTPUT == Output::Int8 {
                    case().assert_close(kernel);
                }
            }
        }
    }
}

#[test]
fn gated_and_int8_outputs_are_right() {
    forms::<f16, f16>();
    forms::<bf16, bf16>();
    forms::<f16, f32>();
    forms::<f16, i8>();
    forms::<bf16, i8>();
}

#[test]
fn the_product_of_no_features_is_zero() {
    for kernel in portable(Dtype::F16) {
        let mut case = Case::<f16, f16>::new((33, 70, 0), Fill::Uniform);
        case.assert_exact(kernel);
        case.bias = Some(matrix(Fill::Uniform, 3, 1, 70));
        case.assert_close(kernel);
    }
}

#[test]
fn infinities_and_nans_follow_the_reference() {
    for kernel in portable(Dtype::F16) {
        Case::<f16, f16>::new((70, 90, 200), Fill::Special).assert_close(kernel);
        for activation in Activation::ALL {
            let special = Fill::Special;
            let case = || Case::<f16, f16>::new((70, 90, 72), special);
            case().with_everything(activation, special).assert_close(kernel);
            case().with_everything(activation, special).gated().assert_close(kernel);
            Case::<f16, i8>::new((70, 90, 72), special)
                .with_everything(activation, special)
                .assert_close(kernel);
        }
    }
    for kernel in portable(Dtype::Bf16) {
        Case::<bf16, bf16>::new((70, 90, 200), Fill::Special).assert_close(kernel);
    }
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    for kernel in portable(Dtype::F16) {
        let case = Case::<f16, f32>::new((300, 520, 1000), Fill::Uniform);
        let first = case.run(kernel.into());
        for _ in 0..5 {
            let same =
                case.run(kernel.into()).iter().zip(&first).all(|(a, b)| a.bits() == b.bits());
            assert!(same, "{}", kernel.name);
        }
    }
}

/// Shared tiles: fewer K-blocks than slices, runs that end inside tiles, whole waves before them.
#[test]
fn shared_tiles_are_right() {
    for kernel in portable(Dtype::F16) {
        for (m, n, k) in [(70, 150, 333), (257, 600, 130)] {
            for schedule in [Schedule::SplitK(3), Schedule::SplitK(8), Schedule::StreamK] {
                Case::<f16, f16>::new((m, n, k.min(exact_depth::<f16>())), Fill::Integers)
                    .assert_exact(Choice { kernel, schedule });
            }
        }
    }
}

fn compression<T: Element + Value + OutputOf<T>>() {
    let shapes = ODD_SHAPES.map(|(m, n, k)| (m + n, k));
    for (n, k) in shapes.into_iter().chain([(1, 5000), (5000, 1), (0, 7), (7, 0)]) {
        for fill in [Fill::Uniform, Fill::Integers, Fill::Special] {
            for shift in [0, 1] {
                let mut case = Case::<T, T>::new((0, n, k), fill);
                case.shift = shift;
                let w = case.put(&device(), &case.w, n, k);
                let packed = PackedWeight::prune_and_pack(&w).unwrap();
                packed.poison().unwrap();
                packed.compress(&w).unwrap();
                let got = packed.to_host().unwrap();
                let host = MatRef::contiguous(&case.w, n, k).unwrap();
                let want = Packed::prune_and_pack(host).unwrap();
                assert_eq!(got.metadata(), want.metadata(), "{n} x {k}, {fill:?}");
                let bits = |p: &Packed<T>| p.values().iter().map(|v| v.bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&want), "{n} x {k}, {fill:?}");
            }
        }
    }
}

#[test]
fn compression_is_bit_equal_to_the_reference() {
    compression::<f16>();
    compression::<bf16>();
}

#[test]
fn c_may_be_y_itself() {
    // Y is not readable through C while it is borrowed for writing, so C is a second view of it.
    let (m, n, k) = (50, 72, 64);
    let host = Case::<f16, f16>::new((m, n, k), Fill::Uniform)
        .with_everything(Activation::Relu, Fill::Uniform);
    for kernel in kernels_of(Dtype::F16).filter(|kernel| kernel.shares()) {
        let (x, w) = (host.put(&device(), &host.x, m, k), host.put(&device(), &host.w, n, k));
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        let bias = host.put(&device(), host.bias.as_ref().unwrap(), 1, n);
        let mut y = host.put(&device(), host.c.as_ref().unwrap(), m, n);
        let c = y.view(0, 0, m, n).unwrap();
        let (alpha, beta, activation) = (host.alpha, host.beta, host.activation);
        let (c, bias) = (Some(&c), Some(&bias));
        let epilogue = Epilogue { alpha, beta, c, bias, activation, ..Default::default() };
        let sparse = kernel.family.is_sparse();
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
        Plan::new(Some(kernel.into()), &x, weight, &epilogue, &mut y).unwrap().launch().unwrap();
        host.check(kernel.into(), &y.to_vec().unwrap(), reference::check);
    }
}

/// A matrix whose rows are `stride` elements apart, in memory of which little is ever touched.
fn far_apart(data: &[f16], rows: usize, cols: usize, stride: usize) -> Matrix<f16> {
    let all = Matrix::uninitialized(&device(), rows, stride).unwrap();
    let view = all.view(0, 0, rows, cols).unwrap();
    view.write(data).unwrap();
    view
}

#[test]
fn offsets_of_over_two_billion_elements() {
    let (m, n, k) = (4, 4, 72);
    const STRIDE: usize = (1 << 30) + 8;
    let host = Case::<f16, f16>::new((m, n, k), Fill::Uniform)
        .with_everything(Activation::None, Fill::Uniform);
    let x = far_apart(&host.x, m, k, STRIDE);
    let w = far_apart(&host.w, n, k, STRIDE);
    let c = far_apart(host.c.as_ref().unwrap(), m, n, STRIDE);
    let bias = host.put(&device(), host.bias.as_ref().unwrap(), 1, n);
    let mut y = far_apart(&vec![f16::NAN; m * n], m, n, STRIDE);
    let packed = PackedWeight::prune_and_pack(&w).unwrap();
    for kernel in kernels_of(Dtype::F16).filter(|kernel| kernel.shares()) {
        y.write(&vec![f16::NAN; m * n]).unwrap();
        let (alpha, beta, activation) = (host.alpha, host.beta, host.activation);
        let (c, bias) = (Some(&c), Some(&bias));
        let epilogue = Epilogue { alpha, beta, c, bias, activation, ..Default::default() };
        let sparse = kernel.family.is_sparse();
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
        Plan::new(Some(kernel.into()), &x, weight, &epilogue, &mut y).unwrap().launch().unwrap();
        host.check(kernel.into(), &y.to_vec().unwrap(), reference::check);
    }
}

/// A matrix of over 2^31 elements that costs little to make: rows repeat with a period of 1021.
fn tall(rows: usize, cols: usize, seed: u64) -> Vec<f16> {
    let period: Vec<f16> = matrix(Fill::Uniform, seed, 1021, cols);
    let mut all = Vec::with_capacity(rows * cols);
    for r in 0..rows {
        all.extend_from_slice(&period[r % 1021 * cols..][..cols]);
    }
    all
}

/// Checks `rows` of Y for each kernel, all columns of them.
fn huge(m: usize, n: usize, k: usize, rows: &[usize]) {
    let (hx, hw) = (tall(m, k, 5), tall(n, k, 6));
    let (rx, rw) = (MatRef::contiguous(&hx, m, k).unwrap(), MatRef::contiguous(&hw, n, k).unwrap());
    let x = Matrix::from_slice(&device(), &hx, m, k).unwrap();
    let w = Matrix::from_slice(&device(), &hw, n, k).unwrap();
    let packed = PackedWeight::prune_and_pack(&w).unwrap();
    let mut pruned = hw.clone();
    reference::prune(&mut MatMut::contiguous(&mut pruned, n, k).unwrap());
    let pruned = MatRef::contiguous(&pruned, n, k).unwrap();
    let none = reference::Epilogue::<f16>::default();
    let judged =
        [judge_rows(rx, rw, &none, rows).unwrap(), judge_rows(rx, pruned, &none, rows).unwrap()];
    let named = [
        "wmma_dense_f16_128x128x32",
        "sm80_dense_f16_128x256x64",
        "sm80_dense_f16_64x64x64",
        "sm80_sparse24_f16_128x256x64",
        "sm80_sparse24_f16_32x64x64",
    ];
    let named = named.map(|name| kernels::find(name).unwrap());
    for kernel in named.into_iter().chain(hopper::kernels(Dtype::F16)) {
        let name = kernel.name;
        let sparse = kernel.family.is_sparse();
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
        let mut y = Matrix::<f16>::poisoned(&device(), m, n).unwrap();
        let plan =
            Plan::new(Some(kernel.into()), &x, weight, &Epilogue::default(), &mut y).unwrap();
        plan.launch().unwrap();
        let out = y.to_vec().unwrap();
        assert!(out.iter().all(|y| !y.is_nan()), "{name}: part of Y was not written");
        let view = MatRef::contiguous(&out, m, n).unwrap();
        let check = reference::check(&judged[usize::from(sparse)], view).unwrap();
        assert!(check.passed, "{name} {m}x{n}x{k}: {check:?}");
    }
}

#[test]
#[ignore = "needs a GPU with 20 GB"]
fn x_of_over_two_billion_elements() {
    huge(66_000, 40, 32_800, &[0, 1, 32_767, 65_471, 65_536, 65_999]);
}

#[test]
#[ignore = "needs a GPU with 20 GB"]
fn w_of_over_two_billion_elements() {
    huge(24, 66_000, 32_800, &[0, 1, 23]);
}

#[test]
#[ignore = "needs a GPU with 20 GB"]
fn y_of_over_two_billion_elements() {
    huge(66_000, 32_800, 24, &[0, 1, 32_767, 65_472, 65_536, 65_999]);
}

#[test]
fn out_of_memory_is_an_error_with_sizes() {
    let error = Matrix::<f16>::uninitialized(&device(), 1 << 22, 1 << 22).unwrap_err().to_string();
    assert!(error.contains(&(1u64 << 45).to_string()), "{error}");
    // The device still works.
    let kernel = kernels::find("sm80_dense_f16_64x64x64").unwrap();
    Case::<f16, f16>::new((8, 8, 8), Fill::Uniform).assert_close(kernel);
}
