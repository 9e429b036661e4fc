//! Tiles of an operand, from global to shared memory.
//!
//! A tile is ROWS rows of BK elements, K contiguous. Thread t copies chunk t % CHUNKS (16 bytes) of
//! rows t / CHUNKS, + STEP, + 2 STEP, ...: neighbours read neighbouring chunks, so a warp's request is
//! made of whole rows of the tile.
//!
//! Rows past the matrix are copies of its last row: what is computed from them is not stored, and
//! an address costs less than a row of zeros. K past its end must count as zero, and is copied
//! separately ([`TileLoader::copy_any`]), so that the main loop has no such case.

use core::array::from_fn;
use cuda_std::{cp_async, global, shared, thread};
use layout::swizzle;

/// Most chunks of a tile that one thread copies.
const MOST_COPIES: usize = 32;

/// One thread's share of the copies of an operand's tiles, in a block of `THREADS` threads.
///
/// `PADDING` 0 stores swizzled rows (`layout::swizzle`), otherwise rows with that many bytes added.
pub struct TileLoader<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32> {
    /// Global address of the thread's chunk in row 0 at k = 0.
    source: u64,
    /// Bytes from one row of the matrix to the next.
    pitch: u32,
    /// The thread's first row of the matrix.
    row: u32,
    /// Last row of the matrix.
    last: u32,
    /// Offset of the first chunk in the tile.
    destination: u32,
    /// Elements of a row from the thread's chunk to the end of K; negative where it starts past it.
    left: i32,
    aligned: bool,
}

impl<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32>
    TileLoader<ROWS, BK, THREADS, PADDING>
{
    const CHUNKS: u32 = BK / 8;
    /// Rows the block copies at a time. A multiple of 8 keeps a thread's swizzle constant.
    const STEP: u32 = {
        let step = THREADS / Self::CHUNKS;
        assert!(THREADS % Self::CHUNKS == 0 && step % 8 == 0 && ROWS % step == 0);
        assert!(ROWS / step <= MOST_COPIES as u32);
        step
    };
    const COPIES: u32 = ROWS / Self::STEP;
    /// Bytes from one row of the tile to the next in shared memory.
    pub const PITCH: u32 = BK * 2 + PADDING;
    /// Bytes of a tile.
    pub const BYTES: u32 = ROWS * Self::PITCH;

    /// A loader for the tiles that start at row `first` of a matrix of `rows` > 0 rows and `k` columns
    /// (both below 2^31) at `matrix`, `ld` < 2^31 elements a row. `aligned`: address and stride are
    /// multiples of 16 bytes.
    #[inline(always)]
    pub fn new(matrix: u64, ld: u64, first: u32, rows: u32, k: u32, aligned: bool) -> Self {
        // Anchored, so that what only some K-blocks need takes no registers from the loop over the others.
        let t = thread::thread_idx_x();
        let (row, chunk) = (t / Self::CHUNKS, t % Self::CHUNKS);
        let destination = if PADDING == 0 {
            swizzle::offset(row, chunk, Self::CHUNKS)
        } else {
            row * Self::PITCH + chunk * swizzle::CHUNK_BYTES
        };
        Self {
            source: matrix + (chunk * 16) as u64,
            pitch: ld as u32 * 2,
            row: first + row,
            last: rows - 1,
            destination,
            left: k as i32 - (chunk * 8) as i32,
            aligned,
        }
    }

    /// Address of copy `i` at column `k`.
    #[inline(always)]
    fn chunk(&self, i: u32, k: u32) -> u64 {
        let row = (self.row + i * Self::STEP).min(self.last);
        self.source + k as u64 * 2 + row as u64 * self.pitch as u64
    }

    /// The addresses of the thread's chunks of the tile at column `k`, which need not exist, and of their
    /// places in the slot of shared memory that has the tile at `tile`.
    #[inline(always)]
    pub fn pointers(&self, k: u32, tile: u32) -> Pointers<ROWS, BK, THREADS, PADDING> {
        let chunk = |i| if i < Self::COPIES { self.chunk(i, k) } else { 0 };
        Pointers { chunks: from_fn(|i| chunk(i as u32)), destination: tile + self.destination }
    }

    /// Copies the thread's share of any tile, the end of K included.
    ///
    /// # Safety
    /// `tile` has `Self::BYTES` bytes of shared memory that no thread reads before the copies have
    /// been waited for; the matrix given to [`Self::new`] is readable.
    #[inline(always)]
    pub unsafe fn copy_any(&self, tile: u32, k: u32) {
        let left = (self.left - k as i32).clamp(0, 8) as u32;
        for i in 0..thread::opaque(Self::COPIES) {
            let row = tile + self.destination + i * Self::STEP * Self::PITCH;
            // Nothing is read where nothing is left, but the address must be one of the matrix.
            let source = self.chunk(i, if left == 0 { 0 } else { k });
            // SAFETY: `left` elements lie inside the matrix; the caller vouches for the tile.
            unsafe {
                if self.aligned {
                    cp_async::copy_16_zfill(row, source, left * 2);
                } else {
                    for e in 0..thread::opaque(8) {
                        let value =
                            if e < left { global::load_u16(source + e as u64 * 2) } else { 0 };
                        shared::store_u16(row + e * 2, value);
                    }
                }
            }
        }
    }
}

/// Where the thread's chunks of an aligned operand are: kept in registers from tile to tile, so that a
/// copy computes no address.
pub struct Pointers<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32> {
    chunks: [u64; MOST_COPIES],
    destination: u32,
}

impl<const ROWS: u32, const BK: u32, const THREADS: u32, const PADDING: u32>
    Pointers<ROWS, BK, THREADS, PADDING>
{
    /// Starts part `part` of `parts` of the thread's copies of the tile that is `turn` tiles along K from
    /// here, `offset` bytes from the place given to [`TileLoader::pointers`].
    ///
    /// # Safety
    /// As for [`TileLoader::copy_any`]; the operand is aligned and has the tile's columns.
    #[inline(always)]
    pub unsafe fn copy_part(&self, turn: u32, offset: u32, (part, parts): (u32, u32)) {
        let step = THREADS / (BK / 8);
        let copies = ROWS / step;
        for i in part * copies / parts..(part + 1) * copies / parts {
            let source = self.chunks[i as usize] + (turn * BK * 2) as u64;
            let destination = self.destination + offset + i * step * (BK * 2 + PADDING);
            // SAFETY: the chunk lies inside the matrix; the caller vouches for the tile.
            unsafe { cp_async::copy_16(destination, source) };
        }
    }

    /// Moves by `tiles` tiles along K.
    #[inline(always)]
    pub fn advance(&mut self, tiles: u32) {
        self.chunks = self.chunks.map(|chunk| chunk + (tiles * BK * 2) as u64);
    }
}
