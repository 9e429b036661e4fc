//! The epilogue of all GEMMs: `act(alpha * acc + beta * C + bias)`, converted and stored once.
//!
//! The accumulator layouts differ (the sparse kernel's tile is transposed), so each warp first writes
//! its part of the Y tile to shared memory as f32, rows = tokens, and then reads it back by rows: a
//! lane owns 8 neighbouring features, which makes every global access 16 bytes wide and coalesced,
//! and lets this file know nothing of fragments.
//!
//! To add an activation, add it to `layout::activation`. To add an operand or an output type, extend
//! `GemmParams` and [`finish`].

use core::array::from_fn;
use cuda_std::convert::{Approximate, Convert};
use cuda_std::{global, shared, thread, warp};
use layout::activation::Activation;
use layout::params::{ALIGNED_EPILOGUE, GemmParams, Output};

/// Features a lane finishes at a time: 16 bytes of a 16-bit type.
const WIDTH: u32 = 8;

/// A warp's part of the Y tile, staged in shared memory.
#[derive(Clone, Copy)]
pub struct Staging<const TOKENS: u32, const FEATURES: u32, const PADDING: u32> {
    base: u32,
}

impl<const TOKENS: u32, const FEATURES: u32, const PADDING: u32>
    Staging<TOKENS, FEATURES, PADDING>
{
    /// f32 from one token's row to the next. The padding is chosen per fragment layout so that a
    /// warp's writes fall into different banks (`layout::instance::Family::staging_padding`).
    pub const PITCH: u32 = FEATURES + PADDING;

    /// The staging area of warp `warp` of the block, in memory that starts at `base`.
    #[inline(always)]
    pub fn new(base: u32, warp: u32) -> Self {
        Self { base: base + warp * TOKENS * Self::PITCH * 4 }
    }

    /// Shared address of an element.
    #[inline(always)]
    pub fn at(&self, token: u32, feature: u32) -> u32 {
        self.base + (token * Self::PITCH + feature) * 4
    }

    /// Finishes and stores the staged tile, whose first element is Y[token0, feature0].
    ///
    /// All lanes of the warp must reach it together.
    ///
    /// # Safety
    /// The tile has been staged by this warp, and `p` describes valid operands.
    #[inline(always)]
    pub unsafe fn store<T: Convert>(&self, p: &GemmParams, token0: u32, feature0: u32) {
        warp::sync_warp();
        // A lane keeps its features and goes down the rows, so that bias is read once.
        let per_row = const {
            assert!(FEATURES % WIDTH == 0 && 32 % (FEATURES / WIDTH) == 0);
            FEATURES / WIDTH
        };
        let lane = thread::lane();
        let (first, column) = (lane / per_row, lane % per_row * WIDTH);
        let feature = feature0 + column;
        if feature >= p.n {
            return;
        }
        let valid = (p.n - feature).min(WIDTH);
        let whole = valid == WIDTH && p.aligned & ALIGNED_EPILOGUE != 0;
        let mut bias = [0.0; 8];
        if p.bias != 0 {
            // SAFETY: `valid` elements of bias start here, 16-byte aligned where `whole`.
            bias = unsafe { load::<T>(p.bias + feature as u64 * 2, valid, whole) };
        }
        for pass in 0..thread::opaque(TOKENS * per_row / 32) {
            let row = pass * (32 / per_row) + first;
            if token0 + row < p.m {
                let address = self.at(row, column);
                // SAFETY: the address is that of 8 staged elements, 16-byte aligned since pitch and
                // column are multiples of 4; `valid` elements from token and feature lie inside Y.
                unsafe {
                    let low = shared::load_f32x4(address);
                    let high = shared::load_f32x4(address + 16);
                    let acc = from_fn(|i| if i < 4 { low[i % 4] } else { high[i % 4] });
                    finish::<T>(p, token0 + row, feature, acc, &bias, valid, whole);
                }
            }
        }
    }
}

