//! The epilogue of all GEMMs: `act(alpha * acc + beta * C + bias)`, gated or not, converted and stored once.
//!
//! The accumulator layouts differ (the sparse kernel's tile is transposed), so each warp first writes its
//! part of the Y tile to shared memory as f32, rows = tokens, and then reads it back by rows. That lets this
//! file know nothing of fragments. A lane owns 4 neighbouring features, 16 bytes of the staged tile, so that
//! a row is read without bank conflicts and written in one piece, and finishes them in groups of several
//! rows, whose arithmetic hides each other's latency.
//!
//! Whole rows of 16-bit Y without C or gating, which most tiles are made of, have a loop of their own for
//! each activation ([`Lane::plain`]). The driver compiles all of this before the first launch of each kernel,
//! so what is rare is short rather than fast: features that do not fill a lane, or are not aligned, go
//! element by element through the lane's place in the staged tile, and so do the rows of int8.
//!
//! To add an activation, add it to `layout::activation`, `layout::approximation` and `layout::pair`, and to
//! [`with_activation`]. To add an output type, add it to `layout::params` and a format to [`row`](crate::row); to
//! add an operand, extend `GemmParams` and [`Lane`].

use crate::row::{Format, Int8, Narrow, Quad, WIDTH, Wide, load, load_f32, load_one};
use core::array::from_fn;
use cuda_std::convert::{Convert, Hardware, fma, to_i8};
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
        // SAFETY: as the caller vouches.
        unsafe { self.store_with::<T>(p, token0, feature0, self.bias::<T>(p, feature0)) }
    }

    /// Bias of the lane's features of the tile at feature `feature0`, for [`Self::store_with`]: loaded before
    /// the tile is staged, which hides the latency.
    ///
    /// # Safety
    /// `p` describes valid operands.
    #[inline(always)]
    pub unsafe fn bias<T: Convert>(&self, p: &GemmParams, feature0: u32) -> Quad {
        let (_, column) = Self::place();
        let feature = feature0 + column;
        if p.bias == 0 || !is_whole(p, feature) {
            return [NOTHING; WIDTH as usize];
        }
        // SAFETY: 4 aligned elements of bias start here.
        unsafe { load::<T>(p.bias + feature as u64 * Narrow::<T>::BYTES) }
    }

    /// The lane's first row of the tile and the first of its features.
    #[inline(always)]
    fn place() -> (u32, u32) {
        let per_row = const { FEATURES / WIDTH };
        // Anchored, also below: what depends on lane or parameters alone would otherwise be computed before
        // the kernel's tile loop and take registers from the main loop, which has none left.
        let lane = thread::anchored(thread::lane());
        (lane / per_row, lane % per_row * WIDTH)
    }

    /// [`Self::store`] with the bias that [`Self::bias`] has loaded.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(always)]
    pub unsafe fn store_with<T: Convert>(
        &self,
        p: &GemmParams,
        token0: u32,
        feature0: u32,
        bias: Quad,
    ) {
        warp::sync_warp();
        let rows = const {
            assert!(FEATURES % WIDTH == 0 && 32 % (FEATURES / WIDTH) == 0);
            assert!(TOKENS * FEATURES % (32 * WIDTH * 2) == 0);
            TOKENS * FEATURES / (32 * WIDTH)
        };
        // SAFETY: as the caller vouches.
        unsafe {
            if rows % 4 == 0 {
                self.finish::<T, 4, 2>(p, token0, feature0, bias, rows / 4);
            } else {
                self.finish::<T, 2, 1>(p, token0, feature0, bias, rows / 2);
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
        bias: Quad,
        groups: u32,
    ) {
        let step = const { 32 * WIDTH / FEATURES };
        let (first, column) = Self::place();
        let (token, feature) = (token0 + first, feature0 + column);
        if feature >= p.n {
            return;
        }
        let output = thread::anchored(p.output);
        let valid = (p.n - feature).min(WIDTH);
        let whole = is_whole(p, feature);
        let step_of = |ld: u64, bytes: u64| {
            let rows = thread::anchored(step) as u64;
            thread::anchored_u64(rows * ld * bytes)
        };
        let c_bytes = if output == F32 { Wide::BYTES } else { Narrow::<T>::BYTES };
        // Known anew at each use, or the compiler makes a loop of its own for either case.
        let gated = #[inline(always)]
        || thread::anchored(p.gated) != 0;
        let y_bytes = match output {
            F32 => Wide::BYTES,
            INT8 => Int8::BYTES,
            _ => Narrow::<T>::BYTES,
        };
        let column_of_y = if gated() { feature / 2 } else { feature };
        let mut lane = Lane::<ROWS> {
            p,
            output,
            token,
            feature,
            step,
            rows: p.m.saturating_sub(token).div_ceil(step).min(groups * ROWS as u32),
            valid,
            whole,
            alpha: p.alpha,
            bias,
            staged: self.at(first, column),
            staged_step: step * Self::PITCH * 4,
            has_c: p.c != 0,
            c: p.c + (token as u64 * p.ldc + feature as u64) * c_bytes,
            c_step: step_of(p.ldc, c_bytes),
            next_c: [[0.0; WIDTH as usize]; ROWS],
            y: p.y + (token as u64 * p.ldy + column_of_y as u64) * y_bytes,
            y_step: step_of(p.ldy, y_bytes),
        };
        // SAFETY: the lane's elements are staged, and C, Y and bias have them as far as `valid` and `rows`
        // say.
        unsafe {
            let short = output != F32 && output != INT8;
            let all_rows = lane.rows == groups * ROWS as u32;
            if whole && all_rows && short && !lane.has_c && !gated() {
                return with_activation(
                    p.activation,
                    #[inline(always)]
                    |activation| lane.plain::<T>(activation, groups),
                );
            }
            if whole {
                lane.load_c::<T>(0);
            } else {
                lane.settle::<T>();
            }
            for _ in 0..thread::opaque(groups) {
                let mut z = lane.sums();
                lane.load_c::<T>(ROWS as u32);
                if gated() {
                    z = gates_first::<ROWS, PAIRS>(z);
                }
                let y = with_activation(
                    p.activation,
                    #[inline(always)]
                    |activation| z.map(|z| activation.approximate::<Hardware>(z)),
                );
                if gated() {
                    let product = |row: usize, j: usize| {
                        let at = row % 2 * 2 + j;
                        y[row / 2][at] * z[PAIRS + row / 2][at]
                    };
                    lane.write::<T, 2>(from_fn(|row| from_fn(|j| product(row, j))));
                } else {
                    lane.write::<T, 4>(y);
                }
                lane.advance();
            }
        }
    }
}

const F32: u32 = Output::F32 as u32;
const INT8: u32 = Output::Int8 as u32;
const RELU: u32 = Activation::Relu as u32;
const GELU: u32 = Activation::Gelu as u32;
const GELU_TANH: u32 = Activation::GeluTanh as u32;
const SILU: u32 = Activation::Silu as u32;
/// What changes nothing by being added, not even the sign of a zero.
const NOTHING: f32 = -0.0;

/// Whether all features of a lane from `feature` on exist and may be accessed together.
#[inline(always)]
fn is_whole(p: &GemmParams, feature: u32) -> bool {
    feature + WIDTH <= p.n && thread::anchored(p.aligned) & ALIGNED_EPILOGUE != 0
}

/// A lane's features in the rows that it has yet to finish.
struct Lane<'a, const ROWS: usize> {
    p: &'a GemmParams,
    /// An [`Output`].
    output: u32,
    /// Token of the next row, and the first feature.
    token: u32,
    feature: u32,
    /// Tokens from one row of the lane to the next.
    step: u32,
    /// Rows that exist, of this tile.
    rows: u32,
    /// Features that exist.
    valid: u32,
    /// Whether all do and may be accessed together.
    whole: bool,
    alpha: f32,
    bias: Quad,
    /// Where the next row is staged, and bytes to the one after it.
    staged: u32,
    staged_step: u32,
    /// Whether C is added; the same in it.
    has_c: bool,
    c: u64,
    c_step: u64,
    /// C in the next rows.
    next_c: [Quad; ROWS],
    /// Where the next row is in Y, and bytes to the one after it.
    y: u64,
    y_step: u64,
}

