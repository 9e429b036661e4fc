//! Pruning a dense matrix to 2:4 in place, by the rule of `layout::packed24::select`.

use layout::packed24::{GROUP, positions, select};
use rayon::prelude::*;

use crate::element::Element;
use crate::matrix::MatMut;

/// The group starting at `tail`, filled up with +0 where the row ends within it.
#[inline(always)]
pub(crate) fn group_bits<T: Element>(tail: &[T]) -> [u16; GROUP] {
    let mut bits = [0; GROUP];
    for (bits, x) in bits.iter_mut().zip(tail) {
        *bits = x.bits16();
    }
    bits
}

/// Keeps the two largest magnitudes of every four along a row of `w` and sets the others to +0.
///
/// A zero that is kept becomes +0 too, so that the result is, bit for bit, what unpacking
/// [`Packed::prune_and_pack`](crate::Packed::prune_and_pack) gives. Pruning twice is pruning once.
pub fn prune<T: Element>(w: &mut MatMut<'_, T>) {
    let (cols, pitch) = (w.cols(), w.pitch());
    w.rows_from(0).par_chunks_mut(pitch).for_each(|row| {
        for group in row[..cols].chunks_mut(GROUP) {
            let (nibble, kept) = select::<T::Format>(group_bits(group));
            group.fill(T::ZERO);
            let (i, j) = positions(nibble);
            for (position, bits) in [i, j].into_iter().zip(kept) {
                // A position past the end of the row holds the +0 it was filled up with.
                if let Some(x) = group.get_mut(position) {
                    *x = T::from_bits16(bits);
                }
            }
        }
    });
}
