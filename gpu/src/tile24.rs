//! `tile24`: brings Packed24 into the order of `layout::tiled24`, for the Hopper kernels. A block of threads moves
//! one block of W, 16 bytes a thread at a time.

use cuda_std::{global, kernel, thread};
use layout::packed24::{BLOCK_COLS, BLOCK_ROWS};
use layout::params::{TILE_THREADS, TileParams};
use layout::swizzle::CHUNK_BYTES;
use layout::tiled24;

/// Moves block `blockIdx.x`; blocks are numbered as they follow each other.
///
/// # Safety
/// `p` describes valid operands; a block has [`TILE_THREADS`] threads.
#[kernel(launch_bounds(TILE_THREADS))]
pub unsafe fn tile24(p: TileParams) {
    let column_blocks = tiled24::column_blocks(p.k);
    let block = thread::block_idx_x();
    let (row_block, column_block) = (block / column_blocks, block % column_blocks);
    let (n_padded, words) =
        (p.n.next_multiple_of(BLOCK_ROWS as u32), p.k.div_ceil(BLOCK_COLS as u32));
    let to = p.tiles + tiled24::block(row_block, column_block, column_blocks);
    let inside = column_block < words;
    let mut chunk = thread::thread_idx_x();
    while chunk < tiled24::BLOCK_BYTES / CHUNK_BYTES {
        let values = tiled24::VALUE_BYTES / CHUNK_BYTES;
        let (from, to, padding, inside) = if chunk < values {
            let (row, part) = (chunk / tiled24::CHUNKS, chunk % tiled24::CHUNKS);
            let n = row_block * tiled24::ROWS + row;
            let pitch = words as u64 * (tiled24::CHUNKS * CHUNK_BYTES) as u64;
            let column = (column_block * tiled24::CHUNKS + part) * CHUNK_BYTES;
            let from = p.values + n as u64 * pitch + column as u64;
            (from, to + tiled24::values(row, part) as u64, 0, inside && n < n_padded)
        } else {
            let (sixteen, part) = ((chunk - values) / 8, (chunk - values) % 8 * CHUNK_BYTES);
            let rows = row_block * (tiled24::ROWS / BLOCK_ROWS as u32) + sixteen;
            let index = rows as u64 * words as u64 + column_block as u64;
            let from = p.metadata + index * tiled24::METADATA_BYTES as u64 + part as u64;
            let inside = inside && rows * (BLOCK_ROWS as u32) < n_padded;
            (from, to + (tiled24::metadata(sixteen) + part) as u64, tiled24::PADDING, inside)
        };
        // SAFETY: as the caller vouches; inside, values and metadata have the chunk.
        unsafe {
            let data = if inside { global::load_v4(from) } else { [padding; 4] };
            global::store_v4(to, data);
        }
        chunk += TILE_THREADS;
    }
}
