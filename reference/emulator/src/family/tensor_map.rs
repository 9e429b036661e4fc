//! Tensor maps: what `cp.async.bulk.tensor` knows of a tensor (PTX ISA, "Tensors"; CUDA driver API,
//! `cuTensorMapEncodeTiled`).
//!
//! The 128 bytes that the driver makes are opaque. [`TensorMap::encode`] takes the same parameters and
//! makes 128 bytes of its own, which begin with a magic number; a kernel gets them as a parameter or in
//! memory, as on hardware. Tiled mode, without interleave.

/// Bytes of an encoded map.
pub const BYTES: usize = 128;
const MAGIC: u64 = u64::from_le_bytes(*b"sfTMAP01");

/// Element type (`CUtensorMapDataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
}

const ELEMENTS: [Element; 10] = [
    Element::U8,
    Element::U16,
    Element::U32,
    Element::S32,
    Element::U64,
    Element::S64,
    Element::F16,
    Element::F32,
    Element::F64,
    Element::Bf16,
];

impl Element {
    /// Size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64 | Self::Bf16)
    }
}

/// How 16-byte chunks are permuted in shared memory (`CUtensorMapSwizzle`): bits of the address of the
/// 128-byte line are exclusive-ored into the address of the chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    #[default]
    None,
    /// Pairs of chunks: bit 7 into bit 4.
    B32,
    /// Four chunks: bits 7 and 8 into bits 4 and 5.
    B64,
    /// Eight chunks: bits 7 to 9 into bits 4 to 6.
    B128,
}

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

impl Swizzle {
    /// Width of the pattern in bytes; 16 without one.
    pub const fn span(self) -> usize {
        match self {
            Self::None => 16,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 => 128,
        }
    }

    /// Where the byte of a shared address is really kept. `base` is subtracted from the number of the
    /// line first: the base offset of a matrix descriptor, 0 for tensor maps.
    #[inline(always)]
    pub const fn apply(self, address: usize, base: usize) -> usize {
        let mask = self.span() / 16 - 1;
        address ^ (((address >> 7).wrapping_sub(base) & mask) << 4)
    }
}

/// What elements outside the tensor read as (`CUtensorMapFloatOOBfill`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Zero.
    #[default]
    Zero,
    /// NaN, for floating-point elements.
    Nan,
}

/// A tensor in global memory and the box that a copy moves. Dimension 0 is the innermost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Element type.
    pub element: Element,
    /// Address of element 0, a multiple of 16.
    pub address: u64,
    /// Elements per dimension, one to five dimensions.
    pub dims: Vec<u64>,
    /// Bytes from one index to the next, of every dimension but the innermost; multiples of 16.
    pub strides: Vec<u64>,
    /// Elements of the box per dimension, at most 256.
    pub boxes: Vec<u32>,
    /// Steps within the box per dimension, 1 to 8; that of the innermost is ignored.
    pub steps: Vec<u32>,
    /// Permutation in shared memory.
    pub swizzle: Swizzle,
    /// What is outside.
    pub fill: Fill,
}

/// A parameter that `cuTensorMapEncodeTiled` would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor map: {0}")]
pub struct TensorMapError(String);

impl TensorMap {
    /// A map without swizzle, with steps of 1 and zeros outside. `strides` has one entry less than
    /// `dims`.
    pub fn new(
        element: Element,
        address: u64,
        dims: &[u64],
        strides: &[u64],
        boxes: &[u32],
    ) -> Self {
        Self {
            element,
            address,
            dims: dims.into(),
            strides: strides.into(),
            boxes: boxes.into(),
            steps: vec![1; dims.len()],
            swizzle: Swizzle::None,
            fill: Fill::Zero,
        }
    }

    /// The same with a swizzle.
    pub fn swizzle(mut self, swizzle: Swizzle) -> Self {
        self.swizzle = swizzle;
        self
    }

    /// The same with another fill.
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Checks what the driver checks.
    ///
    /// # Errors
    /// The first parameter that is not allowed.
    pub fn check(&self) -> Result<(), TensorMapError> {
        let fail = |message: String| Err(TensorMapError(message));
        let rank = self.rank();
        let lengths = [self.strides.len() + 1, self.boxes.len(), self.steps.len()];
        if !(1..=5).contains(&rank) || lengths != [rank; 3] {
            return fail(format!("rank {rank} with {lengths:?} strides + 1, boxes and steps"));
        }
        if !self.address.is_multiple_of(16) {
            return fail(format!("address {:#x} is not a multiple of 16", self.address));
        }
        if let Some(dim) = self.dims.iter().find(|dim| !(1..=1 << 32).contains(*dim)) {
            return fail(format!("a dimension of {dim} elements"));
        }
        if let Some(stride) = self.strides.iter().find(|s| **s % 16 != 0 || **s >= 1 << 40) {
            return fail(format!(
                "a stride of {stride} bytes, multiples of 16 below 2^40 are allowed"
            ));
        }
        if let Some(extent) = self.boxes.iter().find(|extent| !(1..=256).contains(*extent)) {
            return fail(format!("a box of {extent} elements, 1 to 256 are allowed"));
        }
        if let Some(step) = self.steps.iter().find(|step| !(1..=8).contains(*step)) {
            return fail(format!("a step of {step}, 1 to 8 are allowed"));
        }
        let inner = self.boxes[0] as usize * self.element.bytes();
        if !inner.is_multiple_of(16) {
            return fail(format!("rows of {inner} bytes, not a multiple of 16"));
        }
        let bytes: u128 = self.boxes.iter().map(|extent| u128::from(*extent)).product();
        if bytes * self.element.bytes() as u128 > crate::launch::MAX_SHARED as u128 {
            return fail(format!("a box of {bytes} elements does not fit shared memory"));
        }
        if self.swizzle != Swizzle::None && inner > self.swizzle.span() {
            return fail(format!("rows of {inner} bytes with {:?} swizzle", self.swizzle));
        }
        if self.fill == Fill::Nan && !self.element.is_float() {
            return fail(format!("NaN outside of {:?}", self.element));
        }
        Ok(())
    }

