//! The epilogue of all GEMMs: `act(alpha * acc + beta * C + bias)`, converted and stored once.
//!
//! The accumulator layouts differ (the sparse kernel's tile is transposed), so each warp first writes
//! its part of the Y tile to shared memory as f32, rows = tokens, and then reads it back by rows. That lets
//! this file know nothing of fragments. A lane owns 4 neighbouring features, 16 bytes of the staged tile, so
//! that a row is read without bank conflicts and written in one piece, and finishes them in several rows at a
//! time, whose arithmetic hides each other's latency.
//!
//! To add an activation, add it to `layout::activation` and `layout::approximation`. To add an operand or an
//! output type, extend `GemmParams` and [`Staging::store`].

use core::array::from_fn;
use cuda_std::convert::{Convert, Hardware, fma};
use cuda_std::{global, shared, thread, warp};
use layout::activation::Activation;
use layout::params::{ALIGNED_EPILOGUE, GemmParams, Output};

/// Neighbouring features that a lane owns.
const WIDTH: u32 = 4;
/// Rows of a lane's features that it finishes at a time.
const ROWS: usize = 4;

/// [`WIDTH`] values of one row.
type Quad = [f32; 4];

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
        let step = 32 / per_row;
        let groups = const {
            // A small tile has fewer rows than a group.
            assert!(TOKENS * FEATURES % (32 * WIDTH) == 0);
            (TOKENS * FEATURES).div_ceil(32 * WIDTH * ROWS as u32)
        };
        let lane = thread::anchored(thread::lane());
        let (first, column) = (lane / per_row, lane % per_row * WIDTH);
        let feature = feature0 + column;
        if feature >= p.n {
            return;
        }
        let valid = (p.n - feature).min(WIDTH);
        let whole = valid == WIDTH && thread::anchored(p.aligned) & ALIGNED_EPILOGUE != 0;
        let wide = thread::anchored(p.output) == Output::F32 as u32;
        let size = if wide { 4 } else { 2 };
        // -0 is what changes nothing by being added, not even the sign of a zero.
        let mut bias = [-0.0; 4];
        if p.bias != 0 {
            // SAFETY: `valid` elements of bias start here, 8-byte aligned where `whole`.
            bias = unsafe { load::<T>(p.bias + feature as u64 * 2, valid, whole) };
        }
        let address =
            |matrix: u64, ld: u64| matrix + ((token0 + first) as u64 * ld + feature as u64) * size;
        let bytes = thread::anchored(step) as u64 * size;
        let (mut y, y_step) = (address(p.y, p.ldy), thread::anchored_u64(bytes * p.ldy));
        let (mut c, c_step) = (address(p.c, p.ldc), thread::anchored_u64(bytes * p.ldc));
        let mut staged = self.at(first, column);
        // Rows that exist of those that the lane has yet to finish.
        let mut rows = p.m.saturating_sub(token0 + first).div_ceil(step).min(TOKENS / step);
        for _ in 0..thread::opaque(groups) {
            let product = |i: usize, addend: Quad| -> Quad {
                if groups == 1 && i as u32 * step >= TOKENS {
                    return [0.0; 4];
                }
                // SAFETY: the address is that of 4 staged elements, 16-byte aligned since pitch and column
                // are multiples of 4.
                let acc = unsafe { shared::load_f32x4(staged + i as u32 * step * Self::PITCH * 4) };
                from_fn(|j| fma(p.alpha, acc[j], addend[j]))
            };
            let z = if p.c == 0 {
                from_fn(|i| product(i, bias))
            } else {
                // SAFETY: `valid` elements of C start at each address of a row inside, aligned where `whole`.
                let c: [Quad; ROWS] = from_fn(|i| unsafe {
                    let address = c + i as u64 * c_step;
                    match (i as u32) < rows {
                        true if wide => load_f32(address, valid, whole),
                        true => load::<T>(address, valid, whole),
                        false => [0.0; 4],
                    }
                });
                from_fn(|i| product(i, from_fn(|j| fma(p.beta, c[i][j], bias[j]))))
            };
            let z = activate(p.activation, z);
            // SAFETY: `valid` elements of Y start at each address of a row inside, aligned where `whole`.
            unsafe {
                if wide {
                    store_f32(y, y_step, rows, valid, whole, z);
                } else {
                    store::<T>(y, y_step, rows, valid, whole, z);
                }
            }
            staged += ROWS as u32 * step * Self::PITCH * 4;
            y += ROWS as u64 * y_step;
            c += ROWS as u64 * c_step;
            rows = rows.saturating_sub(ROWS as u32);
        }
    }
}

