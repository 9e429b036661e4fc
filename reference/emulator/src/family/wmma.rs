//! `wmma.load`, `wmma.mma`, `wmma.store` (PTX ISA, "Warp-level matrix instructions: wmma").
//!
//! Shapes m16n16k16, m32n8k16, m8n32k16. The fragments are described in `wmma_fragment`.

use super::wmma_fragment::{Element, Operand, SHAPES, Shape, extent, place, registers};
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::family::fragment::{Accumulator, Half, round_f16, round_f32};
use crate::family::mma::{sources, targets};
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space};
use crate::shared::Proxy;
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "wmma.load.a",
        family: "wmma",
        meaning: "loads A: .sync.aligned.{row,col}.{m16n16k16,m32n8k16,m8n32k16}{.shared,.global}.{f16,bf16}",
        decode: |d| decode_load(d, Operand::A),
    },
    Opcode {
        name: "wmma.load.b",
        family: "wmma",
        meaning: "loads B, as wmma.load.a",
        decode: |d| decode_load(d, Operand::B),
    },
    Opcode {
        name: "wmma.load.c",
        family: "wmma",
        meaning: "loads C, of type .f16 or .f32",
        decode: |d| decode_load(d, Operand::C),
    },
    Opcode {
        name: "wmma.mma",
        family: "wmma",
        meaning: "product of a warp: f16 with f16 or f32 sums, bf16 with f32 sums",
        decode: decode_mma,
    },
    Opcode {
        name: "wmma.store.d",
        family: "wmma",
        meaning: "stores D, of type .f16 or .f32",
        decode: decode_store,
    },
];

/// A matrix in memory.
#[derive(Clone, Copy)]
struct Matrix {
    operand: Operand,
    shape: Shape,
    element: Element,
    row_major: bool,
    space: Space,
    address: Address,
    stride: Option<Reg>,
}

fn decode_layout(d: &mut Decode<'_>) -> Result<bool, Error> {
    d.one_of(&[("row", true), ("col", false)])
}

fn decode_matrix(d: &mut Decode<'_>, operand: Operand) -> Result<Matrix, Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    let row_major = decode_layout(d)?;
    let shape = d.one_of(SHAPES)?;
    let space = if d.take("shared") || d.take("shared::cta") {
        Space::Shared
    } else if d.take("global") {
        Space::Global
    } else {
        Space::Generic
    };
    let halves = [("f16", Element::Half(Half::F16)), ("bf16", Element::Half(Half::Bf16))];
    let sums = [("f16", Element::Half(Half::F16)), ("f32", Element::F32)];
    let element = d.one_of(if operand == Operand::C { &sums } else { &halves })?;
    let address = Address { base: Reg(0), offset: 0, narrow: false };
    Ok(Matrix { operand, shape, element, row_major, space, address, stride: None })
}

impl Matrix {
    fn decode_address(&mut self, d: &mut Decode<'_>) -> Result<(), Error> {
        self.address = d.address()?;
        Ok(())
    }

    fn decode_stride(&mut self, d: &mut Decode<'_>) -> Result<(), Error> {
        if d.more() {
            self.stride = Some(d.src(Type::U32)?);
        }
        Ok(())
    }

    /// Number of rows (columns, if column-major) and elements in each.
    fn runs(&self) -> (usize, usize) {
        let (rows, columns) = extent(self.operand, self.shape);
        if self.row_major { (rows, columns) } else { (columns, rows) }
    }

