//! What a case is: a kernel, how it is launched, and what it must write.

use crate::ptx::Arch;
use layout::descriptor::Swizzle;

/// What a buffer holds before the launch.
#[derive(Clone, Debug)]
pub enum Contents {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes that the kernel must all write: the emulator knows, a GPU finds 0xff.
    Undefined(usize),
}

impl Contents {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Undefined(bytes) => *bytes,
        }
    }
}

/// A matrix of 16-bit unsigned integers in a buffer, and the box that one copy moves.
#[derive(Clone, Copy, Debug)]
pub struct TensorMap {
    /// Index of the buffer.
    pub buffer: usize,
    /// Elements of a row that belong to the matrix.
    pub columns: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes from one row to the next.
    pub pitch: u64,
    /// Elements of a row of the box.
    pub box_columns: u32,
    /// Rows of the box.
    pub box_rows: u32,
    /// Layout in shared memory.
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// Bytes of a box.
    pub fn box_bytes(&self) -> u32 {
        self.box_columns * self.box_rows * 2
    }

    /// Offset in shared memory of an element of the box.
    pub fn shared_offset(&self, row: u32, column: u32) -> usize {
        let chunks = self.box_columns / 8;
        let offset = match self.swizzle {
            Swizzle::None => row * self.box_columns * 2 + column / 8 * 16,
            _ => layout::swizzle::offset(row, column / 8, chunks),
        };
        (offset + column % 8 * 2) as usize
    }

    /// Offset in the buffer of the element of the matrix that the box at (x, y) has at `row`, `column`.
    pub fn offset(&self, (x, y): (i32, i32), row: u32, column: u32) -> Option<usize> {
        let row = u64::try_from(i64::from(y) + i64::from(row)).ok().filter(|r| *r < self.rows)?;
        let column =
            u64::try_from(i64::from(x) + i64::from(column)).ok().filter(|c| *c < self.columns)?;
        Some((row * self.pitch + column * 2) as usize)
    }
}

/// A kernel parameter.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// The address of a buffer.
    Buffer(usize),
    /// The address of a tensor map.
    Map(TensorMap),
    /// A number of 32 bits.
    Number(u32),
}

/// A kernel, how it is launched, and what it must write.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique name, also of the golden.
    pub name: &'static str,
    /// Kernel.
    pub entry: &'static str,
    /// Module it is in.
    pub arch: Arch,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Buffers in global memory.
    pub buffers: Vec<Contents>,
    /// Parameters.
    pub args: Vec<Arg>,
    /// Which buffer is the output.
    pub output: usize,
    /// What it must hold afterwards, computed without the kernel.
    pub expected: Vec<u8>,
}

impl Case {
    /// A case of one block of 128 threads of the kernel of that name, which writes the buffers' last. Its
    /// parameters are the addresses of the buffers, then what is added.
    pub fn new(name: &'static str, inputs: Vec<Vec<u8>>, expected: Vec<u8>) -> Self {
        let mut buffers: Vec<_> = inputs.into_iter().map(Contents::Bytes).collect();
        buffers.push(Contents::Undefined(expected.len()));
        Self {
            name,
            entry: name,
            arch: Arch::Sm90a,
            grid: 1,
            block: 128,
            cluster: 1,
            shared_bytes: 0,
            args: (0..buffers.len()).map(Arg::Buffer).collect(),
            output: buffers.len() - 1,
            buffers,
            expected,
        }
    }

    /// With so many blocks.
    #[must_use]
    pub fn grid(self, grid: u32) -> Self {
        Self { grid, ..self }
    }

    /// With so much shared memory.
    #[must_use]
    pub fn shared(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }

    /// With numbers as further parameters.
    #[must_use]
    pub fn numbers(mut self, numbers: &[u32]) -> Self {
        self.args.extend(numbers.iter().map(|number| Arg::Number(*number)));
        self
    }
}
