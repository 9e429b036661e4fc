//! The Hopper kernels on what is theirs alone: persistent blocks, clusters, stores by tensor map. They take K
//! that is a multiple of 8, so few of the shapes of all kernels are for them. Where the GPU is no sm_90, there
//! are none.

use super::*;

/// Those that the device can run.
pub fn kernels(dtype: Dtype) -> impl Iterator<Item = &'static Instance> {
    kernels_of(dtype).filter(|kernel| kernel.family.is_hopper())
}

/// Those that finish Y in any way: without the ones that only store it by tensor map.
pub fn kernels_for_any_y(dtype: Dtype) -> impl Iterator<Item = &'static Instance> {
    kernels(dtype).filter(|kernel| kernel.shares())
}

/// K of fewer blocks than stages, of several and of a part of one; N and Y that a tensor map can store, and not;
/// clusters of which one block has nothing to do, and an odd number of feature tiles.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 8),
    (1, 264, 72),
    (8, 8, 64),
    (17, 33, 40),
    (65, 136, 1000),
    (130, 257, 136),
    (200, 520, 72),
    (257, 130, 520),
];

fn exact<T: Element + Value + OutputOf<T>>(shapes: &[(usize, usize, usize)]) {
    let depth = exact_depth::<T>() / 8 * 8;
    for kernel in kernels(T::DTYPE) {
        let takes = |&&(_, n, _): &&(usize, usize, usize)| kernel.shares() || n.is_multiple_of(8);
        for &(m, n, k) in shapes.iter().filter(takes) {
            Case::<T, T>::new((m, n, k.min(depth)), Fill::Integers).assert_exact(kernel);
        }
        // Rows that are further apart than they are long.
        let mut case = Case::<T, T>::new((65, 136, depth.min(200)), Fill::Integers);
        case.shift = 8;
        case.assert_exact(kernel);
    }
    for kernel in kernels_for_any_y(T::DTYPE) {
        Case::<T, f32>::new((33, 136, 1000), Fill::Integers).assert_exact(kernel);
    }
}

#[test]
fn hopper_kernels_are_exact_on_small_integers() {
    exact::<f16>(&SHAPES);
    exact::<bf16>(&SHAPES[5..]);
}

/// Extents of a little more than two tiles for each block or cluster that the device runs at a time.
fn walk(kernel: &Instance) -> (usize, usize) {
    let workers = (device().info().multiprocessors / kernel.cluster) as usize;
    let columns = (kernel.bn * kernel.cluster) as usize;
    (kernel.bm as usize + 1, workers * columns + 8)
}

#[test]
fn persistent_blocks_walk_through_their_tiles() {
    for kernel in kernels(Dtype::F16) {
        let (m, n) = walk(kernel);
        let blocks = |count: u32| kernel.bk as usize * count as usize;
        let shape = kernel.hopper().unwrap();
        // One K-block, more than there are stages over two tiles, and enough to finish a tile behind the next.
        for k in [40, 24 + blocks(kernel.stages / 2 + 1), blocks(shape.overlapping_blocks().max(1))]
        {
            let k = k.min(exact_depth::<f16>());
            Case::<f16, f16>::new((m, n, k), Fill::Integers).assert_exact(kernel);
        }
    }
}

#[test]
fn tiles_are_finished_behind_the_next() {
    for kernel in kernels(Dtype::F16) {
        let overlapping = kernel.hopper().unwrap().overlapping_blocks();
        if overlapping == 0 {
            continue;
        }
        let (m, n) = walk(kernel);
        let k = (kernel.bk * overlapping) as usize;
        assert!(k <= exact_depth::<f16>(), "{}: K = {k}", kernel.name);
        let case = |alpha, activation, fill| {
            let mut case = Case::<f16, f16>::new((m, n, k), fill);
            (case.alpha, case.activation) = (alpha, activation);
            case.bias = Some(matrix(fill, 3, 1, n));
            case
        };
        case(1.0, Activation::Relu, Fill::Integers).assert_exact(kernel);
        case(2.0, Activation::None, Fill::Integers).assert_exact(kernel);
        case(1.0, Activation::Silu, Fill::Normal).assert_close(kernel);
        case(-0.5, Activation::Gelu, Fill::Normal).assert_close(kernel);
    }
}

#[test]
fn hopper_kernels_share_tiles() {
    for kernel in kernels_for_any_y(Dtype::F16) {
        let k_blocks = |blocks: usize| (kernel.bk as usize * blocks - 8).min(1000);
        let (bm, bn) = (kernel.bm as usize, (kernel.bn * kernel.cluster) as usize);
        for schedule in [Schedule::SplitK(2), Schedule::SplitK(5), Schedule::StreamK] {
            let choice = Choice { kernel, schedule };
            for shape in [(bm / 2, bn - 8, k_blocks(7)), (bm + 1, 2 * bn + 1, k_blocks(4))] {
                Case::<f16, f32>::new(shape, Fill::Integers).assert_exact(choice);
            }
        }
        let (m, n) = walk(kernel);
        let choice = Choice { kernel, schedule: Schedule::StreamK };
        Case::<f16, f16>::new((m, n, 2 * kernel.bk as usize), Fill::Integers).assert_exact(choice);
    }
}