impl<const ROWS: usize> Lane<'_, ROWS> {
    /// Where not all features exist or are aligned: replaces the staged elements of all rows by their sums,
    /// to which nothing is left to add.
    ///
    /// # Safety
    /// The rows are staged; C has them, and bias the features that exist.
    #[inline(always)]
    unsafe fn settle<T: Convert>(&mut self) {
        let p = self.p;
        for row in 0..thread::opaque(self.rows) {
            for e in 0..thread::opaque(self.valid) {
                let at = self.staged + row * self.staged_step + e * 4;
                let c = self.c + row as u64 * self.c_step;
                // SAFETY: as the caller vouches.
                unsafe {
                    let mut addend = NOTHING;
                    if p.bias != 0 {
                        let at = (self.feature + e) as u64;
                        addend = load_one::<T>(p.bias + at * Narrow::<T>::BYTES);
                    }
                    if self.has_c {
                        let c = match self.output {
                            F32 => global::load_f32(c + e as u64 * Wide::BYTES),
                            _ => load_one::<T>(c + e as u64 * Narrow::<T>::BYTES),
                        };
                        addend = fma(p.beta, c, addend);
                    }
                    let acc = f32::from_bits(shared::load_u32(at));
                    shared::store_f32(at, fma(p.alpha, acc, addend));
                }
            }
        }
        (self.alpha, self.has_c) = (1.0, false);
    }

    /// Finishes all rows of 16-bit Y, without C or gating: the loop has no condition.
    ///
    /// # Safety
    /// The rows, `groups` groups, exist and are staged; Y has them, aligned.
    #[inline(always)]
    unsafe fn plain<T: Convert>(&self, activation: Activation, groups: u32) {
        let (mut staged, mut y) = (self.staged, self.y);
        for _ in 0..thread::opaque(groups) {
            // SAFETY: as the caller vouches.
            unsafe {
                let z: [Quad; ROWS] = from_fn(|i| self.sum(staged, i as u32, self.bias));
                let finished = z.map(|z| activation.approximate::<Hardware>(z));
                for i in 0..ROWS {
                    Narrow::<T>::store(y + i as u64 * self.y_step, finished[i]);
                }
            }
            y += ROWS as u64 * self.y_step;
            staged += ROWS as u32 * self.staged_step;
        }
    }

    /// Loads C of the rows `ahead` of the next, where there is a C: before the arithmetic of those before
    /// them, which hides some of the latency.
    ///
    /// # Safety
    /// C has [`Self::rows`] more rows, aligned.
    #[inline(always)]
    unsafe fn load_c<T: Convert>(&mut self, ahead: u32) {
        if !self.has_c {
            return;
        }
        for i in 0..ROWS {
            let row = ahead + i as u32;
            if row < self.rows {
                let address = self.c + row as u64 * self.c_step;
                // SAFETY: as the caller vouches.
                self.next_c[i] = unsafe {
                    match self.output {
                        F32 => load_f32(address),
                        _ => load::<T>(address),
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
        let sum = |i: usize, addend: Quad| {
            // SAFETY: as the caller vouches.
            unsafe { self.sum(self.staged, i as u32, addend) }
        };
        // Two copies of it, so that without C nothing is moved.
        if self.has_c {
            let c = self.next_c;
            from_fn(|i| sum(i, from_fn(|j| fma(self.p.beta, c[i][j], self.bias[j]))))
        } else {
            from_fn(|i| sum(i, self.bias))
        }
    }

    /// `alpha * acc + addend` of row `i` of those staged from `staged` on.
    ///
    /// # Safety
    /// It is staged.
    #[inline(always)]
    unsafe fn sum(&self, staged: u32, i: u32, addend: Quad) -> Quad {
        // SAFETY: the address is that of 4 staged elements, 16-byte aligned since pitch and column are
        // multiples of 4.
        let acc = unsafe { shared::load_f32x4(staged + i * self.staged_step) };
        from_fn(|j| fma(self.alpha, acc[j], addend[j]))
    }

    /// Writes N values of each of the next rows.
    ///
    /// # Safety
    /// Y has the rows, whose staged elements are not needed any more.
    #[inline(always)]
    unsafe fn write<T: Convert, const N: usize>(&self, values: [[f32; N]; ROWS]) {
        // SAFETY: as the caller vouches.
        unsafe {
            if self.whole && self.output != INT8 {
                for i in 0..ROWS {
                    if (i as u32) < self.rows {
                        let y = self.y + i as u64 * self.y_step;
                        match self.output {
                            F32 => Wide::store(y, values[i]),
                            _ => Narrow::<T>::store(y, values[i]),
                        }
                    }
                }
                return;
            }
            for i in 0..ROWS {
                let at = self.staged + i as u32 * self.staged_step;
                shared::store_f32x2(at, values[i][0], values[i][1]);
                if N == 4 {
                    shared::store_f32x2(at + 8, values[i][N - 2], values[i][N - 1]);
                }
            }
            for i in 0..thread::opaque(self.rows.min(ROWS as u32)) {
                self.write_row::<T>(i, N as u32);
            }
        }
    }

    /// Writes row `i` of the next rows, `n` values, 4 or 2, from the place where it was staged.
    ///
    /// # Safety
    /// As for [`Self::write`]; the row exists, and its values are there.
    #[inline(always)]
    unsafe fn write_row<T: Convert>(&self, i: u32, n: u32) {
        let staged = self.staged + i * self.staged_step;
        let y = self.y + i as u64 * self.y_step;
        // SAFETY: as the caller vouches; a token below M has a row scale.
        unsafe {
            let scale = match self.output == INT8 && self.p.row_scale != 0 {
                true => {
                    let token = self.token + i * self.step;
                    global::load_f32(self.p.row_scale + token as u64 * 4)
                }
                false => 1.0,
            };
            let value = |e: u32| scale * f32::from_bits(shared::load_u32(staged + e * 4));
            if self.whole {
                let word = Int8::word(from_fn(|e| value(e as u32)));
                match n {
                    WIDTH => global::store_u32(y, word),
                    _ => global::store_u16(y, word as u16),
                }
                return;
            }
            for e in 0..thread::opaque(self.valid * n / WIDTH) {
                let (value, e) = (value(e), e as u64);
                match self.output {
                    F32 => Wide::store_one(y + e * Wide::BYTES, value),
                    INT8 => global::store_u8(y + e * Int8::BYTES, to_i8(value)),
                    _ => Narrow::<T>::store_one(y + e * Narrow::<T>::BYTES, value),
                }
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
        self.y += rows as u64 * self.y_step;
    }
}

/// The values of pairs of neighbours, of which the first gates the second, with all gates before all values.
#[inline(always)]
fn gates_first<const ROWS: usize, const PAIRS: usize>(z: [Quad; ROWS]) -> [Quad; ROWS] {
    let of = |pair: usize, second: usize| -> Quad {
        from_fn(|j| z[2 * pair + j / 2][j % 2 * 2 + second])
    };
    from_fn(|i| if i < PAIRS { of(i, 0) } else { of(i - PAIRS, 1) })
}

/// What `each` gives for the activation of this number, with code of its own for each activation.
#[inline(always)]
pub fn with_activation<R>(number: u32, each: impl Fn(Activation) -> R) -> R {
    // The same for every thread of the launch, so no warp diverges.
    match number {
        RELU => each(Activation::Relu),
        GELU => each(Activation::Gelu),
        GELU_TANH => each(Activation::GeluTanh),
        SILU => each(Activation::Silu),
        _ => each(Activation::None),
    }
}
