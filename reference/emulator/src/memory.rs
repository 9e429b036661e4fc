//! Global memory: buffers with real bounds, shared by all blocks of a launch.
//!
//! A buffer's bytes are relaxed atomic 64-bit words, so blocks on different threads may race on them as
//! they may on a GPU, without undefined behaviour here. A shadow bit per byte says whether anything
//! wrote it. Buffers are at least [`GUARD`] bytes apart: an index that runs off one lands in no other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Error;

/// Generic addresses of `.local` memory start here.
pub const LOCAL_WINDOW: u64 = 0x1000_0000_0000;
/// Generic addresses of `.shared` memory start here.
pub const SHARED_WINDOW: u64 = 0x2000_0000_0000;
/// Generic addresses of kernel parameters start here.
pub const PARAM_WINDOW: u64 = 0x3000_0000_0000;
/// Variables of modules (`.global`, `.const`) start here, 4 GiB per module.
pub const MODULE_WINDOW: u64 = 1 << 56;
/// Buffers of [`Memory::alloc`] start here.
pub const BUFFER_WINDOW: u64 = 0x7000_0000_0000;
/// Least distance between two buffers.
pub const GUARD: u64 = 1 << 20;
/// Size of a window.
pub const WINDOW: u64 = 1 << 32;

/// One allocation.
pub struct Buffer {
    /// Address of its first byte.
    pub base: u64,
    /// Size in bytes.
    pub len: usize,
    /// What the messages call it.
    pub name: String,
    /// Whether kernels may write it (`.const` variables they may not).
    pub writable: bool,
    words: Box<[AtomicU64]>,
    /// Bit i of byte w: byte i of word w holds a value.
    valid: Box<[AtomicU8]>,
}

impl Buffer {
    /// A buffer of poison.
    pub(crate) fn new(base: u64, len: usize, name: String, writable: bool) -> Self {
        let words = len.div_ceil(8);
        Self {
            base,
            len,
            name,
            writable,
            words: bytemuck::zeroed_slice_box(words),
            valid: bytemuck::zeroed_slice_box(words),
        }
    }

    /// Reads from offset `at`, which with `out` must be inside; returns which of the first 64 bytes
    /// are poison.
    pub fn read(&self, at: usize, out: &mut [u8]) -> u64 {
        let (mut done, mut poison) = (0, 0u64);
        while done < out.len() {
            let (index, skip) = ((at + done) / 8, (at + done) % 8);
            let take = (8 - skip).min(out.len() - done);
            let word = self.words[index].load(Relaxed).to_le_bytes();
            out[done..done + take].copy_from_slice(&word[skip..skip + take]);
            let invalid = (!self.valid[index].load(Relaxed) >> skip) & low_bits(take);
            if invalid != 0 && done < 64 {
                poison |= u64::from(invalid) << done;
            }
            done += take;
        }
        poison
    }