    /// The 128 bytes that stand for the map, to be put at a multiple of 64.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn encode(&self) -> Result<[u8; BYTES], TensorMapError> {
        self.check()?;
        let mut out = Vec::with_capacity(BYTES);
        out.extend(MAGIC.to_le_bytes());
        let element = ELEMENTS.iter().position(|e| *e == self.element).unwrap_or(0);
        let swizzle = SWIZZLES.iter().position(|s| *s == self.swizzle).unwrap_or(0);
        let fill = u8::from(self.fill == Fill::Nan);
        out.extend([element as u8, self.rank() as u8, swizzle as u8, fill]);
        out.extend([0; 4]);
        out.extend(self.address.to_le_bytes());
        let at = |values: &[u64], i: usize| values.get(i).copied().unwrap_or(0).to_le_bytes();
        (0..5).for_each(|i| out.extend(at(&self.dims, i)));
        (0..4).for_each(|i| out.extend(at(&self.strides, i)));
        let small = |values: &[u32], i: usize| values.get(i).copied().unwrap_or(0) as u16;
        (0..5).for_each(|i| out.extend(small(&self.boxes, i).to_le_bytes()));
        (0..5).for_each(|i| out.push(small(&self.steps, i) as u8));
        out.resize(BYTES - 4, 0);
        out.extend(checksum(&out).to_le_bytes());
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&out);
        Ok(bytes)
    }

    /// The map that 128 bytes stand for.
    ///
    /// # Errors
    /// If they were not made by [`Self::encode`].
    pub fn decode(bytes: &[u8; BYTES]) -> Result<Self, TensorMapError> {
        let fail = |message: &str| Err(TensorMapError(message.into()));
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        if word(0) != MAGIC {
            return fail("the bytes at its address are none (no magic number)");
        }
        if checksum(&bytes[..BYTES - 4]) as u64 != word(BYTES - 8) >> 32 {
            return fail("its bytes were changed");
        }
        let rank = usize::from(bytes[9]).min(5);
        let map = Self {
            element: *ELEMENTS.get(usize::from(bytes[8])).unwrap_or(&Element::U8),
            address: word(16),
            dims: (0..rank).map(|i| word(24 + 8 * i)).collect(),
            strides: (0..rank.saturating_sub(1)).map(|i| word(64 + 8 * i)).collect(),
            boxes: (0..rank).map(|i| u32::from(word(96 + 2 * i) as u16)).collect(),
            steps: (0..rank).map(|i| u32::from(bytes[106 + i])).collect(),
            swizzle: *SWIZZLES.get(usize::from(bytes[10])).unwrap_or(&Swizzle::None),
            fill: if bytes[11] == 1 { Fill::Nan } else { Fill::Zero },
        };
        map.check()?;
        Ok(map)
    }
}

/// A sum that any changed byte changes.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> TensorMap {
        TensorMap::new(Element::F16, 0x1000, &[100, 30], &[256], &[64, 8]).swizzle(Swizzle::B128)
    }

    #[test]
    fn encoding_is_reversible_and_checked() {
        let map = matrix().fill(Fill::Nan);
        let mut bytes = map.encode().unwrap();
        assert_eq!(TensorMap::decode(&bytes).unwrap(), map);
        bytes[30] ^= 1;
        assert!(TensorMap::decode(&bytes).is_err());
        assert!(TensorMap::decode(&[0; BYTES]).is_err());
        let five = TensorMap {
            steps: vec![1, 2, 3, 4, 8],
            ..TensorMap::new(
                Element::U8,
                1 << 47,
                &[1 << 32, 1, 2, 3, 4],
                &[16, 32, (1 << 40) - 16, 64],
                &[256, 2, 3, 4, 1],
            )
        };
        assert_eq!(TensorMap::decode(&five.encode().unwrap()).unwrap(), five);
        assert_eq!(five.box_bytes(), 256);
    }

    #[test]
    fn what_the_driver_refuses() {
        let bad = [
            TensorMap { address: 8, ..matrix() },
            TensorMap { dims: vec![0, 1], ..matrix() },
            TensorMap { strides: vec![24], ..matrix() },
            TensorMap { strides: vec![], ..matrix() },
            TensorMap { boxes: vec![257, 1], ..matrix() },
            TensorMap { boxes: vec![4, 1], ..matrix() },
            TensorMap { boxes: vec![128, 1], ..matrix() },
            TensorMap { steps: vec![1, 9], ..matrix() },
            TensorMap::new(Element::F64, 0, &[64; 3], &[512, 1 << 15], &[64, 64, 8]),
            TensorMap { element: Element::U16, fill: Fill::Nan, ..matrix() },
        ];
        for map in bad {
            assert!(map.encode().is_err(), "{map:?}");
        }
    }

    #[test]
    fn swizzles_are_those_of_the_layout_crate() {
        for (swizzle, chunks) in [(Swizzle::B32, 2), (Swizzle::B64, 4), (Swizzle::B128, 8)] {
            for row in 0..64 {
                for chunk in 0..chunks {
                    let plain = ((row * chunks + chunk) * 16) as usize;
                    let there = layout::swizzle::offset(row, chunk, chunks) as usize;
                    assert_eq!(swizzle.apply(plain, 0), there);
                }
            }
        }
    }
}
