//! [`PackedWeight`]: a 2:4 W in device memory.

use crate::constants::Constants;
use crate::device::{Device, Launch, Memory};
use crate::error::{Result, invalid};
use crate::gemm::{MAX_EXTENT, param_bytes};
use crate::kernels::compress_entry;
use crate::matrix::{Matrix, Value};
use layout::packed24::Extents;
use layout::params::{ALIGNED_W, COMPRESS_WARPS, CompressParams, TILE_THREADS, TileParams};
use layout::tiled24;
use reference::{Element, MatRef, Packed};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// W `[n, k]`, 2:4 sparse along k, in the format of `layout::packed24`, in device memory.
///
/// Made once and used for any number of products: 0.5625 of the bytes of the dense f16 or bf16 W.
///
/// The Hopper kernels take it in another order (`layout::tiled24`): the first product that one of them computes makes a
/// copy, of the same size, which stays.
pub struct PackedWeight<T> {
    storage: Arc<Storage>,
    element: PhantomData<T>,
}

/// The memory of a [`PackedWeight`], whatever its elements.
pub(crate) struct Storage {
    device: Arc<dyn Device>,
    values: Arc<dyn Memory>,
    metadata: Arc<dyn Memory>,
    extents: Extents,
    n: usize,
    k: usize,
    /// The copy for the Hopper kernels, where there is one.
    tiles: Mutex<Option<Arc<dyn Memory>>>,
}

impl Storage {
    /// The copy in the order of `layout::tiled24`, made where there is none.
    ///
    /// # Errors
    /// Out of memory, or what the device says of the launch.
    pub(crate) fn tiles(&self) -> Result<Arc<dyn Memory>> {
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tiles) = &*tiles {
            return Ok(Arc::clone(tiles));
        }
        let blocks = self.tile_blocks() as u64;
        let memory = self.device.allocate(blocks * tiled24::BLOCK_BYTES as u64)?;
        self.fill(&*memory)?;
        Ok(Arc::clone(tiles.insert(memory)))
    }

    fn tile_blocks(&self) -> usize {
        tiled24::row_blocks(self.n as u32) as usize * tiled24::column_blocks(self.k as u32) as usize
    }

    /// Makes the copy anew, if there is one: values or metadata have changed.
    fn changed(&self) -> Result<()> {
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        tiles.as_ref().map_or(Ok(()), |tiles| self.fill(&**tiles))
    }

    fn fill(&self, tiles: &dyn Memory) -> Result<()> {
        let blocks = self.tile_blocks();
        let grid = u32::try_from(blocks)
            .ok()
            .filter(|&blocks| blocks <= i32::MAX as u32)
            .ok_or_else(|| invalid("blocks of W", blocks, "at most 2^31 - 1"))?;
        if grid == 0 {
            return Ok(());
        }
        let params = TileParams {
            values: self.values.address(),
            metadata: self.metadata.address(),
            tiles: tiles.address(),
            n: self.n as u32,
            k: self.k as u32,
        };
        let launch = Launch {
            entry: "tile24",
            grid,
            block: TILE_THREADS,
            cluster: 1,
            shared_bytes: 0,
            params: param_bytes(&params),
            constants: Constants::default(),
        };
        // SAFETY: values and metadata have the extents that the kernel reads, and the copy those that it writes; all
        // are freed only after queued work.
        unsafe { self.device.launch(&launch) }
    }
}

impl<T: Element + Value> PackedWeight<T> {
    /// Memory for a packed `n` x `k` matrix.
    pub(crate) fn allocate(device: &Arc<dyn Device>, n: usize, k: usize) -> Result<Self> {
        let limit = || format!("at most {MAX_EXTENT}");
        for (what, extent) in [("rows of W", n), ("columns of W", k)] {
            if extent > MAX_EXTENT {
                return Err(invalid(what, extent, limit()));
            }
        }
        let extents = Extents::new(n, k).ok_or(reference::Error::PackedExtent { n, k })?;
        let storage = Storage {
            device: Arc::clone(device),
            values: device.allocate(extents.values() as u64 * 2)?,
            metadata: device.allocate(extents.words() as u64 * 4)?,
            extents,
            n,
            k,
            tiles: Mutex::default(),
        };
        Ok(Self { storage: Arc::new(storage), element: PhantomData })
    }

    /// Prunes `w` to the two largest magnitudes of every four along K and packs them, on the device.
    ///
    /// # Errors
    /// An extent over 2^31 - 64, out of memory, or what the device says of the launch.
    pub fn prune_and_pack(w: &Matrix<T>) -> Result<Self> {
        let packed = Self::allocate(w.device(), w.rows(), w.cols())?;
        packed.compress(w)?;
        Ok(packed)
    }

