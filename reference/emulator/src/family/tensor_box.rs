//! The box of a tensor map at given coordinates: which bytes of global memory it holds, and where they
//! go in shared memory.

use super::tensor_map::{Fill, Swizzle, TensorMap};

/// Part of one row of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset of its first byte in the box, as if not swizzled.
    pub(super) at: usize,
    /// Bytes that lie in the tensor.
    pub(super) bytes: usize,
    /// Global address of the first of them.
    pub(super) address: u64,
}

impl TensorMap {
    /// Elements that a box moves along a dimension.
    fn extent(&self, dimension: usize) -> usize {
        let (extent, step) = (self.boxes[dimension] as usize, self.steps[dimension] as usize);
        if dimension == 0 { extent } else { extent.div_ceil(step) }
    }

    /// Bytes of a row of the box.
    pub(super) fn row_bytes(&self) -> usize {
        self.extent(0) * self.element.bytes()
    }

    /// Bytes of the box: what a copy completes.
    pub fn box_bytes(&self) -> usize {
        (0..self.rank()).map(|dimension| self.extent(dimension)).product::<usize>()
            * self.element.bytes()
    }

    /// Bytes from one row of the box to the next in shared memory: a swizzle's span, even if the row is
    /// shorter (seen on an H200).
    fn pitch(&self) -> usize {
        if self.swizzle == Swizzle::None { self.row_bytes() } else { self.swizzle.span() }
    }

    /// Offset in shared memory, before the swizzle, of the byte at `at` of the box.
    pub(super) fn pitched(&self, at: usize) -> usize {
        at / self.row_bytes() * self.pitch() + at % self.row_bytes()
    }

    /// Bytes of shared memory from the first to the last of a box.
    pub(super) fn pitched_bytes(&self) -> usize {
        self.pitched(self.box_bytes() - 1) + 1
    }

    /// The rows of the box at `coordinates`, as far as they are in the tensor.
    pub(super) fn runs(&self, coordinates: &[i32]) -> Vec<Run> {
        let size = self.element.bytes();
        let coordinate =
            |dimension: usize| i64::from(coordinates.get(dimension).copied().unwrap_or(0));
        let (inner, row) = (self.extent(0) as i64, self.row_bytes());
        let first = (-coordinate(0)).clamp(0, inner);
        let last = (self.dims[0] as i64 - coordinate(0)).clamp(first, inner);
        let rows: usize = (1..self.rank()).map(|dimension| self.extent(dimension)).product();
        let mut runs = Vec::new();
        for index in 0..rows {
            let (mut rest, mut address, mut inside) = (index, self.address, last > first);
            for dimension in 1..self.rank() {
                let step =
                    (rest % self.extent(dimension)) as i64 * i64::from(self.steps[dimension]);
                rest /= self.extent(dimension);
                let at = coordinate(dimension) + step;
                inside &= at >= 0 && (at as u64) < self.dims[dimension];
                address =
                    address.wrapping_add((at as u64).wrapping_mul(self.strides[dimension - 1]));
            }
            if inside {
                let start = (coordinate(0) + first) as u64 * size as u64;
                runs.push(Run {
                    at: index * row + first as usize * size,
                    bytes: (last - first) as usize * size,
                    address: address.wrapping_add(start),
                });
            }
        }
        runs
    }

    /// A box of what is outside the tensor.
    pub(super) fn outside(&self) -> Vec<u8> {
        let bytes = self.box_bytes();
        if self.fill == Fill::Zero {
            return vec![0; bytes];
        }
        // This NaN, whatever the type (seen on an H200).
        0x7ff7u16.to_le_bytes().into_iter().cycle().take(bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor_map::Element;
    use super::*;

    #[test]
    fn boxes_at_the_borders() {
        let map = TensorMap::new(Element::F16, 0x1000, &[100, 30], &[256], &[64, 8]);
        assert_eq!(map.runs(&[0, 0]).len(), 8);
        assert_eq!(map.runs(&[0, 0])[1], Run { at: 128, bytes: 128, address: 0x1100 });
        // The right border cuts rows, the left one shifts them.
        assert_eq!(map.runs(&[64, 0])[0], Run { at: 0, bytes: 72, address: 0x1080 });
        assert_eq!(map.runs(&[-4, -1])[0], Run { at: 136, bytes: 120, address: 0x1000 });
        assert_eq!(map.runs(&[-4, -1]).len(), 7);
        assert_eq!(map.runs(&[0, 25]).len(), 5);
        assert!(map.runs(&[100, 0]).is_empty() && map.runs(&[-64, 0]).is_empty());
        assert!(map.runs(&[0, 30]).is_empty() && map.runs(&[i32::MIN, i32::MAX]).is_empty());
    }

    #[test]
    fn nan_outside() {
        for element in [Element::F16, Element::Bf16, Element::F32, Element::F64] {
            let map = TensorMap::new(element, 0, &[8], &[], &[8]).fill(Fill::Nan);
            assert_eq!(map.outside(), [0xf7, 0x7f].repeat(4 * element.bytes()));
        }
    }
}
