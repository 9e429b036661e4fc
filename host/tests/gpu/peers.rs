//! The vendor's libraries against the reference: that what the bench measures beside the kernels is the same
//! product. They are looked for as the bench looks for them; a library that is missing fails its test, and
//! `--skip peers` leaves them out.

use half::{bf16, f16};
use layout::activation::Activation;
use reference::random::{Fill, matrix};
use reference::{Element, Epilogue, MatMut, MatRef, Weights, check, judge, prune};
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::peers::{CublasLt, CusparseLt, Search};
use sparseflow::{CudaDevice, Device, Matrix};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Small K keeps the tolerance tight enough to tell one form of GELU from the other; the last has a W of a few MiB.
const SHAPES: [(usize, usize, usize); 3] = [(64, 96, 64), (16, 256, 128), (4096, 512, 4096)];
const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Relu, Activation::GeluTanh];

fn gpu() -> Arc<dyn Device> {
    CudaDevice::open(0).expect("a GPU")
}

/// Operands of a product with a 2:4 W that is stored dense.
struct Operands<T> {
    shape: (usize, usize, usize),
    host: [Vec<T>; 3],
    x: Matrix<T>,
    w: Matrix<T>,
    bias: Matrix<T>,
}

impl<T: Element + Value + OutputOf<T>> Operands<T> {
    fn new(device: &Arc<dyn Device>, shape: (usize, usize, usize)) -> Self {
        let (m, n, k) = shape;
        let x = matrix(Fill::Uniform, 1, m, k);
        let mut w = matrix(Fill::Uniform, 2, n, k);
        prune(&mut MatMut::contiguous(&mut w, n, k).unwrap());
        let bias = matrix(Fill::Uniform, 3, 1, n);
        Self {
            shape,
            x: Matrix::from_slice(device, &x, m, k).unwrap(),
            w: Matrix::from_slice(device, &w, n, k).unwrap(),
            bias: Matrix::from_slice(device, &bias, 1, n).unwrap(),
            host: [x, w, bias],
        }
    }

    /// Whether `y` is within the tolerance of the product with that epilogue.
    fn is_right(&self, y: &Matrix<T>, bias: bool, activation: Activation) -> bool {
        let (m, n, k) = self.shape;
        let [x, w, vector] = &self.host;
        let x = MatRef::contiguous(x, m, k).unwrap();
        let w = Weights::Dense(MatRef::contiguous(w, n, k).unwrap());
        let bias = bias.then_some(&vector[..]);
        let epilogue = Epilogue::<T> { bias, activation, ..Default::default() };
        let judged = judge(x, w, &epilogue).unwrap();
        check(&judged, MatRef::contiguous(&y.to_vec().unwrap(), m, n).unwrap()).unwrap().passed
    }

    fn check(&self, what: &str, y: &Matrix<T>, bias: bool, activation: Activation) {
        let name = format!("{what} {:?} {:?} bias {bias} {activation:?}", T::DTYPE, self.shape);
        assert!(self.is_right(y, bias, activation), "{name}");
        // A check that the other form of GELU passes too would not say which form it is.
        if activation == Activation::GeluTanh && self.shape.2 == 64 && T::UNIT_ROUNDOFF < 1e-3 {
            assert!(!self.is_right(y, bias, Activation::Gelu), "{name} is the erf form");
        }
    }
}

fn cublaslt<T: Element + Value + OutputOf<T>>() {
    let device = gpu();
    let library = CublasLt::open(&Search::new(Vec::new()), &device).unwrap();
    for shape in SHAPES {
        let operands = Operands::<T>::new(&device, shape);
        let mut y = Matrix::<T>::poisoned(&device, shape.0, shape.1).unwrap();
        for (bias, activation) in epilogues() {
            let vector = bias.then_some(&operands.bias);
            let mut sets = [(&operands.x, &operands.w, &mut y)];
            let plan = library.plan(&mut sets, vector, activation).unwrap();
            y.poison().unwrap();
            plan.launch(&operands.x, &operands.w, &mut y).unwrap();
            operands.check("cuBLASLt", &y, bias, activation);
        }
        let wrong = Matrix::<T>::poisoned(&device, shape.0, shape.1 + 1).unwrap();
        let plan = library.plan(&mut [(&operands.x, &operands.w, &mut y)], None, Activation::None);
        let error = plan.unwrap().launch(&operands.x, &wrong, &mut y).unwrap_err().to_string();
        assert!(error.contains("must be"), "{error}");
    }
}

