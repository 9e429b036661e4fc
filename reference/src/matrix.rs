//! Checked row-major views of matrices.

use crate::error::Error;

/// Elements that `rows` rows of `cols` columns span and the stride to use, or why they cannot lie in
/// `len` elements.
fn check(len: usize, rows: usize, cols: usize, stride: usize) -> Result<(usize, usize), Error> {
    // Where there is no second row, any stride will do.
    let used = if rows < 2 || cols == 0 { cols } else { stride };
    if used < cols {
        return Err(Error::Stride { stride, cols });
    }
    let span = match rows {
        0 => Some(0),
        _ => (rows - 1).checked_mul(used).and_then(|before| before.checked_add(cols)),
    };
    let span = span.filter(|&span| span <= len);
    Ok((span.ok_or(Error::Length { len, rows, cols, stride })?, used))
}

/// A borrowed matrix `[rows, cols]`, row-major, rows `stride` elements apart. Extents may be 0.
#[derive(Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

impl<'a, T> MatRef<'a, T> {
    /// A view of `data`, in which the last row need not be filled up to the stride.
    ///
    /// # Errors
    /// [`Error::Stride`] where rows would overlap, [`Error::Length`] where `data` is too short.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Result<Self, Error> {
        let (span, stride) = check(data.len(), rows, cols, stride)?;
        Ok(Self { data: &data[..span], rows, cols, stride })
    }

    /// A view of `data` with no gaps between rows.
    ///
    /// # Errors
    /// [`Error::Length`] where `data` is too short.
    pub fn contiguous(data: &'a [T], rows: usize, cols: usize) -> Result<Self, Error> {
        Self::new(data, rows, cols, cols)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next; [`Self::cols`] where there is no next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `i`, of [`Self::cols`] elements. Panics where `i` is not below [`Self::rows`].
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.stride..][..self.cols]
    }
}

/// A mutably borrowed matrix, otherwise as [`MatRef`].
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A view of `data`, in which the last row need not be filled up to the stride.
    ///
    /// # Errors
    /// [`Error::Stride`] where rows would overlap, [`Error::Length`] where `data` is too short.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Result<Self, Error> {
        let (span, stride) = check(data.len(), rows, cols, stride)?;
        Ok(Self { data: &mut data[..span], rows, cols, stride })
    }

    /// A view of `data` with no gaps between rows.
    ///
    /// # Errors
    /// [`Error::Length`] where `data` is too short.
    pub fn contiguous(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self, Error> {
        Self::new(data, rows, cols, cols)
    }

    /// The same matrix to read.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The elements from the first of row `first` on; the first [`Self::cols`] of every
    /// [`Self::pitch`] of them are a row. Empty where there is no such row.
    pub(crate) fn rows_from(&mut self, first: usize) -> &mut [T] {
        self.data.get_mut(first * self.stride..).unwrap_or_default()
    }

    /// The stride as the size of a chunk: never 0.
    pub(crate) fn pitch(&self) -> usize {
        self.stride.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        let data = [0u8; 11];
        assert_eq!(MatRef::new(&data, 3, 3, 4).unwrap().row(2).len(), 3);
        assert_eq!(
            MatRef::new(&data, 3, 4, 4).unwrap_err(),
            Error::Length { len: 11, rows: 3, cols: 4, stride: 4 }
        );
        assert_eq!(MatRef::new(&data, 2, 3, 2).unwrap_err(), Error::Stride { stride: 2, cols: 3 });
        let huge = usize::MAX / 2;
        assert!(matches!(MatRef::new(&data, huge, 3, huge), Err(Error::Length { .. })));
        assert!(matches!(MatRef::new(&data, 2, 1, usize::MAX), Err(Error::Length { .. })));
        for stride in [0, usize::MAX] {
            assert_eq!(MatRef::new(&data, 1, 3, stride).unwrap().stride(), 3, "one row needs none");
        }
    }

    #[test]
    fn empty_extents_are_legal() {
        let none: [u8; 0] = [];
        assert_eq!(MatRef::contiguous(&none, 0, 5).unwrap().rows(), 0);
        assert_eq!(MatRef::contiguous(&none, 5, 0).unwrap().row(4).len(), 0);
        assert!(MatRef::new(&none, 5, 0, usize::MAX).unwrap().row(4).is_empty());
        let mut none: [u8; 0] = [];
        assert!(MatMut::contiguous(&mut none, 5, 0).unwrap().rows_from(3).is_empty());
    }

    #[test]
    fn messages_name_value_and_limit() {
        let text = MatRef::new(&[0u8; 4], 2, 3, 3).unwrap_err().to_string();
        assert_eq!(text, "2 rows of 3 columns with stride 3 need more than the 4 elements given");
    }
}
