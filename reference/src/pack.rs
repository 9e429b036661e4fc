//! [`Packed`]: a 2:4 matrix in Packed24, and the way there and back.

use layout::packed24::{
    BLOCK_ROWS, Extents, GROUP, PAD_NIBBLE, is_legal, magnitude, positions, select,
};
use rayon::prelude::*;

use crate::element::Element;
use crate::error::Error;
use crate::matrix::MatRef;
use crate::prune::group_bits;

/// Eight nibbles of padding.
const PAD_WORD: u32 = PAD_NIBBLE as u32 * 0x1111_1111;

/// W `[n, k]`, 2:4 sparse along k, in the format of `layout::packed24`.
///
/// Always well-formed: lengths match, nibbles are legal, padding is +0 with nibble 0x4.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed<T> {
    n: usize,
    k: usize,
    extents: Extents,
    values: Vec<T>,
    metadata: Vec<u32>,
}

impl<T: Element> Packed<T> {
    /// Prunes `w` by `layout::packed24::select` and packs it.
    ///
    /// # Errors
    /// [`Error::PackedExtent`] where the padded size overflows.
    pub fn prune_and_pack(w: MatRef<'_, T>) -> Result<Self, Error> {
        Self::build(w, |_, _, _| Ok(()))
    }

    /// Packs `w`, which is already 2:4. NaN counts as a non-zero, -0 as a zero (and becomes +0).
    ///
    /// # Errors
    /// [`Error::NotTwoFour`] names the first group, by row and then column, with over two non-zeros;
    /// [`Error::PackedExtent`] where the padded size overflows.
    pub fn pack(w: MatRef<'_, T>) -> Result<Self, Error> {
        Self::build(w, |row, group, bits| {
            let nonzeros = bits.iter().filter(|&&b| magnitude::<T::Format>(b) != 0).count();
            if nonzeros > 2 { Err(Error::NotTwoFour { row, group, nonzeros }) } else { Ok(()) }
        })
    }

    /// Packs `w` one 16-row block per task, after `accept` has seen each group's row, index and bits.
    fn build(
        w: MatRef<'_, T>,
        accept: impl Fn(usize, usize, [u16; GROUP]) -> Result<(), Error> + Sync,
    ) -> Result<Self, Error> {
        let (n, k) = (w.rows(), w.cols());
        let (extents, block) = extents(n, k)?;
        let mut values = vec![T::ZERO; extents.values()];
        let mut metadata = vec![PAD_WORD; extents.words()];
        let blocks = values
            .par_chunks_mut(block.values().max(1))
            .zip(metadata.par_chunks_mut(block.words().max(1)));
        let pack_block = |(b, (values, words)): (usize, (&mut [T], &mut [u32]))| {
            for row in b * BLOCK_ROWS..n.min((b + 1) * BLOCK_ROWS) {
                let r = row % BLOCK_ROWS;
                for (q, group) in w.row(row).chunks(GROUP).enumerate() {
                    let bits = group_bits(group);
                    accept(row, q, bits)?;
                    let (nibble, kept) = select::<T::Format>(bits);
                    let at = block.value_index(r, q);
                    values[at] = T::from_bits16(kept[0]);
                    values[at + 1] = T::from_bits16(kept[1]);
                    let (word, shift) = block.nibble_position(r, q);
                    words[word] = words[word] & !(0xF << shift) | (nibble as u32) << shift;
                }
            }
            Ok(())
        };
        match blocks.enumerate().map(pack_block).find_map_first(Result::err) {
            Some(error) => Err(error),
            None => Ok(Self { n, k, extents, values, metadata }),
        }
    }

    /// A packed matrix from its parts, [validated](Self::validate).
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn from_parts(
        n: usize,
        k: usize,
        values: Vec<T>,
        metadata: Vec<u32>,
    ) -> Result<Self, Error> {
        Self::validate(n, k, &values, &metadata)?;
        let (extents, _) = extents(n, k)?;
        Ok(Self { n, k, extents, values, metadata })
    }