    /// Space and address of every 16-byte chunk, run after run.
    fn chunks(&self, m: &mut Machine<'_>, what: &str) -> (Space, Vec<u64>) {
        m.require_whole_warp(what);
        let lane = m.lanes.trailing_zeros() as usize % 32;
        m.uniform(self.address.base, "the address of a wmma matrix");
        let mut base = self.address.of(m)[lane];
        let (runs, length) = self.runs();
        let stride = match self.stride {
            Some(reg) => m.uniform(reg, "the stride of a wmma matrix"),
            None => length as u64,
        };
        let size = self.element.bytes() as u64;
        let fragment = 4 * registers(self.operand, self.shape, self.element).0 as u64;
        if !base.is_multiple_of(fragment.min(32)) || !(stride * size).is_multiple_of(16) {
            m.report(FindingKind::Misaligned, None, || {
                format!(
                    "{what} at {base:#x} with a stride of {stride} elements: the address must be a \
                     multiple of {} bytes, the stride of 16",
                    fragment.min(32)
                )
            });
        }
        let mut space = self.space;
        if space == Space::Generic {
            (space, base) = m.resolve(base);
        }
        let chunks = (0..runs as u64)
            .flat_map(|run| {
                let start = base.wrapping_add(run.wrapping_mul(stride).wrapping_mul(size));
                (0..length as u64 * size / 16).map(move |c| start.wrapping_add(16 * c))
            })
            .collect::<Vec<_>>();
        for part in chunks.chunks(32) {
            let mut addresses = [0; 32];
            addresses[..part.len()].copy_from_slice(part);
            let lanes = u32::MAX >> (32 - part.len());
            match space {
                Space::Shared => m.count_shared(&addresses, lanes, 16),
                Space::Global => m.count_global(&addresses, lanes, 16),
                _ => {}
            }
        }
        (space, chunks)
    }

    /// Offset of an element among the bytes of the chunks.
    fn offset(&self, (row, column): (usize, usize)) -> usize {
        let (_, length) = self.runs();
        let (run, at) = if self.row_major { (row, column) } else { (column, row) };
        (run * length + at) * self.element.bytes()
    }
}

fn decode_load(d: &mut Decode<'_>, operand: Operand) -> Result<Action, Error> {
    let mut matrix = decode_matrix(d, operand)?;
    let (count, distinct) = registers(operand, matrix.shape, matrix.element);
    let dst = targets(d, count)?;
    matrix.decode_address(d)?;
    matrix.decode_stride(d)?;
    Ok(Box::new(move |m| {
        let (space, chunks) = matrix.chunks(m, "wmma.load");
        let mut bytes = vec![0u8; 16 * chunks.len()];
        let mut poison = vec![0u16; chunks.len()];
        for (i, (chunk, out)) in chunks.iter().zip(bytes.chunks_mut(16)).enumerate() {
            poison[i] = m.read(space, i % 32, *chunk, 16, out) as u16;
        }
        let size = matrix.element.bytes();
        let per_register = 4 / size;
        for (i, reg) in dst.iter().enumerate() {
            let (mut lanes, mut mask) = ([0u64; 32], 0u32);
            for (lane, out) in lanes.iter_mut().enumerate() {
                for h in 0..per_register {
                    let e = (i % distinct) * per_register + h;
                    let at = matrix.offset(place(operand, matrix.shape, lane, e));
                    for byte in 0..size {
                        *out |= u64::from(bytes[at + byte]) << (8 * (h * size + byte));
                    }
                    let bad = poison[at / 16] >> (at % 16) & ((1 << size) - 1) != 0;
                    mask |= u32::from(bad) << lane;
                }
            }
            m.set(*reg, &lanes, mask);
        }
        Ok(Flow::Next)
    }))
}

fn decode_store(d: &mut Decode<'_>) -> Result<Action, Error> {
    let mut matrix = decode_matrix(d, Operand::C)?;
    let (count, _) = registers(Operand::C, matrix.shape, matrix.element);
    matrix.decode_address(d)?;
    let src = sources(d, count, "D")?;
    matrix.decode_stride(d)?;
    Ok(Box::new(move |m| {
        let (space, chunks) = matrix.chunks(m, "wmma.store");
        let mut bytes = vec![0u8; 16 * chunks.len()];
        let mut poison = vec![0u16; chunks.len()];
        let size = matrix.element.bytes();
        let per_register = 4 / size;
        for (i, reg) in src.iter().enumerate() {
            let bad = m.poison(*reg);
            for (lane, bits) in m.get(*reg).iter().enumerate() {
                for h in 0..per_register {
                    let e = i * per_register + h;
                    let at = matrix.offset(place(Operand::C, matrix.shape, lane, e));
                    let value = (bits >> (16 * h)).to_le_bytes();
                    bytes[at..at + size].copy_from_slice(&value[..size]);
                    if bad >> lane & 1 != 0 {
                        poison[at / 16] |= ((1 << size) - 1) << (at % 16);
                    }
                }
            }
        }
        for (i, (chunk, bytes)) in chunks.iter().zip(bytes.chunks(16)).enumerate() {
            let poison = poison[i].into();
            match space {
                Space::Shared => {
                    m.write_shared(i % 32, *chunk, 16, bytes, poison, Proxy::Generic);
                }
                _ => m.write(space, i % 32, *chunk, 16, bytes, poison),
            }
        }
        Ok(Flow::Next)
    }))
}

