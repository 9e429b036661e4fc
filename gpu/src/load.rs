//! Tiles of an operand, from global to shared memory.
//!
//! A tile is ROWS rows of BK elements, K contiguous. Thread t copies chunk t % CHUNKS (16 bytes) of
//! rows t / CHUNKS, + STEP, + 2 STEP, ...: neighbours read neighbouring chunks, so a warp's request is
//! made of whole rows of the tile. Rows past the matrix and K past its end become zeros.

use cuda_std::{cp_async, global, shared};
use layout::swizzle;

/// One thread's share of the copies of an operand's tiles, in a block of `THREADS` threads.
///
/// `PADDING` 0 stores swizzled rows (`layout::swizzle`), otherwise rows with that many bytes added.
pub struct TileLoader<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32> {
    /// Global address of the thread's first chunk at k = 0.
    source: u64,
    /// Elements from one row of the matrix to the next.
    ld: u64,
    /// Offset of the first chunk in the tile.
    destination: u32,
    /// How many of the thread's rows exist.
    rows: u32,
    /// Elements of a row from the thread's chunk to the end of K; negative where it starts past it.
    left: i32,
    aligned: bool,
    /// Whether all rows of the tile exist and are aligned.
    whole: bool,
    k: u32,
}

impl<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32>
    TileLoader<ROWS, BK, THREADS, PADDING>
{
    const CHUNKS: u32 = BK / 8;
    /// Rows the block copies at a time. A multiple of 8 keeps a thread's swizzle constant.
    const STEP: u32 = {
        let step = THREADS / Self::CHUNKS;
        assert!(THREADS % Self::CHUNKS == 0 && step % 8 == 0 && ROWS % step == 0);
        step
    };
    const COPIES: u32 = ROWS / Self::STEP;
    /// Bytes from one row of the tile to the next in shared memory.
    pub const PITCH: u32 = BK * 2 + PADDING;
    /// Bytes of a tile.
    pub const BYTES: u32 = ROWS * Self::PITCH;

    /// A loader for the tiles that start at row `first` of a matrix of `rows` rows and `k` columns
    /// (both below 2^31) at `matrix`, `ld` elements a row. `aligned`: address and stride are multiples of 16 bytes.
    #[inline(always)]
    pub fn new(matrix: u64, ld: u64, first: u32, rows: u32, k: u32, aligned: bool) -> Self {
        let t = cuda_std::thread::thread_idx_x();
        let (row, chunk) = (t / Self::CHUNKS, t % Self::CHUNKS);
        let past = rows.saturating_sub(first).saturating_sub(row);
        let destination = if PADDING == 0 {
            swizzle::offset(row, chunk, Self::CHUNKS)
        } else {
            row * Self::PITCH + chunk * swizzle::CHUNK_BYTES
        };
        Self {
            source: matrix + ((first + row) as u64 * ld + (chunk * 8) as u64) * 2,
            ld,
            destination,
            rows: past.div_ceil(Self::STEP),
            left: k as i32 - (chunk * 8) as i32,
            aligned,
            whole: aligned && first.saturating_add(ROWS) <= rows,
            k,
        }
    }

    /// Starts the thread's copies of the tile at column `k` into the tile at shared address `tile`.
    ///
    /// # Safety
    /// `tile` has `Self::BYTES` bytes of shared memory that no thread reads before the copies have
    /// been waited for; the matrix given to [`Self::new`] is readable.
    #[inline(always)]
    pub unsafe fn copy(&self, tile: u32, k: u32) {
        let step = Self::STEP as u64 * self.ld * 2;
        let mut source = self.source + k as u64 * 2;
        let destination = tile + self.destination;
        // Nearly all tiles are whole. Without this case, edge arithmetic cost the large sparse kernel 10%
        // and the dense one 5% (docs/tuning.md).
        if self.whole && k + BK <= self.k {
            for i in 0..Self::COPIES {
                // SAFETY: the chunk lies inside the matrix; the caller vouches for the tile.
                unsafe { cp_async::copy_16(destination + i * Self::STEP * Self::PITCH, source) };
                source += step;
            }
            return;
        }
        let left = (self.left - k as i32).clamp(0, 8) as u32;
        if self.aligned {
            for i in 0..Self::COPIES {
                let valid = if i < self.rows { left * 2 } else { 0 };
                // SAFETY: `valid` bytes lie inside the matrix; the caller vouches for the tile.
                unsafe {
                    let row = destination + i * Self::STEP * Self::PITCH;
                    cp_async::copy_16_zfill(row, source, valid);
                }
                source += step;
            }
        } else {
            for i in 0..cuda_std::thread::opaque(Self::COPIES) {
                let row = destination + i * Self::STEP * Self::PITCH;
                let valid = if i < self.rows { left } else { 0 };
                for e in 0..cuda_std::thread::opaque(8) {
                    // SAFETY: element e < valid lies inside the matrix; the caller vouches for the
                    // tile.
                    unsafe {
                        let value =
                            if e < valid { global::load_u16(source + e as u64 * 2) } else { 0 };
                        shared::store_u16(row + e * 2, value);
                    }
                }
                source += step;
            }
        }
    }
}
