//! What of a kernel's parameters is compiled into it.
//!
//! A kernel finishes Y in many ways, of which a launch takes one: the parameters that say which are the same for all
//! launches of a plan. [`ptx::specialize`](crate::ptx::specialize) writes them into the PTX in place of the loads, so
//! that the driver's compiler drops what is not reached: it takes half of the time, and the code is smaller.

use layout::params::GemmParams;
use std::mem::offset_of;

/// Parameters with a fixed value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constants {
    /// 8-byte words of the parameter block: how many there are, where, and what. Operands that are absent are
    /// words of 0.
    words: [(u16, u64); Self::MOST],
    count: u8,
}

impl Constants {
    const MOST: usize = 8;

    /// Those of a product whose parameters begin at byte `at` of the block.
    pub(crate) fn of(gemm: &GemmParams, at: usize) -> Self {
        let mut constants = Self::default();
        let pair = |low: u32, high: u32| low as u64 | (high as u64) << 32;
        constants.add(at + offset_of!(GemmParams, activation), pair(gemm.activation, gemm.output));
        constants.add(at + offset_of!(GemmParams, aligned), pair(gemm.aligned, gemm.gated));
        let operands = [
            (gemm.c, offset_of!(GemmParams, c)),
            (gemm.bias, offset_of!(GemmParams, bias)),
            (gemm.row_scale, offset_of!(GemmParams, row_scale)),
            (gemm.workspace, offset_of!(GemmParams, workspace)),
        ];
        for (_, offset) in operands.into_iter().filter(|(operand, _)| *operand == 0) {
            constants.add(at + offset, 0);
        }
        if gemm.units == 0 {
            constants.add(at + offset_of!(GemmParams, units), pair(0, gemm.band));
        }
        constants
    }

    fn add(&mut self, at: usize, value: u64) {
        if let Some(word) = self.words.get_mut(self.count as usize) {
            *word = (at as u16, value);
            self.count += 1;
        }
    }

    /// Byte offset and value of each word.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        self.words.into_iter().take(self.count as usize).map(|(at, value)| (at as usize, value))
    }
}

const _: () = {
    // Fields that are compiled in share words with nothing else.
    assert!(offset_of!(GemmParams, activation) % 8 == 0);
    assert!(offset_of!(GemmParams, output) == offset_of!(GemmParams, activation) + 4);
    assert!(offset_of!(GemmParams, aligned) % 8 == 0);
    assert!(offset_of!(GemmParams, gated) == offset_of!(GemmParams, aligned) + 4);
    assert!(offset_of!(GemmParams, units) % 8 == 0);
    assert!(offset_of!(GemmParams, band) == offset_of!(GemmParams, units) + 4);
};