/// Values of a fragment as a matrix, and per row a bit for every column that holds poison.
struct Tile {
    values: [[f64; 32]; 32],
    poison: [u32; 32],
}

fn gather(m: &Machine<'_>, regs: &[Reg], operand: Operand, shape: Shape, element: Element) -> Tile {
    let mut tile = Tile { values: [[0.0; 32]; 32], poison: [0; 32] };
    let (_, distinct) = registers(operand, shape, element);
    for (i, reg) in regs.iter().enumerate().take(distinct) {
        let bad = m.poison(*reg);
        for (lane, bits) in m.get(*reg).iter().enumerate() {
            let (values, count) = match element {
                Element::Half(half) => (half.pair(*bits), 2),
                Element::F32 => ([f32::from_bits(*bits as u32).into(), 0.0], 1),
            };
            for (h, value) in values.into_iter().enumerate().take(count) {
                let (row, column) = place(operand, shape, lane, i * count + h);
                tile.values[row & 31][column & 31] = value;
                tile.poison[row & 31] |= (bad >> lane & 1) << column;
            }
        }
    }
    tile
}

fn decode_mma(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    decode_layout(d)?;
    decode_layout(d)?;
    let shape = d.one_of(SHAPES)?;
    const SUM: &[(&str, Accumulator)] = &[("f16", Accumulator::F16), ("f32", Accumulator::F32)];
    // `.dtype.ctype` for f16, `.f32.bf16.bf16.f32` for bf16.
    let sum = d.one_of(SUM)?;
    let half = if d.take("bf16") {
        d.expect("bf16")?;
        Half::Bf16
    } else {
        Half::F16
    };
    let sum_c = d.one_of(SUM)?;
    if half == Half::Bf16 && (sum, sum_c) != (Accumulator::F32, Accumulator::F32) {
        return Err(d.error("bf16 needs f32 accumulators"));
    }
    let element = |sum| match sum {
        Accumulator::F16 => Element::Half(Half::F16),
        Accumulator::F32 => Element::F32,
    };
    let count = |operand, element| registers(operand, shape, element).0;
    let dst = targets(d, count(Operand::C, element(sum)))?;
    let a = sources(d, count(Operand::A, Element::Half(half)), "A")?;
    let b = sources(d, count(Operand::B, Element::Half(half)), "B")?;
    let c = sources(d, count(Operand::C, element(sum_c)), "C")?;
    Ok(Box::new(move |m| {
        m.require_whole_warp("wmma.mma");
        let a = gather(m, &a, Operand::A, shape, Element::Half(half));
        let b = gather(m, &b, Operand::B, shape, Element::Half(half));
        let tile = gather(m, &c, Operand::C, shape, element(sum_c));
        let mut sums = tile.values;
        for (row, sums) in a.values.iter().zip(&mut sums).take(shape.m) {
            for (a, b) in row.iter().zip(&b.values).take(16) {
                for (sum, b) in sums.iter_mut().zip(b).take(shape.n) {
                    *sum += a * b;
                }
            }
        }
        // Poison of A spreads along its row, of B along its column, of C not at all.
        let columns = b.poison.iter().fold(0, |any, row| any | row);
        let mut poison = tile.poison;
        for (poison, a) in poison.iter_mut().zip(&a.poison) {
            *poison |= if *a != 0 { u32::MAX } else { columns };
        }
        let per_register = if sum == Accumulator::F16 { 2 } else { 1 };
        for (i, reg) in dst.iter().enumerate() {
            let mut mask = 0u32;
            let lanes = std::array::from_fn(|lane| {
                let mut bits = 0;
                for h in 0..per_register {
                    let (row, column) = place(Operand::C, shape, lane, i * per_register + h);
                    let value = sums[row & 31][column & 31];
                    bits |= match sum {
                        Accumulator::F16 => u64::from(round_f16(value)) << (16 * h),
                        Accumulator::F32 => u64::from(round_f32(value)),
                    };
                    mask |= (poison[row & 31] >> column & 1) << lane;
                }
                bits
            });
            m.set(*reg, &lanes, mask);
        }
        m.unit.tally.totals.mma += 1;
        Ok(Flow::Next)
    }))
}