fn cusparselt<T: Element + Value + OutputOf<T>>() {
    let device = gpu();
    let library = CusparseLt::open(&Search::new(Vec::new()), &device).unwrap();
    for shape in SHAPES {
        let operands = Operands::<T>::new(&device, shape);
        let mut y = Matrix::<T>::poisoned(&device, shape.0, shape.1).unwrap();
        // It has no GELU for these types.
        let gelu = library.plan(&operands.x, &y, None, Activation::GeluTanh).err().unwrap();
        assert!(gelu.to_string().starts_with("cuSPARSELt has no GeluTanh for "), "{gelu}");
        for (bias, activation) in epilogues().filter(|(_, a)| *a != Activation::GeluTanh) {
            let vector = bias.then_some(&operands.bias);
            let mut plan = library.plan(&operands.x, &y, vector, activation).unwrap();
            let w = plan.allocate().unwrap();
            w.poison().unwrap();
            plan.compress(&operands.w, &w).unwrap();
            let other = library.plan(&operands.x, &y, vector, activation).unwrap();
            let error = other.launch(&operands.x, &w, &mut y).unwrap_err().to_string();
            assert!(error.contains("must be this plan's"), "{error}");
            for what in ["cuSPARSELt", "cuSPARSELt searched"] {
                y.poison().unwrap();
                plan.launch(&operands.x, &w, &mut y).unwrap();
                operands.check(what, &y, bias, activation);
                plan.search(&operands.x, &w, &mut y).unwrap();
            }
        }
    }
}

fn epilogues() -> impl Iterator<Item = (bool, Activation)> {
    [false, true].into_iter().flat_map(|bias| ACTIVATIONS.map(|activation| (bias, activation)))
}

#[test]
#[ignore = "needs a GPU and cuBLASLt"]
fn cublaslt_computes_what_the_kernels_compute() {
    cublaslt::<f16>();
    cublaslt::<bf16>();
}

#[test]
#[ignore = "needs a GPU and cuSPARSELt"]
fn cusparselt_computes_what_the_kernels_compute() {
    cusparselt::<f16>();
    cusparselt::<bf16>();
}

/// Sets its flag at the end, also at that of a test that fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What else the GPU does disturbs the times that the search takes, and so it chooses now this, now that: here where
/// slices of K are worth it, and plans thus differ in the workspace that they need.
#[test]
#[ignore = "needs a GPU and cuSPARSELt"]
fn whatever_cusparselt_chooses_is_right() {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let device = gpu();
            let gibibyte = Matrix::<f16>::uninitialized(&device, 1 << 15, 1 << 14).unwrap();
            while !done.load(Ordering::Relaxed) {
                gibibyte.poison().unwrap();
                device.synchronize().unwrap();
            }
        });
        let _done = AtEnd(&done);
        let device = gpu();
        let library = CusparseLt::open(&Search::new(Vec::new()), &device).unwrap();
        let operands = Operands::<f16>::new(&device, (128, 512, 8192));
        let mut y = Matrix::poisoned(&device, 128, 512).unwrap();
        for _ in 0..20 {
            let mut plan = library.plan(&operands.x, &y, None, Activation::None).unwrap();
            let w = plan.allocate().unwrap();
            plan.compress(&operands.w, &w).unwrap();
            // The second time it finds its own choice.
            for _ in 0..2 {
                plan.search(&operands.x, &w, &mut y).unwrap();
                y.poison().unwrap();
                plan.launch(&operands.x, &w, &mut y).unwrap();
                operands.check("cuSPARSELt searched", &y, false, Activation::None);
            }
        }
    });
}
