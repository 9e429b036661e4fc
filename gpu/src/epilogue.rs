//! The epilogue of all GEMMs: `act(alpha * acc + beta * C + bias)`, gated or not, converted and stored once.
//!
//! The accumulator layouts differ (the sparse kernel's tile is transposed), so each warp first writes
//! its part of the Y tile to shared memory as f32, rows = tokens, and then reads it back by rows. That lets
//! this file know nothing of fragments. A lane owns 4 neighbouring features, 16 bytes of the staged tile, so
//! that a row is read without bank conflicts and written in one piece, and finishes them in several rows at a
//! time, whose arithmetic hides each other's latency.
//!
//! To add an activation, add it to `layout::activation` and `layout::approximation`, and to [`activate`]. To
//! add an output type, add it to `layout::params` and a format to [`row`](crate::row); to add an operand,
//! extend `GemmParams` and [`Lane`].

use crate::row::{Format, Int8, Narrow, Quad, WIDTH, Wide, load, load_f32};
use core::array::from_fn;
use cuda_std::convert::{Convert, Hardware, fma};
use cuda_std::{global, shared, thread, warp};
use layout::activation::Activation;
use layout::params::{ALIGNED_EPILOGUE, GemmParams, Output};

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

    /// Finishes and stores the staged tile, whose first element belongs to token `token0` and feature
    /// `feature0`.
    ///
    /// All lanes of the warp must reach it together.
    ///
    /// # Safety
    /// The tile has been staged by this warp, and `p` describes valid operands.
    #[inline(always)]
    pub unsafe fn store<T: Convert>(&self, p: &GemmParams, token0: u32, feature0: u32) {
        warp::sync_warp();
        let rows = const {
            assert!(FEATURES % WIDTH == 0 && 32 % (FEATURES / WIDTH) == 0);
            assert!(TOKENS * FEATURES % (32 * WIDTH * 2) == 0);
            TOKENS * FEATURES / (32 * WIDTH)
        };
        // SAFETY: as the caller vouches.
        unsafe {
            if rows % 4 == 0 {
                self.finish::<T, 4, 2>(p, token0, feature0, rows / 4);
            } else {
                self.finish::<T, 2, 1>(p, token0, feature0, rows / 2);
            }
        }
    }

    /// Finishes a lane's part, in `groups` groups of ROWS rows, 2 PAIRS.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(always)]
    unsafe fn finish<T: Convert, const ROWS: usize, const PAIRS: usize>(
        &self,
        p: &GemmParams,
        token0: u32,
        feature0: u32,
        groups: u32,
    ) {
        let per_row = const { FEATURES / WIDTH };
        let step = 32 / per_row;
        // Anchored, also below: what depends on lane or parameters alone would otherwise be computed before
        // the kernel's tile loop and take registers from the main loop, which has none left.
        let lane = thread::anchored(thread::lane());
        let (first, column) = (lane / per_row, lane % per_row * WIDTH);
        let (token, feature) = (token0 + first, feature0 + column);
        if feature >= p.n {
            return;
        }
        let output = thread::anchored(p.output);
        let valid = (p.n - feature).min(WIDTH);
        let whole = valid == WIDTH && thread::anchored(p.aligned) & ALIGNED_EPILOGUE != 0;
        // -0 is what changes nothing by being added, not even the sign of a zero.
        let mut bias = [-0.0; WIDTH as usize];
        if p.bias != 0 {
            // SAFETY: `valid` elements of bias start here, aligned where `whole`.
            bias = unsafe { load::<T>(p.bias + feature as u64 * 2, valid, whole) };
        }
        let step_of = |ld: u64, bytes: u64| {
            let rows = thread::anchored(step) as u64;
            thread::anchored_u64(rows * ld * bytes)
        };
        let c_bytes = if output == F32 { 4 } else { 2 };
        let mut lane = Lane::<ROWS> {
            p,
            output,
            token,
            step,
            rows: p.m.saturating_sub(token).div_ceil(step).min(groups * ROWS as u32),
            valid,
            whole,
            bias,
            staged: self.at(first, column),
            staged_step: step * Self::PITCH * 4,
            c: p.c + (token as u64 * p.ldc + feature as u64) * c_bytes,
            c_step: step_of(p.ldc, c_bytes),
            next_c: [[0.0; WIDTH as usize]; ROWS],
        };
        // SAFETY: C has these rows as far as `lane.rows` says.
        unsafe { lane.load_c::<T>(0) };
        let gated = thread::anchored(p.gated) != 0;
        let y_bytes = match output {
            F32 => Wide::BYTES,
            INT8 => Int8::BYTES,
            _ => Narrow::<T>::BYTES,
        };
        let column = if gated { feature / 2 } else { feature };
        let mut y = p.y + (token as u64 * p.ldy + column as u64) * y_bytes;
        let y_step = step_of(p.ldy, y_bytes);
        for _ in 0..thread::opaque(groups) {
            // SAFETY: the rows are staged, and C and Y have them as far as `lane.rows` says.
            unsafe {
                let z = lane.sums();
                lane.load_c::<T>(ROWS as u32);
                if gated {
                    lane.write::<T, 2>(y, y_step, gate::<ROWS, PAIRS>(p.activation, z));
                } else {
                    lane.write::<T, 4>(y, y_step, activate(p.activation, z));
                }
            }
            lane.advance();
            y += ROWS as u64 * y_step;
        }
    }
}