/// Applies the activation of this number.
#[inline(always)]
fn activate(activation: u32, z: [Quad; ROWS]) -> [Quad; ROWS] {
    const RELU: u32 = Activation::Relu as u32;
    const GELU: u32 = Activation::Gelu as u32;
    const GELU_TANH: u32 = Activation::GeluTanh as u32;
    const SILU: u32 = Activation::Silu as u32;
    // The same for every thread of the launch, so no warp diverges.
    match activation {
        RELU => z.map(|z| Activation::Relu.approximate::<Hardware>(z)),
        GELU => z.map(|z| Activation::Gelu.approximate::<Hardware>(z)),
        GELU_TANH => z.map(|z| Activation::GeluTanh.approximate::<Hardware>(z)),
        SILU => z.map(|z| Activation::Silu.approximate::<Hardware>(z)),
        _ => z,
    }
}

/// Four 16-bit elements at `address` as f32: in one access if `whole`, else the first `valid`.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 8 aligned bytes.
#[inline(always)]
unsafe fn load<T: Convert>(address: u64, valid: u32, whole: bool) -> Quad {
    // SAFETY: as the caller vouches.
    let pairs: [u32; 2] = unsafe {
        if whole {
            global::load_v2(address)
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

/// Four f32 at `address`.
///
/// # Safety
/// `valid` elements are readable; `whole` implies 16 aligned bytes.
#[inline(always)]
unsafe fn load_f32(address: u64, valid: u32, whole: bool) -> Quad {
    // SAFETY: as the caller vouches.
    unsafe {
        if whole {
            global::load_v4(address).map(f32::from_bits)
        } else {
            let one = |i: usize| {
                if (i as u32) < valid { global::load_f32(address + 4 * i as u64) } else { 0.0 }
            };
            from_fn(one)
        }
    }
}

/// Rounds to T and stores the first `rows` rows at `address`, `step` bytes apart.
///
/// # Safety
/// `valid` elements of each row are writable; `whole` implies 8 aligned bytes.
#[inline(always)]
unsafe fn store<T: Convert>(
    address: u64,
    step: u64,
    rows: u32,
    valid: u32,
    whole: bool,
    z: [Quad; ROWS],
) {
    let pairs = z.map(|z| [T::narrow(z[0], z[1]), T::narrow(z[2], z[3])]);
    for i in 0..ROWS {
        let address = address + i as u64 * step;
        // SAFETY: as the caller vouches.
        unsafe {
            if whole {
                if (i as u32) < rows {
                    global::store_v2(address, pairs[i]);
                }
            } else {
                for j in 0..4 {
                    if (i as u32) < rows && (j as u32) < valid {
                        let element = (pairs[i][j / 2] >> (16 * (j % 2))) as u16;
                        global::store_u16(address + 2 * j as u64, element);
                    }
                }
            }
        }
    }
}

/// Stores the first `rows` rows in f32 at `address`, `step` bytes apart.
///
/// # Safety
/// `valid` elements of each row are writable; `whole` implies 16 aligned bytes.
#[inline(always)]
unsafe fn store_f32(address: u64, step: u64, rows: u32, valid: u32, whole: bool, z: [Quad; ROWS]) {
    let bits = z.map(|z| z.map(f32::to_bits));
    for i in 0..ROWS {
        let address = address + i as u64 * step;
        // SAFETY: as the caller vouches.
        unsafe {
            if whole {
                if (i as u32) < rows {
                    global::store_v4(address, bits[i]);
                }
            } else {
                for j in 0..4 {
                    if (i as u32) < rows && (j as u32) < valid {
                        global::store_u32(address + 4 * j as u64, bits[i][j]);
                    }
                }
            }
        }
    }
}