    /// Checks what a loader must: that `values` `[n_padded, k_padded/2]` and `metadata`
    /// `[n_padded/16][k_padded/64][32]` are a packed `n` x `k` matrix.
    ///
    /// # Errors
    /// [`Error::PackedExtent`], [`Error::PackedLength`]; else, for the first such group by row and
    /// then column, [`Error::IllegalNibble`] or [`Error::Padding`].
    pub fn validate(n: usize, k: usize, values: &[T], metadata: &[u32]) -> Result<(), Error> {
        let (extents, block) = extents(n, k)?;
        let length = |what, len, want| {
            if len == want { Ok(()) } else { Err(Error::PackedLength { what, len, want, n, k }) }
        };
        length("values", values.len(), extents.values())?;
        length("metadata", metadata.len(), extents.words())?;
        let blocks =
            values.par_chunks(block.values().max(1)).zip(metadata.par_chunks(block.words().max(1)));
        let check_block = |(b, (values, words)): (usize, (&[T], &[u32]))| {
            for r in 0..BLOCK_ROWS {
                let row = b * BLOCK_ROWS + r;
                for group in 0..extents.k_padded / GROUP {
                    let (word, shift) = block.nibble_position(r, group);
                    let nibble = (words[word] >> shift & 0xF) as u8;
                    if !is_legal(nibble) {
                        return Err(Error::IllegalNibble { row, group, nibble });
                    }
                    let kept = &values[block.value_index(r, group)..][..2];
                    let columns = if row < n { k.saturating_sub(GROUP * group) } else { 0 };
                    let (i, j) = positions(nibble);
                    let is_padding = columns == 0;
                    let stray = (i >= columns && kept[0].bits16() != 0)
                        || (j >= columns && kept[1].bits16() != 0);
                    if stray || is_padding && nibble != PAD_NIBBLE {
                        return Err(Error::Padding { row, group });
                    }
                }
            }
            Ok(())
        };
        let found = blocks.enumerate().map(check_block).find_map_first(Result::err);
        found.map_or(Ok(()), Err)
    }

    /// The dense matrix `[n, k]`, contiguous, with +0 in the pruned positions.
    pub fn unpack(&self) -> Vec<T> {
        let mut dense = vec![T::ZERO; self.n * self.k];
        dense.par_chunks_mut(self.k.max(1)).enumerate().for_each(|(row, out)| {
            for (q, out) in out.chunks_mut(GROUP).enumerate() {
                let (positions, kept) = self.group(row, q);
                for (position, value) in positions.into_iter().zip(kept) {
                    // A position past column k holds +0.
                    if let Some(out) = out.get_mut(position) {
                        *out = value;
                    }
                }
            }
        });
        dense
    }

    /// Kept positions and values of group `q` of `row`, both within the padded extents.
    #[inline(always)]
    pub(crate) fn group(&self, row: usize, q: usize) -> ([usize; 2], [T; 2]) {
        let (word, shift) = self.extents.nibble_position(row, q);
        let (i, j) = positions((self.metadata[word] >> shift & 0xF) as u8);
        let at = self.extents.value_index(row, q);
        ([i, j], [self.values[at], self.values[at + 1]])
    }

    /// Rows of W.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of W.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The padded extents.
    pub fn extents(&self) -> Extents {
        self.extents
    }

    /// The values, `[n_padded, k_padded/2]`.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The metadata words, `[n_padded/16][k_padded/64][32]`.
    pub fn metadata(&self) -> &[u32] {
        &self.metadata
    }

    /// Values and metadata, to send elsewhere.
    pub fn into_parts(self) -> (Vec<T>, Vec<u32>) {
        (self.values, self.metadata)
    }
}

/// The extents of the whole matrix and of one block of 16 rows of it.
fn extents(n: usize, k: usize) -> Result<(Extents, Extents), Error> {
    Extents::new(n, k).zip(Extents::new(BLOCK_ROWS, k)).ok_or(Error::PackedExtent { n, k })
}
