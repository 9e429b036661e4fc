//! What the library needs of a GPU.

use crate::constants::Constants;
use crate::error::Result;
use layout::descriptor::Swizzle;
use std::any::Any;
use std::sync::Arc;

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Marketing name.
    pub name: String,
    /// Compute capability: (9, 0) is sm_90.
    pub sm: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// L2 cache in bytes.
    pub l2_bytes: u64,
    /// Largest dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Newest CUDA version that the driver supports, and in parentheses, where the system tells, the
    /// driver's own version: `13.0 (580.159.04)`.
    pub driver: String,
}

/// Memory of a device. Freed when dropped, after the work queued before that.
pub trait Memory: Send + Sync + 'static {
    /// Where it starts, in the device's address space: a multiple of 256, or 0 where it is empty.
    fn address(&self) -> u64;
    /// Its size in bytes.
    fn bytes(&self) -> u64;
    /// Overwrites the bytes from `offset` on with `data`, after the work queued so far.
    ///
    /// # Errors
    /// A range outside the memory, or what the device says.
    fn upload(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Reads the bytes from `offset` on into `data`, after the work queued so far.
    ///
    /// # Errors
    /// A range outside the memory, or what the device says, including failures of that work.
    fn download(&self, offset: u64, data: &mut [u8]) -> Result<()>;
    /// Sets every byte, after the work queued so far.
    ///
    /// # Errors
    /// What the device says.
    fn fill(&self, byte: u8) -> Result<()>;
}

/// Element type of a [`TensorMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapElement {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// 32-bit words.
    U32,
}

/// A row-major matrix in device memory, and the box of it that one tensor copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Address of the first element, a multiple of 16.
    pub address: u64,
    /// Element type.
    pub element: MapElement,
    /// Elements of a row, 1 to 2^32.
    pub columns: u64,
    /// Rows, 1 to 2^32.
    pub rows: u64,
    /// Bytes from one row to the next: a multiple of 16 below 2^40.
    pub pitch: u64,
    /// Columns of the box, at most 256, and as wide as the swizzle at most.
    pub box_columns: u32,
    /// Rows of the box, at most 256.
    pub box_rows: u32,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// One kernel launch: a linear grid of linear blocks.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// Entry name in the PTX.
    pub entry: &'static str,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// The kernel's one parameter block.
    pub params: &'a [u8],
    /// What of it may be compiled into the kernel.
    pub constants: Constants,
}

/// A GPU, real or emulated, with one queue of work.
pub trait Device: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Allocates memory, whose content is undefined.
    ///
    /// # Errors
    /// Out of memory, with the sizes.
    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>>;

    /// At least `bytes` of memory for what launches need besides their operands, zero when first given.
    /// All launches of the queue use it one after the other, and each leaves its beginning, the
    /// counters, as it found it.
    ///
    /// # Errors
    /// Out of memory, with the sizes.
    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>>;

    /// Gets the kernel of `launch` ready. The launch does so itself; this is for doing it earlier.
    ///
    /// # Errors
    /// What the device says of the kernel's PTX.
    fn compile(&self, launch: &Launch<'_>) -> Result<()> {
        let _ = launch;
        Ok(())
    }

    /// Encodes a tensor map, for kernels of compute capability 9.0 and later.
    ///
    /// # Errors
    /// The value that no map can have, or what the driver says.
    fn tensor_map(&self, map: &TensorMap) -> Result<[u64; 16]>;

    /// Queues a kernel.
    ///
    /// # Errors
    /// What the device says of the launch or of the kernel's PTX. Failures while it runs surface in
    /// later calls.
    ///
    /// # Safety
    /// The kernel must be sound with these parameters: the memory they name is allocated until it has
    /// run, and it stays inside it.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Waits for the work queued so far.
    ///
    /// # Errors
    /// Failures of that work.
    fn synchronize(&self) -> Result<()>;

    /// Runs `item(0)`, `item(1)`, ... and gives the time of each on the device in microseconds,
    /// between the work before and after it in the queue.
    ///
    /// # Errors
    /// The first error of an item, or what the device says.
    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>>;

    /// The implementation, for callers that know which it is.
    fn as_any(&self) -> &dyn Any;
}