const F32: u32 = Output::F32 as u32;
const INT8: u32 = Output::Int8 as u32;

/// A lane's features in the rows that it has yet to finish.
struct Lane<'a, const ROWS: usize> {
    p: &'a GemmParams,
    /// An [`Output`].
    output: u32,
    /// Token of the next row.
    token: u32,
    /// Tokens from one row of the lane to the next.
    step: u32,
    /// Rows that exist, of this tile.
    rows: u32,
    /// Features that exist.
    valid: u32,
    /// Whether all do and may be accessed together.
    whole: bool,
    bias: Quad,
    /// Where the next row is staged, and bytes to the one after it.
    staged: u32,
    staged_step: u32,
    /// The same in C.
    c: u64,
    c_step: u64,
    /// C in the next rows.
    next_c: [Quad; ROWS],
}

impl<const ROWS: usize> Lane<'_, ROWS> {
    /// Loads C of the rows `ahead` of the next, where there is a C: before the arithmetic of those before them,
    /// which hides some of the latency.
    ///
    /// # Safety
    /// C has [`Self::rows`] more rows.
    #[inline(always)]
    unsafe fn load_c<T: Convert>(&mut self, ahead: u32) {
        if self.p.c == 0 {
            return;
        }
        for i in 0..ROWS {
            let row = ahead + i as u32;
            if row < self.rows {
                let address = self.c + row as u64 * self.c_step;
                // SAFETY: `valid` elements of C start at the row's address, aligned where `whole`.
                self.next_c[i] = unsafe {
                    match self.output {
                        F32 => load_f32(address, self.valid, self.whole),
                        _ => load::<T>(address, self.valid, self.whole),
                    }
                };
            }
        }
    }

    /// `alpha * acc + beta * C + bias` of the next rows.
    ///
    /// # Safety
    /// They are staged, and [`Self::load_c`] has loaded their C.
    #[inline(always)]
    unsafe fn sums(&self) -> [Quad; ROWS] {
        let sum = |i: usize, addend: Quad| -> Quad {
            // SAFETY: the address is that of 4 staged elements, 16-byte aligned since pitch and column are
            // multiples of 4.
            let acc = unsafe { shared::load_f32x4(self.staged + i as u32 * self.staged_step) };
            from_fn(|j| fma(self.p.alpha, acc[j], addend[j]))
        };
        // Two copies of it, so that without C nothing is moved.
        if self.p.c == 0 {
            from_fn(|i| sum(i, self.bias))
        } else {
            let c = self.next_c;
            from_fn(|i| sum(i, from_fn(|j| fma(self.p.beta, c[i][j], self.bias[j]))))
        }
    }

    /// Writes N values each of the next rows to `y` and on, `y_step` bytes apart.
    ///
    /// # Safety
    /// Y has [`Self::rows`] rows there.
    #[inline(always)]
    unsafe fn write<T: Convert, const N: usize>(
        &self,
        y: u64,
        y_step: u64,
        values: [[f32; N]; ROWS],
    ) {
        // SAFETY: as the caller vouches; a token below M has a row scale.
        unsafe {
            match self.output {
                F32 => self.write_as::<Wide, N>(y, y_step, values),
                INT8 => {
                    let scaled = from_fn(|i| {
                        let scale = match (i as u32) < self.rows && self.p.row_scale != 0 {
                            true => {
                                let token = self.token + i as u32 * self.step;
                                global::load_f32(self.p.row_scale + token as u64 * 4)
                            }
                            false => 1.0,
                        };
                        values[i].map(|y| scale * y)
                    });
                    self.write_as::<Int8, N>(y, y_step, scaled);
                }
                _ => self.write_as::<Narrow<T>, N>(y, y_step, values),
            }
        }
    }

    /// The same in format F.
    ///
    /// # Safety
    /// As for [`Self::write`].
    #[inline(always)]
    unsafe fn write_as<F: Format, const N: usize>(
        &self,
        y: u64,
        y_step: u64,
        values: [[f32; N]; ROWS],
    ) {
        let valid = self.valid * N as u32 / WIDTH;
        for i in 0..ROWS {
            if (i as u32) < self.rows {
                // SAFETY: as the caller vouches.
                unsafe { F::store(y + i as u64 * y_step, values[i], valid, self.whole) };
            }
        }
    }

    /// Goes on to the rows after these.
    #[inline(always)]
    fn advance(&mut self) {
        let rows = ROWS as u32;
        self.token += rows * self.step;
        self.rows = self.rows.saturating_sub(rows);
        self.staged += rows * self.staged_step;
        self.c += rows as u64 * self.c_step;
    }
}

/// Applies the activation of this number.
#[inline(always)]
pub fn activate<const N: usize>(activation: u32, z: [Quad; N]) -> [Quad; N] {
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

/// `act(gate) * value` of the pairs of neighbours, in ROWS rows, 2 PAIRS.
#[inline(always)]
fn gate<const ROWS: usize, const PAIRS: usize>(
    activation: u32,
    z: [Quad; ROWS],
) -> [[f32; 2]; ROWS] {
    // Only the gates are activated, those of two rows at a time.
    let gates: [Quad; PAIRS] = from_fn(|i| from_fn(|j| z[2 * i + j / 2][j % 2 * 2]));
    let active = activate(activation, gates);
    from_fn(|i| from_fn(|j| active[i / 2][i % 2 * 2 + j] * z[i][2 * j + 1]))
}
