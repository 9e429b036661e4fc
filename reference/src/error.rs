//! What can be wrong with an input. Every message names the value and what it had to be.

/// An input that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows of a matrix view would overlap.
    #[error("row stride {stride} is below the {cols} columns of a row")]
    Stride {
        /// Elements from one row to the next.
        stride: usize,
        /// Elements of a row.
        cols: usize,
    },
    /// A matrix view reaches beyond its slice.
    #[error(
        "{rows} rows of {cols} columns with stride {stride} need more than the {len} elements given"
    )]
    Length {
        /// Elements given.
        len: usize,
        /// Rows of the view.
        rows: usize,
        /// Columns of the view.
        cols: usize,
        /// Elements from one row to the next.
        stride: usize,
    },
    /// An operand does not fit the others.
    #[error("{what} is {got}, but the other operands need {want}")]
    Shape {
        /// Which extent of which operand.
        what: &'static str,
        /// What it is.
        got: usize,
        /// What it had to be.
        want: usize,
    },
    /// The features of a gated epilogue do not come in pairs.
    #[error("N is {n}, and a gated epilogue needs an even one: gates and values alternate")]
    GatedFeatures {
        /// Output features.
        n: usize,
    },
    /// A row was asked for that Y does not have.
    #[error("row {row} does not exist in a matrix of {rows} rows")]
    Row {
        /// The row asked for.
        row: usize,
        /// Rows there are.
        rows: usize,
    },
    /// K is too large for a meaningful error bound.
    #[error("K is {k}, and a sum in f32 can be bounded up to {limit}")]
    Depth {
        /// K.
        k: usize,
        /// The largest K that can be judged.
        limit: usize,
    },
    /// The packed form of a matrix would not fit the address space.
    #[error("a packed matrix of {n} x {k} exceeds the address space")]
    PackedExtent {
        /// Rows of W.
        n: usize,
        /// Columns of W.
        k: usize,
    },
    /// The values or metadata of a packed matrix have the wrong length.
    #[error("{what} has {len} items, but a packed {n} x {k} matrix has {want}")]
    PackedLength {
        /// `"values"` or `"metadata"`.
        what: &'static str,
        /// Items given.
        len: usize,
        /// Items there must be.
        want: usize,
        /// Rows of W.
        n: usize,
        /// Columns of W.
        k: usize,
    },
    /// A group of four has more than two non-zeros.
    #[error("row {row}, group {group} has {nonzeros} non-zeros, and 2:4 allows 2")]
    NotTwoFour {
        /// Row of W.
        row: usize,
        /// Group of the row: columns `4*group..4*group+4`.
        group: usize,
        /// Its non-zeros, 3 or 4.
        nonzeros: usize,
    },
    /// A metadata nibble that the hardware does not define.
    #[error("row {row}, group {group} has metadata nibble {nibble:#x}; legal are 4, 8, 9, c, d, e")]
    IllegalNibble {
        /// Row of the padded W.
        row: usize,
        /// Group of the row.
        group: usize,
        /// The nibble.
        nibble: u8,
    },
    /// Padding that is not +0 with nibble 4, or a value beyond column K.
    #[error("row {row}, group {group} is padding, but is not +0, +0 with metadata nibble 0x4")]
    Padding {
        /// Row of the padded W.
        row: usize,
        /// Group of the row.
        group: usize,
    },
}
