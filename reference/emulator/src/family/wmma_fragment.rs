//! Fragments of `wmma`: which lane holds which element.
//!
//! PTX leaves that open. Here they are the fragments of `mma.m16n8k16`, one tile after the other; where a
//! fragment has more registers than elements (f16), the registers repeat.

use super::fragment::Half;

/// Which matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    A,
    B,
    C,
}

/// M and N; K is 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) m: usize,
    pub(super) n: usize,
}

pub(super) const SHAPES: &[(&str, Shape)] = &[
    ("m16n16k16", Shape { m: 16, n: 16 }),
    ("m32n8k16", Shape { m: 32, n: 8 }),
    ("m8n32k16", Shape { m: 8, n: 32 }),
];

/// Element type in memory and in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Half(Half),
    F32,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Half(_) => 2,
            Self::F32 => 4,
        }
    }
}

/// Rows and columns of an operand.
pub(super) fn extent(operand: Operand, shape: Shape) -> (usize, usize) {
    match operand {
        Operand::A => (shape.m, 16),
        Operand::B => (16, shape.n),
        Operand::C => (shape.m, shape.n),
    }
}

/// Registers of a fragment, and how many of them differ.
pub(super) fn registers(operand: Operand, shape: Shape, element: Element) -> (usize, usize) {
    let (rows, columns) = extent(operand, shape);
    let distinct = rows * columns * element.bytes() / 128;
    match (operand, element) {
        (Operand::A | Operand::B, Element::Half(Half::F16)) => (8, distinct),
        _ => (distinct, distinct),
    }
}

/// Row and column of element `e` of a lane (two per register for 16-bit types).
#[inline(always)]
pub(super) fn place(operand: Operand, shape: Shape, lane: usize, e: usize) -> (usize, usize) {
    let (g, pair) = (lane / 4, 2 * (lane % 4) + e % 2);
    match operand {
        Operand::A if shape.m == 8 => (g, pair + 8 * (e / 2)),
        Operand::A => (g + 8 * (e / 2 % 2) + 16 * (e / 8), pair + 8 * (e / 4 % 2)),
        Operand::B => (pair + 8 * (e / 2 % 2), g + 8 * (e / 4)),
        Operand::C if shape.m == 8 => (g, pair + 8 * (e / 2)),
        Operand::C if shape.m == 32 => (g + 8 * (e / 2), pair),
        Operand::C => (g + 8 * (e / 2 % 2), pair + 8 * (e / 4)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_cover_their_matrices_once() {
        let f16 = Element::Half(Half::F16);
        for (name, shape) in SHAPES {
            for (operand, element) in [
                (Operand::A, f16),
                (Operand::B, f16),
                (Operand::C, f16),
                (Operand::C, Element::F32),
            ] {
                let (rows, columns) = extent(operand, *shape);
                let (_, distinct) = registers(operand, *shape, element);
                let mut seen = vec![0; rows * columns];
                for lane in 0..32 {
                    for e in 0..distinct * 4 / element.bytes() {
                        let (row, column) = place(operand, *shape, lane, e);
                        seen[row * columns + column] += 1;
                    }
                }
                assert!(seen.iter().all(|n| *n == 1), "{name}");
            }
        }
    }
}
