//! A consumer finishes its 64-feature parts of a tile.
//!
//! Y of X's type goes the short way: alpha and bias in registers, and in boxes ([`store`](super::store)) to memory, which
//! apply the activation in Y's type. Everything else goes through the epilogue of all kernels, 32 tokens at a time.

use super::consume::{Accumulators, Consumer};
use super::store::Boxes;
use crate::epilogue::Staging;
use cuda_std::convert::{Convert, fma};
use cuda_std::{global, shared, thread};
use layout::fragment;
use layout::hopper::{PART_PADDING, PART_TOKENS, ROWS};
use layout::params::{ALIGNED_STORE, BIASED, GemmParams, UNIT_ALPHA};

/// The bias of the two features that a thread has of an instruction, as they are.
pub type Bias = u32;
/// The bias that changes nothing by being added, not even the sign of a zero: -0, in both types.
const NOTHING: u32 = 0x8000;
/// Tokens that a warp finishes of a part.
const WARP_TOKENS: u32 = PART_TOKENS / 4;

impl Consumer {
    /// Finishes and stores the consumer's features, from `feature0` on, of the tokens from `token0` on, with `boxes` if
    /// they can.
    ///
    /// All threads of the warpgroup must reach it together.
    ///
    /// # Safety
    /// `p` describes valid operands.
    #[inline(always)]
    pub unsafe fn finish<T: Convert, const S: usize, const R: usize, const PENDING: u32>(
        &self,
        p: &GemmParams,
        boxes: &Boxes<'_, PENDING>,
        acc: &mut Accumulators<S, R>,
        bias: &[Bias; S],
        token0: u32,
        feature0: u32,
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            if !self.shape.shares() || p.aligned & ALIGNED_STORE != 0 {
                for (s, z) in acc.iter_mut().enumerate() {
                    let feature = feature0 + s as u32 * ROWS;
                    // In ping-pong the other consumer multiplies meanwhile.
                    if self.shape.ping_pong {
                        self.scale::<T, R>(p, z, bias[s]);
                    } else {
                        self.scale_if_needed::<T, R>(p, z, bias[s]);
                    }
                    boxes.store::<T, R>(z, self.shape.parts(), token0, feature);
                }
            } else {
                self.store_parts::<T, S, R>(p, acc, token0, feature0);
            }
        }
    }

    /// The bias of the thread's features of each instruction, the first of which begins at `feature0`.
    ///
    /// # Safety
    /// As for [`Self::finish`].
    #[inline(always)]
    pub unsafe fn bias<T: Convert, const S: usize>(
        &self,
        p: &GemmParams,
        feature0: u32,
    ) -> [Bias; S] {
        let feature0 = feature0 + self.thread / 32 * 16 + self.thread % 32 / 4;
        let load = |feature: u32| {
            if p.bias != 0 && p.aligned & ALIGNED_STORE != 0 && feature < p.n {
                // SAFETY: the bias has N elements.
                unsafe { global::load_u16(p.bias + feature as u64 * 2) as u32 }
            } else {
                NOTHING
            }
        };
        core::array::from_fn(|s| {
            let feature = feature0 + s as u32 * ROWS;
            load(feature) | load(feature + 8) << 16
        })
    }

    /// What an instruction's accumulators begin with: the bias where alpha is 1, so that nothing is left to do after the
    /// products, and otherwise 0.
    #[inline(always)]
    pub fn begin<T: Convert, const R: usize>(&self, p: &GemmParams, bias: Bias) -> [f32; R] {
        if p.aligned & UNIT_ALPHA == 0 || p.bias == 0 {
            return [0.0; R];
        }
        let bias = T::widen(bias);
        core::array::from_fn(
            #[inline(always)]
            |r| bias[r % 4 / 2],
        )
    }

    /// [`Self::scale`], unless the launch says that it changes nothing. Not while other products are under way: where
    /// sums are first used behind a branch, `ptxas` waits for all of them (C7517).
    #[inline(always)]
    pub fn scale_if_needed<T: Convert, const R: usize>(
        &self,
        p: &GemmParams,
        acc: &mut [f32; R],
        bias: Bias,
    ) {
        // Not by the bias's address: whether it is 0 would take a register of the main loop.
        if p.aligned & (UNIT_ALPHA | BIASED) != UNIT_ALPHA {
            self.scale::<T, R>(p, acc, bias);
        }
    }

    /// Alpha and bias for an instruction's accumulators.
    #[inline(always)]
    pub fn scale<T: Convert, const R: usize>(
        &self,
        p: &GemmParams,
        acc: &mut [f32; R],
        bias: Bias,
    ) {
        let bias = T::widen(bias);
        // Registers are (feature, token) g, 2q; g, 2q + 1; g + 8, 2q; g + 8, 2q + 1.
        for (r, z) in acc.iter_mut().enumerate() {
            *z = fma(p.alpha, *z, bias[r % 4 / 2]);
        }
    }

    /// The way of all kernels: 32 tokens and 64 features at a time, in f32.
    ///
    /// # Safety
    /// As for [`Self::finish`].
    #[inline(always)]
    unsafe fn store_parts<T: Convert, const S: usize, const R: usize>(
        &self,
        p: &GemmParams,
        acc: &mut Accumulators<S, R>,
        token0: u32,
        feature0: u32,
    ) {
        let base = shared::base() + self.shape.staging_at(self.place);
        let (warp, lane) = (self.thread / 32, self.thread % 32);
        // A warp's tokens follow those of the one before it.
        let staging = Staging::<WARP_TOKENS, ROWS, PART_PADDING>::new(base, warp);
        let all = Staging::<PART_TOKENS, ROWS, PART_PADDING>::new(base, 0);
        let tokens = (R as u32 * 2).min(PART_TOKENS);
        let parts = R as u32 * 2 / tokens;
        // A loop that is not unrolled: the code of the epilogue exists once.
        for step in 0..thread::opaque(S as u32 * parts) {
            self.sync();
            let registers = tokens as usize / 2;
            for i in 0..registers {
                let (feature, token) = fragment::accumulator(lane, i as u32 % 4);
                // SAFETY: the element lies in the staging area, which is free.
                unsafe {
                    let at = all.at(i as u32 / 4 * 8 + token, warp * 16 + feature);
                    shared::store_f32(at, acc[0][i]);
                }
            }
            self.sync();
            let token = token0 + step % parts * tokens + warp * WARP_TOKENS;
            if warp * WARP_TOKENS < tokens {
                // SAFETY: staged above by the warpgroup; `p` is valid.
                unsafe { staging.store::<T>(p, token, feature0 + step / parts * ROWS) }
            }
            // The next part's place among the registers is constant.
            let flat = acc.as_flattened_mut();
            for i in registers..S * R {
                flat[i - registers] = flat[i];
            }
        }
    }
}