    /// Prunes and packs another `w` of the same extents into this memory.
    ///
    /// # Errors
    /// Other extents, or what the device says of the launch.
    pub fn compress(&self, w: &Matrix<T>) -> Result<()> {
        if (w.rows(), w.cols()) != (self.storage.n, self.storage.k) {
            let value = format!("{} x {}", w.rows(), w.cols());
            return Err(invalid(
                "extent of W",
                value,
                format!("{} x {}", self.storage.n, self.storage.k),
            ));
        }
        let blocks = self.storage.extents.words() / layout::packed24::BLOCK_WORDS;
        if blocks == 0 {
            return Ok(());
        }
        let grid = blocks.div_ceil(COMPRESS_WARPS as usize);
        let grid = u32::try_from(grid)
            .map_err(|_| invalid("blocks of the compression", grid, "at most 2^32 - 1"))?;
        let params = CompressParams {
            w: w.address(),
            values: self.storage.values.address(),
            metadata: self.storage.metadata.address(),
            ldw: w.stride() as u64,
            n: self.storage.n as u32,
            k: self.storage.k as u32,
            aligned: if w.is_aligned() { ALIGNED_W } else { 0 },
            reserved: 0,
        };
        let launch = Launch {
            entry: compress_entry(T::DTYPE),
            grid,
            block: 32 * COMPRESS_WARPS,
            cluster: 1,
            shared_bytes: 0,
            params: param_bytes(&params),
            constants: Constants::default(),
        };
        // SAFETY: W is borrowed and its memory freed only after queued work; values and metadata have
        // the extents that the kernel writes.
        unsafe { self.storage.device.launch(&launch)? };
        self.storage.changed()
    }

    /// Packs `w`, which is already 2:4, on the host.
    ///
    /// # Errors
    /// The row and group of the first group with more than two non-zeros; out of memory.
    pub fn pack(device: &Arc<dyn Device>, w: MatRef<'_, T>) -> Result<Self> {
        Self::from_host(device, &Packed::pack(w)?)
    }

    /// A copy of a matrix packed on the host.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn from_host(device: &Arc<dyn Device>, packed: &Packed<T>) -> Result<Self> {
        let weight = Self::allocate(device, packed.n(), packed.k())?;
        weight.storage.values.upload(0, bytemuck::cast_slice(packed.values()))?;
        weight.storage.metadata.upload(0, bytemuck::cast_slice(packed.metadata()))?;
        Ok(weight)
    }

    /// A copy on the host, validated.
    ///
    /// # Errors
    /// What the device says, or metadata that is not legal.
    pub fn to_host(&self) -> Result<Packed<T>> {
        let mut values = vec![T::zeroed(); self.storage.extents.values()];
        let mut metadata = vec![0u32; self.storage.extents.words()];
        self.storage.values.download(0, bytemuck::cast_slice_mut(&mut values))?;
        self.storage.metadata.download(0, bytemuck::cast_slice_mut(&mut metadata))?;
        Ok(Packed::from_parts(self.storage.n, self.storage.k, values, metadata)?)
    }

    /// Rows of W: output features.
    pub fn n(&self) -> usize {
        self.storage.n
    }

    /// Columns of W: input features.
    pub fn k(&self) -> usize {
        self.storage.k
    }

    /// Device memory of values and metadata in bytes.
    pub fn bytes(&self) -> u64 {
        self.storage.values.bytes() + self.storage.metadata.bytes()
    }

    /// Overwrites the metadata words without looking at them: for tests of what happens to bad ones.
    ///
    /// # Errors
    /// More words than there are, or what the device says.
    #[doc(hidden)]
    pub fn write_metadata_unchecked(&self, words: &[u32]) -> Result<()> {
        self.storage.metadata.upload(0, bytemuck::cast_slice(words))?;
        self.storage.changed()
    }

    /// Fills values and metadata with ones: what they hold before a checked compression.
    ///
    /// # Errors
    /// What the device says.
    pub fn poison(&self) -> Result<()> {
        self.storage.values.fill(0xFF)?;
        self.storage.metadata.fill(0xFF)
    }

    pub(crate) fn device(&self) -> &Arc<dyn Device> {
        &self.storage.device
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    pub(crate) fn values(&self) -> &dyn Memory {
        &*self.storage.values
    }

    pub(crate) fn metadata(&self) -> &dyn Memory {
        &*self.storage.metadata
    }

    /// Elements from one row of values to the next.
    pub(crate) fn stride(&self) -> usize {
        self.storage.extents.k_padded / 2
    }
}
