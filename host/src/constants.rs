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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx;
    use layout::instance::INSTANCES;
    use layout::params::HopperParams;

    /// A product without anything that may be left out: the most constants.
    fn bare() -> GemmParams {
        GemmParams {
            x: 1,
            w: 1,
            metadata: 1,
            c: 0,
            bias: 0,
            y: 1,
            row_scale: 0,
            workspace: 0,
            counters: 0,
            ldx: 1,
            ldw: 1,
            ldc: 0,
            ldy: 1,
            m: 1,
            n: 1,
            k: 1,
            waves: 1,
            alpha: 1.0,
            beta: 0.0,
            activation: 3,
            output: 1,
            aligned: 7,
            gated: 1,
            units: 0,
            band: 8,
        }
    }

    #[test]
    fn what_varies_is_left_in() {
        let words = |gemm: &GemmParams, at| Constants::of(gemm, at).words().collect::<Vec<_>>();
        let mut all = words(&bare(), 0);
        assert!(all.contains(&(offset_of!(GemmParams, activation), 3 | 1 << 32)));
        assert!(all.contains(&(offset_of!(GemmParams, aligned), 7 | 1 << 32)));
        let shifted = all.iter().map(|(at, value)| (at + 512, *value));
        assert!(shifted.eq(words(&bare(), 512)));
        let gemm = GemmParams { bias: 1, workspace: 1, units: 5, ..bare() };
        for absent in [
            offset_of!(GemmParams, bias),
            offset_of!(GemmParams, workspace),
            offset_of!(GemmParams, units),
        ] {
            let before = all.len();
            all.retain(|(at, _)| *at != absent);
            assert_eq!(all.len(), before - 1);
        }
        assert_eq!(words(&gemm, 0), all);
    }

    #[test]
    fn every_constant_takes_the_place_of_its_load_in_every_kernel() {
        for kernel in INSTANCES.into_iter().flatten() {
            let name = kernel.name;
            let at = if kernel.family.is_hopper() { offset_of!(HopperParams, gemm) } else { 0 };
            let constants = Constants::of(&bare(), at);
            let plain = ptx::entry(ptx::module_of(name), name).unwrap();
            let text = ptx::specialized(name, &constants).unwrap();
            // Of a word, or of half of it.
            let loads = |text: &str, at: usize| {
                let places = [at, at + 4].map(|at| format!("[{name}_param_0+{at}]"));
                text.lines().filter(|line| places.iter().any(|place| line.contains(place))).count()
            };
            let mut all = 0;
            for (at, _) in constants.words() {
                let count = loads(&plain, at);
                // Kernels that finish Y in one way alone do not read what the other ways take.
                assert!(
                    count == 1 || count == 0 && !kernel.shares(),
                    "{name}: {count} of byte {at}"
                );
                assert_eq!(loads(&text, at), 0, "{name}: loads of byte {at}");
                all += count;
            }
            let changed = plain.lines().zip(text.lines()).filter(|(a, b)| a != b);
            let changed: Vec<_> = changed.map(|(_, new)| new.trim()).collect();
            assert_eq!(changed.len(), all, "{name}: {changed:?}");
            assert!(changed.iter().all(|line| line.starts_with("mov.b")), "{changed:?}");
        }
    }
}