/// Finishes the accumulators of Y[token, feature..feature + 8] and stores the first `valid`.
///
/// # Safety
/// `valid` elements from there on lie inside Y and C; `whole` says that they are 8 and that all
/// addresses are multiples of 16; `p` describes valid operands.
#[inline(always)]
unsafe fn finish<T: Convert>(
    p: &GemmParams,
    token: u32,
    feature: u32,
    acc: [f32; 8],
    bias: &[f32; 8],
    valid: u32,
    whole: bool,
) {
    let f32_out = p.output == Output::F32 as u32;
    let size = if f32_out { 4 } else { 2 };
    let mut z: [f32; 8] = from_fn(|i| p.alpha * acc[i]);
    // SAFETY (each access below): as the caller vouches.
    unsafe {
        if p.c != 0 {
            let address = p.c + (token as u64 * p.ldc + feature as u64) * size;
            let c = if f32_out {
                load_f32(address, valid, whole)
            } else {
                load::<T>(address, valid, whole)
            };
            z = from_fn(|i| z[i] + p.beta * c[i]);
        }
        if p.bias != 0 {
            z = from_fn(|i| z[i] + bias[i]);
        }
        const RELU: u32 = Activation::Relu as u32;
        const GELU: u32 = Activation::Gelu as u32;
        const GELU_TANH: u32 = Activation::GeluTanh as u32;
        const SILU: u32 = Activation::Silu as u32;
        // The same for every thread of the launch, so no warp diverges.
        match p.activation {
            RELU => z = z.map(|z| Activation::Relu.apply::<Approximate>(z)),
            GELU => z = z.map(|z| Activation::Gelu.apply::<Approximate>(z)),
            GELU_TANH => z = z.map(|z| Activation::GeluTanh.apply::<Approximate>(z)),
            SILU => z = z.map(|z| Activation::Silu.apply::<Approximate>(z)),
            _ => {}
        }
        let address = p.y + (token as u64 * p.ldy + feature as u64) * size;
        if f32_out {
            store_f32(address, valid, whole, z);
        } else {
            store::<T>(address, valid, whole, z);
        }
    }
}

/// Eight 16-bit elements at `address` as f32: in one access if `whole`, else the first `valid`.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 16 aligned bytes.
#[inline(always)]
unsafe fn load<T: Convert>(address: u64, valid: u32, whole: bool) -> [f32; 8] {
    // SAFETY: as the caller vouches.
    let pairs: [u32; 4] = unsafe {
        if whole {
            global::load_v4(address)
        } else {
            let one = |i: usize| {
                if (i as u32) < valid { global::load_u16(address + 2 * i as u64) as u32 } else { 0 }
            };
            from_fn(|i| one(2 * i) | one(2 * i + 1) << 16)
        }
    };
    let wide = pairs.map(T::widen);
    from_fn(|i| wide[i / 2][i % 2])
}

/// Eight f32 at `address`.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 32 bytes, 16-byte aligned.
#[inline(always)]
unsafe fn load_f32(address: u64, valid: u32, whole: bool) -> [f32; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        if whole {
            let halves = [global::load_v4(address), global::load_v4(address + 16)];
            from_fn(|i| f32::from_bits(halves[i / 4][i % 4]))
        } else {
            from_fn(
                |i| {
                    if (i as u32) < valid { global::load_f32(address + 4 * i as u64) } else { 0.0 }
                },
            )
        }
    }
}

/// Rounds to T and stores at `address`.
///
/// # Safety
/// `valid` elements are writable; `whole` implies 16 aligned bytes.
#[inline(always)]
unsafe fn store<T: Convert>(address: u64, valid: u32, whole: bool, z: [f32; 8]) {
    let pairs: [u32; 4] = from_fn(|i| T::narrow(z[2 * i], z[2 * i + 1]));
    // SAFETY: as the caller vouches.
    unsafe {
        if whole {
            global::store_v4(address, pairs);
        } else {
            for i in 0..8 {
                if (i as u32) < valid {
                    let element = (pairs[i / 2] >> (16 * (i % 2))) as u16;
                    global::store_u16(address + 2 * i as u64, element);
                }
            }
        }
    }
}

/// Stores f32 at `address`.
///
/// # Safety
/// `valid` elements are writable; `whole` implies 32 bytes, 16-byte aligned.
#[inline(always)]
unsafe fn store_f32(address: u64, valid: u32, whole: bool, z: [f32; 8]) {
    let bits = z.map(f32::to_bits);
    // SAFETY: as the caller vouches.
    unsafe {
        if whole {
            global::store_v4(address, from_fn(|i| bits[i]));
            global::store_v4(address + 16, from_fn(|i| bits[i + 4]));
        } else {
            for i in 0..8 {
                if (i as u32) < valid {
                    global::store_u32(address + 4 * i as u64, bits[i]);
                }
            }
        }
    }
}