    /// Writes at offset `at`, which with `bytes` must be inside; bit i of `poison` makes byte i (of the
    /// first 64) poison.
    pub fn write(&self, at: usize, bytes: &[u8], poison: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, skip) = ((at + done) / 8, (at + done) % 8);
            let take = (8 - skip).min(bytes.len() - done);
            let mut word = [0; 8];
            word[skip..skip + take].copy_from_slice(&bytes[done..done + take]);
            let word = u64::from_le_bytes(word);
            if take == 8 {
                self.words[index].store(word, Relaxed);
            } else {
                let keep = !(((1u64 << (8 * take)) - 1) << (8 * skip));
                self.update(index, |old| old & keep | word);
            }
            let all = low_bits(take) << skip;
            let bad = if done < 64 { ((poison >> done) as u8 & low_bits(take)) << skip } else { 0 };
            if self.valid[index].load(Relaxed) & all != all & !bad {
                if bad == 0 {
                    self.valid[index].fetch_or(all, Relaxed);
                } else {
                    self.valid[index].fetch_and(!bad, Relaxed);
                    self.valid[index].fetch_or(all & !bad, Relaxed);
                }
            } else if bad != 0 {
                self.valid[index].fetch_and(!bad, Relaxed);
            }
            done += take;
        }
    }

    fn update(&self, index: usize, f: impl Fn(u64) -> u64) -> u64 {
        let word = &self.words[index];
        let mut old = word.load(Relaxed);
        loop {
            match word.compare_exchange_weak(old, f(old), Relaxed, Relaxed) {
                Ok(old) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// Atomically replaces the `bytes` (2, 4 or 8, aligned) at offset `at` by `f` of them; returns the
    /// old value and whether it was poison.
    pub fn atomic(&self, at: usize, bytes: usize, f: impl Fn(u64) -> u64) -> (u64, bool) {
        let (index, skip) = (at / 8, at % 8);
        let bytes = bytes.min(8 - skip);
        let mask = if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
        let old = self.update(index, |old| {
            let value = f(old >> (8 * skip) & mask) & mask;
            old & !(mask << (8 * skip)) | value << (8 * skip)
        });
        let all = low_bits(bytes) << skip;
        let poison = self.valid[index].fetch_or(all, Relaxed) & all != all;
        (old >> (8 * skip) & mask, poison)
    }
}

fn low_bits(count: usize) -> u8 {
    (0xffu16 >> (8 - count)) as u8
}

/// The global memory that launches work on.
#[derive(Default)]
pub struct Memory {
    buffers: RwLock<BTreeMap<u64, Arc<Buffer>>>,
    /// Bytes of the window handed out so far; addresses are never used twice.
    used: AtomicU64,
}

impl Memory {
    /// Empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    fn buffers(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Buffer>>> {
        self.buffers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates `len` bytes of poison; the address is a multiple of 256.
    pub fn alloc(&self, len: usize) -> u64 {
        let room = (len as u64 + GUARD).next_multiple_of(256);
        let base = BUFFER_WINDOW + self.used.fetch_add(room, Relaxed);
        let name = format!("buffer {base:#x}");
        let buffer = Arc::new(Buffer::new(base, len, name, true));
        self.buffers.write().unwrap_or_else(PoisonError::into_inner).insert(base, buffer);
        base
    }

    /// Allocates a buffer that holds `values`.
    pub fn upload<T: Plain>(&self, values: &[T]) -> u64 {
        let bytes = T::bytes_of(values);
        let base = self.alloc(bytes.len());
        if let Some(buffer) = self.buffers().get(&base) {
            buffer.write(0, &bytes, 0);
        }
        base
    }

    /// Frees a buffer; later accesses to it are out of bounds.
    pub fn free(&self, base: u64) {
        self.buffers.write().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }

    /// The buffer around an address and the address's offset in it.
    fn locate(&self, address: u64, len: usize) -> Result<(Arc<Buffer>, usize), Error> {
        let buffers = self.buffers();
        let outside = || Error::Address { address, len };
        let (base, buffer) = buffers.range(..=address).next_back().ok_or_else(outside)?;
        let at = (address - base) as usize;
        if at.checked_add(len).is_none_or(|end| end > buffer.len) {
            return Err(outside());
        }
        Ok((buffer.clone(), at))
    }

    /// Writes values from `address` on.
    pub fn write<T: Plain>(&self, address: u64, values: &[T]) -> Result<(), Error> {
        let bytes = T::bytes_of(values);
        let (buffer, at) = self.locate(address, bytes.len())?;
        buffer.write(at, &bytes, 0);
        Ok(())
    }

    /// Reads `count` values; bytes that nothing wrote read as 0 (see [`Self::poisoned`]).
    pub fn download<T: Plain>(&self, address: u64, count: usize) -> Result<Vec<T>, Error> {
        let len = count.saturating_mul(size_of::<T>());
        let (buffer, at) = self.locate(address, len)?;
        let mut bytes = vec![0; len];
        buffer.read(at, &mut bytes);
        Ok(T::from_bytes(&bytes))
    }

    /// How many of the `len` bytes from `address` on nothing has written.
    pub fn poisoned(&self, address: u64, len: usize) -> Result<usize, Error> {
        let (buffer, at) = self.locate(address, len)?;
        let mut byte = [0];
        Ok((at..at + len).filter(|&at| buffer.read(at, &mut byte) != 0).count())
    }

    /// Sets `len` bytes from `address` on to `byte`.
    pub fn fill(&self, address: u64, byte: u8, len: usize) -> Result<(), Error> {
        let (buffer, at) = self.locate(address, len)?;
        buffer.write(at, &vec![byte; len], 0);
        Ok(())
    }

    /// Puts a module's variable at its fixed address, once.
    pub(crate) fn place(&self, base: u64, make: impl FnOnce() -> Buffer) {
        let mut buffers = self.buffers.write().unwrap_or_else(PoisonError::into_inner);
        buffers.entry(base).or_insert_with(|| Arc::new(make()));
    }

    /// The buffers as they are now, by address: what a launch works with.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Buffer>> {
        self.buffers().values().cloned().collect()
    }
}

/// Element types that [`Memory`] moves in and out.
pub trait Plain: Copy {
    /// Little-endian bytes of the values.
    fn bytes_of(values: &[Self]) -> Vec<u8>;
    /// The values of little-endian bytes.
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! plain {
    ($($t:ty)*) => {$(
        impl Plain for $t {
            fn bytes_of(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                chunks.iter().map(|c| <$t>::from_le_bytes(*c)).collect()
            }
        }
    )*};
}
plain!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 half::f16 half::bf16);
