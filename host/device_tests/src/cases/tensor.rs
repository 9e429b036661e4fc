//! Cases of the kernels in `tensor`.

use super::data::halves;
use crate::case::{Arg, Case, Contents, TensorMap};
use layout::descriptor::Swizzle;

/// The matrix: 88 of 96 elements of a row belong to it, so what a copy must not touch lies behind a row
/// as well as behind the last one.
const COLUMNS: u64 = 88;
const ROWS: u64 = 30;
const PITCH: u64 = 192;
/// Rows that the buffer has.
const BUFFER_ROWS: u64 = 34;

pub fn cases() -> Vec<Case> {
    use Swizzle::{B32, B64, B128, None};
    // (x, y) of boxes inside, over the lower and over the upper border, and wholly outside.
    let (inside, low, high, outside) = ((16, 8), (-8, -4), (72, 20), (88, -64));
    vec![
        copy("tensor_copy_none_inside", None, inside),
        copy("tensor_copy_none_low", None, low),
        copy("tensor_copy_none_high", None, high),
        copy("tensor_copy_32_inside", B32, inside),
        copy("tensor_copy_32_low", B32, low),
        copy("tensor_copy_32_high", B32, high),
        copy("tensor_copy_64_inside", B64, inside),
        copy("tensor_copy_64_low", B64, low),
        copy("tensor_copy_64_high", B64, high),
        copy("tensor_copy_128_inside", B128, inside),
        copy("tensor_copy_128_low", B128, low),
        copy("tensor_copy_128_high", B128, high),
        copy("tensor_copy_outside", B128, outside),
        boxes_of_eight_rows("tensor_ring", 5),
        boxes_of_eight_rows("tensor_multicast", 2),
        store("tensor_store_none_inside", None, inside),
        // No box over the lower border: an H200 answers a store from a negative coordinate, in either
        // dimension and with any swizzle, with an illegal instruction.
        store("tensor_store_64_inside", B64, inside),
        store("tensor_store_128_inside", B128, inside),
        store("tensor_store_128_high", B128, high),
    ]
}

/// A map whose boxes are as wide as the swizzle's span, 128 bytes without one.
fn map(swizzle: Swizzle, box_rows: u32) -> TensorMap {
    let box_columns = match swizzle {
        Swizzle::None => 64,
        _ => swizzle.chunks() * 8,
    };
    TensorMap {
        buffer: 0,
        columns: COLUMNS,
        rows: ROWS,
        pitch: PITCH,
        box_columns,
        box_rows,
        swizzle,
    }
}

/// The buffer: elements count from 1.
fn matrix() -> Vec<u8> {
    halves((0..BUFFER_ROWS * PITCH / 2).map(|i| i as u16 + 1))
}

/// What loading the box at (x, y) leaves in shared memory.
fn loaded(map: &TensorMap, at: (i32, i32)) -> Vec<u8> {
    let matrix = matrix();
    let mut tile = vec![0; map.box_bytes() as usize];
    for row in 0..map.box_rows {
        for column in 0..map.box_columns {
            if let Some(from) = map.offset(at, row, column) {
                let to = map.shared_offset(row, column);
                tile[to..to + 2].copy_from_slice(&matrix[from..from + 2]);
            }
        }
    }
    tile
}

fn copy(name: &'static str, swizzle: Swizzle, (x, y): (i32, i32)) -> Case {
    let map = map(swizzle, 16);
    let bytes = map.box_bytes();
    let case = Case::new(name, vec![matrix()], loaded(&map, (x, y)));
    let args = vec![Arg::Map(map), Arg::Buffer(1)];
    Case { entry: "tensor_copy", args, ..case }
        .shared(bytes + 8)
        .numbers(&[x as u32, y as u32, bytes])
}

/// The boxes at (0, 0), (0, 8), ...: through a ring, or into both blocks of a cluster.
fn boxes_of_eight_rows(name: &'static str, count: i32) -> Case {
    let map = map(Swizzle::B128, 8);
    let boxes: Vec<u8> = (0..count).flat_map(|i| loaded(&map, (0, 8 * i))).collect();
    let args = vec![Arg::Map(map), Arg::Buffer(1)];
    if name == "tensor_ring" {
        let case = Case::new(name, vec![matrix()], boxes);
        Case { args, ..case }.shared(3 * 1024 + 48).numbers(&[count as u32])
    } else {
        let case = Case::new(name, vec![matrix()], boxes.repeat(2));
        Case { args, cluster: 2, ..case }.grid(2).shared(2 * 1024 + 16)
    }
}

/// Stores a box whose words in shared memory count from 0x8000 into the matrix, of which all else stays.
fn store(name: &'static str, swizzle: Swizzle, at: (i32, i32)) -> Case {
    let map = map(swizzle, 16);
    let bytes = map.box_bytes();
    let tile = halves((0..bytes / 2).map(|i| 0x8000 | i as u16));
    let mut expected = matrix();
    for row in 0..map.box_rows {
        for column in 0..map.box_columns {
            if let Some(to) = map.offset(at, row, column) {
                let from = map.shared_offset(row, column);
                expected[to..to + 2].copy_from_slice(&tile[from..from + 2]);
            }
        }
    }
    let mut case = Case::new(name, vec![matrix()], expected);
    case.buffers[1] = Contents::Bytes(tile);
    let args = vec![Arg::Map(map), Arg::Buffer(1)];
    Case { entry: "tensor_store", args, output: 0, ..case }.shared(bytes).numbers(&[
        at.0 as u32,
        at.1 as u32,
        bytes,
    ])
}
