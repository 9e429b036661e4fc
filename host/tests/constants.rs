//! Parameters that are compiled into a kernel change how it is compiled, and no bit of what it computes.

use half::{bf16, f16};
use layout::activation::Activation;
use layout::instance::{Dtype, Instance};
use reference::random::{Fill, matrix};
use reference::{Element, Scalar};
use sparseflow::matrix::{OutputOf, Value};
use sparseflow::{
    Choice, Device, EmulatedDevice, Epilogue, Matrix, PackedWeight, Plan, Schedule, Weight, kernels,
};
use std::sync::Arc;

const SHAPE: (usize, usize, usize) = (70, 136, 264);

/// The kernel with the smallest tile of each kind.
fn some(dtype: Dtype) -> Vec<&'static Instance> {
    let mut all: Vec<_> = kernels::all().filter(|i| i.dtype == dtype && i.shares()).collect();
    all.sort_by_key(|i| i.bm * i.bn);
    let mut kinds = Vec::new();
    all.retain(|i| {
        let kind = (i.family, i.accumulator, i.ping_pong, i.cluster);
        let is_new = !kinds.contains(&kind);
        kinds.push(kind);
        is_new
    });
    all
}

/// Which parts of an epilogue there are.
#[derive(Clone, Copy, Debug)]
struct Form {
    bias: bool,
    c: bool,
    gated: bool,
    row_scale: bool,
    activation: Activation,
}

const BARE: Form =
    Form { bias: false, c: false, gated: false, row_scale: false, activation: Activation::None };

fn y<T: Element + Value, O: OutputOf<T>>(
    device: &Arc<dyn Device>,
    choice: Choice,
    form: Form,
) -> Vec<O> {
    let (m, n, k) = SHAPE;
    let put = |seed, rows, cols| {
        let host = matrix::<T>(Fill::Normal, seed, rows, cols);
        Matrix::from_slice(device, &host, rows, cols).unwrap()
    };
    let (x, w, bias) = (put(1, m, k), put(2, n, k), put(3, 1, n));
    let c: Vec<T> = matrix(Fill::Normal, 4, m, n);
    let c: Vec<O::Addend> = c.into_iter().map(|c| O::Addend::from_f32(c.to_f32())).collect();
    let c = Matrix::from_slice(device, &c, m, n).unwrap();
    let scales = Matrix::from_slice(device, &vec![1.5f32; m], 1, m).unwrap();
    let packed = PackedWeight::prune_and_pack(&w).unwrap();
    let weight = match choice.kernel.family.is_sparse() {
        true => Weight::Sparse(&packed),
        false => Weight::Dense(&w),
    };
    let epilogue = Epilogue {
        alpha: 1.25,
        beta: 0.5,
        c: form.c.then_some(&c),
        bias: form.bias.then_some(&bias),
        activation: form.activation,
        gated: form.gated,
        row_scale: form.row_scale.then_some(&scales),
    };
    let columns = if form.gated { n / 2 } else { n };
    let mut y = Matrix::<O>::poisoned(device, m, columns).unwrap();
    Plan::new(Some(choice), &x, weight, &epilogue, &mut y).unwrap().launch().unwrap();
    y.to_vec().unwrap()
}

fn same_bits<T: Element + Value, O: OutputOf<T>>(schedule: Schedule, form: Form) {
    let (general, special) = (EmulatedDevice::open(1), EmulatedDevice::specializing(1));
    for kernel in some(T::DTYPE) {
        let choice = Choice { kernel, schedule };
        let bits = |device| {
            let y: Vec<O> = y::<T, O>(device, choice, form);
            y.into_iter().map(|y| y.bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&general), bits(&special), "{choice} {form:?}");
    }
}

#[test]
fn constants_change_no_bit() {
    let (tiles, split) = (Schedule::Tiles, Schedule::SplitK(2));
    same_bits::<f16, f16>(tiles, BARE);
    same_bits::<f16, f16>(split, Form { bias: true, activation: Activation::Silu, ..BARE });
    same_bits::<f16, f16>(tiles, Form { gated: true, activation: Activation::Gelu, ..BARE });
    same_bits::<f16, f32>(Schedule::StreamK, Form { c: true, ..BARE });
    same_bits::<f16, i8>(tiles, Form { row_scale: true, bias: true, ..BARE });
    same_bits::<bf16, bf16>(tiles, Form { bias: true, activation: Activation::Relu, ..BARE });
}