/// By tensor map: alpha, bias and activation; an N that ends inside a box.
fn stored<T: Element + Value + OutputOf<T>>() {
    let fill = Fill::Normal;
    for kernel in kernels(T::DTYPE) {
        for activation in Activation::ALL {
            let mut case = Case::<T, T>::new((70, 72, 136), fill);
            (case.alpha, case.activation) = (1.5, activation);
            case.bias = (activation != Activation::Relu).then(|| matrix(fill, 3, 1, 72));
            case.assert_close(kernel);
        }
    }
}

#[test]
fn hopper_kernels_finish_what_tensor_maps_store() {
    stored::<f16>();
    stored::<bf16>();
}

/// Through the epilogue of all kernels: a Y that no tensor map can describe, C, gates, other types. Each kernel
/// has one activation in each of these.
fn converted<T: Element + Value + OutputOf<T>>()
where
    f32: OutputOf<T>,
    i8: OutputOf<T>,
{
    let fill = Fill::Normal;
    for (at, kernel) in kernels_for_any_y(T::DTYPE).enumerate() {
        let activation = |form: usize| Activation::ALL[(at + form) % Activation::ALL.len()];
        let mut case = Case::<T, T>::new((35, 67, 72), fill);
        (case.bias, case.activation) = (Some(matrix(fill, 3, 1, 67)), activation(0));
        case.assert_close(kernel);
        let shape = (70, 136, 72);
        Case::<T, T>::new(shape, fill).with_everything(activation(1), fill).assert_close(kernel);
        Case::<T, f32>::new(shape, fill).with_everything(activation(2), fill).assert_close(kernel);
        Case::<T, i8>::new(shape, fill).with_everything(activation(3), fill).assert_close(kernel);
        let gated = Case::<T, T>::new((35, 66, 40), fill).gated();
        gated.with_everything(activation(4), fill).assert_close(kernel);
    }
}

#[test]
fn hopper_kernels_finish_what_they_store_themselves() {
    converted::<f16>();
    converted::<bf16>();
}

#[test]
fn hopper_kernels_pass_infinities_and_nans_on() {
    for kernel in kernels(Dtype::F16) {
        let special = Fill::Special;
        Case::<f16, f16>::new((70, 88, 200), special).assert_close(kernel);
    }
    for kernel in kernels_for_any_y(Dtype::F16) {
        let special = Fill::Special;
        let case = Case::<f16, f16>::new((70, 88, 72), special);
        case.with_everything(Activation::Silu, special).assert_close(kernel);
    }
    for kernel in kernels(Dtype::Bf16) {
        Case::<bf16, bf16>::new((70, 88, 200), Fill::Special).assert_close(kernel);
    }
}

#[test]
fn hopper_kernels_give_the_same_bits_again() {
    for kernel in kernels_for_any_y(Dtype::F16) {
        let case = Case::<f16, f32>::new((100, 520, 1000), Fill::Uniform);
        for schedule in [Schedule::Tiles, Schedule::StreamK] {
            let choice = Choice { kernel, schedule };
            let first = case.run(choice);
            let same = case.run(choice).iter().zip(&first).all(|(a, b)| a.bits() == b.bits());
            assert!(same, "{choice}");
        }
    }
}

#[test]
fn kernels_that_only_store_by_tensor_map_say_so() {
    for kernel in kernels(Dtype::F16).filter(|kernel| !kernel.shares()) {
        // Whatever the schedule says, blocks compute whole tiles.
        for schedule in [Schedule::SplitK(2), Schedule::StreamK] {
            let case = Case::<f16, f16>::new((33, 136, 520), Fill::Integers);
            case.assert_exact(Choice { kernel, schedule });
        }
        let (m, n, k) = (8, 12, 64);
        let host = Case::<f16, f16>::new((m, n, k), Fill::Uniform);
        let (x, w) = (host.put(&device(), &host.x, m, k), host.put(&device(), &host.w, n, k));
        let packed = PackedWeight::prune_and_pack(&w).unwrap();
        let sparse = kernel.family.is_sparse();
        let weight = if sparse { Weight::Sparse(&packed) } else { Weight::Dense(&w) };
        let mut y = Matrix::<f16>::uninitialized(&device(), m, n).unwrap();
        let plan = Plan::new(Some(kernel.into()), &x, weight, &Epilogue::default(), &mut y);
        let error = plan.err().expect("rows of Y are 24 bytes apart").to_string();
        assert!(error.contains(kernel.name) && error.contains("12 elements apart"), "{error}");
    }
}
