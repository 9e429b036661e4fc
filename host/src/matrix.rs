//! [`Matrix`]: a row-major matrix in device memory.

use crate::device::{Device, Memory};
use crate::error::{Result, invalid};
use bytemuck::Pod;
use half::{bf16, f16};
use reference::{Element, Scalar};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A type that matrices hold: f16, bf16, f32 or int8.
pub trait Value: Scalar + Pod {}
impl Value for f16 {}
impl Value for bf16 {}
impl Value for f32 {}
impl Value for i8 {}

/// A type that Y may have for an X and W of type `T`: `T` itself, f32 or int8.
pub trait OutputOf<T: Element>: Value + reference::OutputOf<T, Addend: Value> {}
impl<T: Element, O: Value + reference::OutputOf<T, Addend: Value>> OutputOf<T> for O {}

/// A matrix `[rows, cols]` in device memory, row-major, rows `stride` elements apart. Extents may be 0.
///
/// Views share the memory.
pub struct Matrix<T> {
    device: Arc<dyn Device>,
    memory: Arc<dyn Memory>,
    /// First element.
    offset: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    element: PhantomData<T>,
}

impl<T: Value> Matrix<T> {
    /// A matrix of undefined content.
    ///
    /// # Errors
    /// An extent that overflows, or out of memory.
    pub fn uninitialized(device: &Arc<dyn Device>, rows: usize, cols: usize) -> Result<Self> {
        let bytes = rows
            .checked_mul(cols)
            .and_then(|elements| elements.checked_mul(size_of::<T>()))
            .ok_or_else(|| {
                invalid("matrix extent", format!("{rows} x {cols}"), "below 2^64 bytes")
            })?;
        let memory = device.allocate(bytes as u64)?;
        let device = Arc::clone(device);
        Ok(Self { device, memory, offset: 0, rows, cols, stride: cols, element: PhantomData })
    }

    /// A matrix with a copy of `data`, of `rows * cols` elements.
    ///
    /// # Errors
    /// As [`Self::uninitialized`], or `data` of another length.
    pub fn from_slice(
        device: &Arc<dyn Device>,
        data: &[T],
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let matrix = Self::uninitialized(device, rows, cols)?;
        matrix.write(data)?;
        Ok(matrix)
    }

    /// Overwrites the elements with `data`, of `rows * cols` elements without gaps, after the work queued
    /// so far. What lies between the rows of a view stays as it is.
    ///
    /// # Errors
    /// `data` of another length, or what the device says.
    pub fn write(&self, data: &[T]) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        if data.len() != rows * cols {
            let limit = format!("{rows} x {cols} = {}", rows * cols);
            return Err(invalid("length of the matrix data", data.len(), limit));
        }
        if self.stride == cols {
            return self.memory.upload(self.byte(0), bytemuck::cast_slice(data));
        }
        for (row, data) in data.chunks(cols.max(1)).enumerate() {
            self.memory.upload(self.byte(row), bytemuck::cast_slice(data))?;
        }
        Ok(())
    }

    /// A matrix whose every element is NaN, or -1 as int8: what an output is filled with before a check, so
    /// that an element that a kernel forgets is found.
    ///
    /// # Errors
    /// As [`Self::uninitialized`].
    pub fn poisoned(device: &Arc<dyn Device>, rows: usize, cols: usize) -> Result<Self> {
        let matrix = Self::uninitialized(device, rows, cols)?;
        matrix.poison()?;
        Ok(matrix)
    }

    /// Fills the whole memory, views of it included, with set bits: NaN in every float type, -1 as int8.
    ///
    /// # Errors
    /// What the device says.
    pub fn poison(&self) -> Result<()> {
        self.memory.fill(0xFF)
    }

    /// The part of `rows` x `cols` elements that starts at element `(row, col)`. It shares the memory.
    ///
    /// # Errors
    /// A part that is not inside the matrix.
    pub fn view(&self, row: usize, col: usize, rows: usize, cols: usize) -> Result<Self> {
        let inside = |at: usize, length: usize, of: usize| {
            at.checked_add(length).is_some_and(|end| end <= of)
        };
        if !inside(row, rows, self.rows) || !inside(col, cols, self.cols) {
            return Err(invalid(
                "view",
                format!("{rows} x {cols} at ({row}, {col})"),
                format!("inside {} x {}", self.rows, self.cols),
            ));
        }
        Ok(Self {
            device: Arc::clone(&self.device),
            memory: Arc::clone(&self.memory),
            offset: self.offset + row * self.stride + col,
            rows,
            cols,
            stride: self.stride,
            element: PhantomData,
        })
    }

    /// The elements, without gaps, after the work queued so far.
    ///
    /// # Errors
    /// What the device says, including failures of that work.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut all = vec![T::zeroed(); self.rows * self.cols];
        if self.stride == self.cols {
            self.memory.download(self.byte(0), bytemuck::cast_slice_mut(&mut all))?;
            return Ok(all);
        }
        for (row, data) in all.chunks_mut(self.cols.max(1)).enumerate() {
            self.memory.download(self.byte(row), bytemuck::cast_slice_mut(data))?;
        }
        Ok(all)
    }

    /// Where row `row` starts in the memory, in bytes.
    fn byte(&self, row: usize) -> u64 {
        ((self.offset + row * self.stride) * size_of::<T>()) as u64
    }

    /// The device it lives on.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Device address of the first element.
    pub fn address(&self) -> u64 {
        self.memory.address() + self.byte(0)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The memory that it, and all views of it, are in.
    pub(crate) fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// Addresses from the first element to the end of the last.
    pub(crate) fn span(&self) -> std::ops::Range<u64> {
        let elements = match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.stride + cols,
        };
        self.address()..self.address() + (elements * size_of::<T>()) as u64
    }

    /// Whether address and row stride are multiples of 16 bytes.
    pub(crate) fn is_aligned(&self) -> bool {
        self.address().is_multiple_of(16) && (self.stride * size_of::<T>()).is_multiple_of(16)
    }

    /// Whether address and row stride are multiples of 4 elements.
    pub(crate) fn is_aligned_by_fours(&self) -> bool {
        self.address().is_multiple_of(4 * size_of::<T>() as u64) && self.stride.is_multiple_of(4)
    }
}

impl<T> fmt::Debug for Matrix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = std::any::type_name::<T>();
        write!(f, "Matrix<{element}> {} x {}, stride {}", self.rows, self.cols, self.stride)
    }
}
