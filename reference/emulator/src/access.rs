//! Checked access to memory: what [`Machine`] offers the load, store and copy instructions.
//!
//! Every access names its lane, address, alignment and bytes. Bounds, alignment, races, proxies and
//! poison are checked and reported here, so that no family forgets one.

use crate::finding::FindingKind;
use crate::machine::Machine;
use crate::memory::{Buffer, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use crate::shared::{Accessor, Conflict, Proxy, WARP};

/// Which kind of memory an address points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Address decides, by window.
    Generic,
    /// `.global` (and `.const`, whose variables are read-only buffers).
    Global,
    /// `.shared`, `.shared::cta` and `.shared::cluster`.
    Shared,
    /// `.local`.
    Local,
    /// `.param` of an entry.
    Param,
}

impl Machine<'_> {
    // --- shared memory ---

    /// Block (rank in the cluster) and offset of an address in the shared window. A `.shared::cta`
    /// address is an offset in the own block's memory; `mapa` makes `(rank + 1) << 24 | offset`.
    #[inline(always)]
    pub fn shared_target(&self, address: u64) -> (usize, usize) {
        let rank = (address >> 24) as usize;
        let block = if rank == 0 { self.warp.block } else { rank - 1 };
        (block, (address & 0xff_ffff) as usize)
    }

    /// Checks alignment and bounds of a shared access; reports and returns `None` if it must not be
    /// carried out. `align` is a power of two.
    #[inline(always)]
    pub fn shared_range(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        len: usize,
    ) -> Option<(usize, usize)> {
        let (block, at) = self.shared_target(address);
        let size = self.unit.blocks.get(block).map_or(0, |b| b.shared.len());
        let ended = block != self.warp.block && size > 0 && self.unit.blocks[block].warps == 0;
        if at + len <= size && at & (align - 1) == 0 && !ended {
            return Some((block, at));
        }
        self.bad_shared(lane, address, align, len, size)
    }

    #[cold]
    fn bad_shared(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        len: usize,
        size: usize,
    ) -> Option<(usize, usize)> {
        let (block, at) = self.shared_target(address);
        if at + len > size {
            self.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                format!("{len} bytes at shared address {address:#x}, the block has {size} bytes")
            });
            return None;
        }
        if at & (align - 1) == 0 {
            self.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                format!("shared address {address:#x} of cluster rank {block}, which has ended")
            });
            return None;
        }
        self.report(FindingKind::Misaligned, Some(lane as u32), || {
            format!("shared address {address:#x} is not a multiple of {align}")
        });
        Some((block, at))
    }

    /// Reads shared memory with all checks; returns which of the first 64 bytes are poison. After an
    /// out-of-bounds finding all of them are.
    #[inline]
    pub fn read_shared(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        out: &mut [u8],
        proxy: Proxy,
    ) -> u64 {
        let Some((block, at)) = self.shared_range(lane, address, align, out.len()) else {
            out.fill(0);
            return u64::MAX;
        };
        let who = Accessor {
            warp: self.warp.index,
            clock: &self.warp.clock,
            proxy,
            lane: if self.collective { WARP } else { lane as u8 },
        };
        let (poison, conflict) = self.unit.blocks[block].shared.read(at, out, who);
        if let Some(conflict) = conflict {
            self.conflict(conflict, lane, address, "read");
        }
        self.unit.tally.totals.bytes.shared_read += out.len() as u64;
        poison
    }

    /// Writes shared memory with all checks; bit i of `poison` says that byte i is poison.
    #[inline]
    pub fn write_shared(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        bytes: &[u8],
        poison: u64,
        proxy: Proxy,
    ) {
        let Some((block, at)) = self.shared_range(lane, address, align, bytes.len()) else {
            return;
        };
        let who = Accessor {
            warp: self.warp.index,
            clock: &self.warp.clock,
            proxy,
            lane: if self.collective { WARP } else { lane as u8 },
        };
        if let Some(conflict) = self.unit.blocks[block].shared.write(at, bytes, poison, who) {
            self.conflict(conflict, lane, address, "write");
        }
        self.unit.tally.totals.bytes.shared_written += bytes.len() as u64;
    }

    /// Reports what a shared access ran into.
    #[cold]
    pub fn conflict(&mut self, conflict: Conflict, lane: usize, address: u64, what: &str) {
        let name = |warp: usize| {
            let per_block = self.unit.warps / self.unit.blocks.len();
            match self.unit.blocks.len() {
                1 => format!("warp {warp}"),
                _ => format!("warp {} of cluster rank {}", warp % per_block, warp / per_block),
            }
        };
        let (kind, message) = match conflict {
            Conflict::Write(by) => {
                (FindingKind::Race, format!("unordered after a write by {}", name(by.warp.into())))
            }
            Conflict::Read(by) => {
                (FindingKind::Race, format!("unordered after a read by {}", name(by)))
            }
            Conflict::LaneWrite(by) => (
                FindingKind::Race,
                match by {
                    WARP => "after a write by its own warp, no bar.warp.sync between".into(),
                    _ => {
                        format!("after a write by lane {by} of its warp, no bar.warp.sync between")
                    }
                },
            ),
            Conflict::LaneRead => (
                FindingKind::Race,
                "after a read by another lane of its warp, no bar.warp.sync between".into(),
            ),
            Conflict::InFlight(by) => (
                FindingKind::Race,
                format!("while an asynchronous copy of {} is under way", name(by.warp.into())),
            ),
            Conflict::StillRead(by) => {
                (FindingKind::Race, format!("that a bulk copy of {} has still to read", name(by)))
            }
            Conflict::Proxy(by) => (
                FindingKind::Proxy,
                format!("of what {} wrote, no fence.proxy.async between", name(by.warp.into())),
            ),
        };
        self.report(kind, Some(lane as u32), || {
            format!("{what} of shared address {address:#x} {message}")
        });
    }

    /// Counts bank conflicts of one warp-wide shared access of `bytes` per active lane.
    pub fn count_shared(&mut self, addresses: &[u64; 32], lanes: u32, bytes: usize) {
        let (ideal, actual) = crate::counters::wavefronts(addresses, lanes, bytes);
        let site = &mut self.unit.tally.shared_sites[self.pc as usize];
        site.requests += 1;
        site.ideal += ideal;
        site.wavefronts += actual;
    }

    // --- global memory ---

    /// The buffer and offset of a global access; reports and returns `None` if it is not wholly inside
    /// one buffer. A misaligned access is reported and carried out.
    #[inline(always)]
    pub fn global_range(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        len: usize,
    ) -> Option<(usize, usize)> {
        let buffer = self.find_buffer(lane, address, len)?;
        if address & (align as u64 - 1) != 0 {
            self.report(FindingKind::Misaligned, Some(lane as u32), || {
                format!("global address {address:#x} is not a multiple of {align}")
            });
        }
        Some((buffer, (address - self.unit.buffers[buffer].base) as usize))
    }

    #[inline(always)]
    fn find_buffer(&mut self, lane: usize, address: u64, len: usize) -> Option<usize> {
        let inside = |buffer: &Buffer| {
            address >= buffer.base
                && len <= buffer.len
                && address - buffer.base <= (buffer.len - len) as u64
        };
        let buffers = &self.unit.buffers;
        if buffers.get(self.unit.last_buffer).is_some_and(|b| inside(b)) {
            return Some(self.unit.last_buffer);
        }
        let after = buffers.partition_point(|buffer| buffer.base <= address);
        if after > 0 && inside(&buffers[after - 1]) {
            self.unit.last_buffer = after - 1;
            return Some(after - 1);
        }
        self.bad_global(lane, address, len, after);
        None
    }

    #[cold]
    fn bad_global(&mut self, lane: usize, address: u64, len: usize, after: usize) {
        let before = after.checked_sub(1).map(|i| self.unit.buffers[i].clone());
        let next = self.unit.buffers.get(after).cloned();
        self.report(FindingKind::OutOfBounds, Some(lane as u32), || match (before, next) {
            (Some(b), _) if address - b.base < b.len as u64 + (1 << 32) => format!(
                "{len} bytes at {address:#x}, offset {} of {}, which has {} bytes",
                address - b.base,
                b.name,
                b.len
            ),
            (_, Some(b)) if b.base - address < 1 << 32 => {
                format!("{len} bytes at {address:#x}, {} before {}", b.base - address, b.name)
            }
            _ => format!("{len} bytes at {address:#x}, far from every buffer"),
        });
    }

    /// Reads global memory with all checks; returns which of the first 64 bytes are poison.
    #[inline]
    pub fn read_global(&mut self, lane: usize, address: u64, align: usize, out: &mut [u8]) -> u64 {
        let Some((buffer, at)) = self.global_range(lane, address, align, out.len()) else {
            out.fill(0);
            return u64::MAX;
        };
        self.unit.tally.totals.bytes.global_read += out.len() as u64;
        self.unit.buffers[buffer].read(at, out)
    }

    /// Writes global memory with all checks; poison is a finding.
    #[inline]
    pub fn write_global(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        bytes: &[u8],
        poison: u64,
    ) {
        let Some((buffer, at)) = self.global_range(lane, address, align, bytes.len()) else {
            return;
        };
        if poison != 0 {
            self.report(FindingKind::Poison, Some(lane as u32), || {
                format!("a value that nothing initialised is stored at {address:#x}")
            });
        }
        if !self.unit.buffers[buffer].writable {
            let name = self.unit.buffers[buffer].name.clone();
            self.report(FindingKind::ReadOnly, Some(lane as u32), || format!("store to {name}"));
            return;
        }
        self.unit.tally.totals.bytes.global_written += bytes.len() as u64;
        self.unit.buffers[buffer].write(at, bytes, poison);
    }

    /// Counts the sectors of one warp-wide global access of `bytes` per active lane.
    pub fn count_global(&mut self, addresses: &[u64; 32], lanes: u32, bytes: usize) {
        let site = &mut self.unit.tally.global_sites[self.pc as usize];
        site.requests += 1;
        site.sectors += crate::counters::sectors(addresses, lanes, bytes);
        site.bytes += u64::from(lanes.count_ones()) * bytes as u64;
    }

    // --- other spaces ---

    /// Space and address in that space of a generic address.
    #[inline]
    pub fn resolve(&self, address: u64) -> (Space, u64) {
        for (window, space) in [
            (SHARED_WINDOW, Space::Shared),
            (LOCAL_WINDOW, Space::Local),
            (PARAM_WINDOW, Space::Param),
        ] {
            if (window..window + WINDOW).contains(&address) {
                return (space, address - window);
            }
        }
        (Space::Global, address)
    }

    /// Reads the lane's local memory.
    pub fn read_local(&mut self, lane: usize, address: u64, align: usize, out: &mut [u8]) -> u64 {
        let Some(at) = self.local_range(lane, address, align, out.len()) else {
            out.fill(0);
            return u64::MAX;
        };
        out.copy_from_slice(&self.warp.local[at..at + out.len()]);
        self.unit.tally.totals.bytes.local += out.len() as u64;
        let shadow = &self.warp.local_poison[at..at + out.len()];
        shadow.iter().take(64).enumerate().fold(0, |mask, (i, &p)| mask | u64::from(p) << i)
    }

    /// Writes the lane's local memory.
    pub fn write_local(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        bytes: &[u8],
        poison: u64,
    ) {
        let Some(at) = self.local_range(lane, address, align, bytes.len()) else { return };
        self.warp.local[at..at + bytes.len()].copy_from_slice(bytes);
        for (i, p) in self.warp.local_poison[at..at + bytes.len()].iter_mut().enumerate() {
            *p = (poison >> i.min(63) & 1) as u8;
        }
        self.unit.tally.totals.bytes.local += bytes.len() as u64;
    }

    fn local_range(
        &mut self,
        lane: usize,
        address: u64,
        align: usize,
        len: usize,
    ) -> Option<usize> {
        let size = self.context.program.local_bytes;
        if address.checked_add(len as u64).is_none_or(|end| end > size as u64) {
            self.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                format!("{len} bytes at local address {address:#x}, the thread has {size} bytes")
            });
            return None;
        }
        if address & (align as u64 - 1) != 0 {
            self.report(FindingKind::Misaligned, Some(lane as u32), || {
                format!("local address {address:#x} is not a multiple of {align}")
            });
        }
        Some(lane * size + address as usize)
    }

    /// Reads kernel parameters.
    pub fn read_param(&mut self, lane: usize, address: u64, out: &mut [u8]) -> u64 {
        let params = self.context.params;
        let at = usize::try_from(address).unwrap_or(usize::MAX);
        match at.checked_add(out.len()).and_then(|end| params.get(at..end)) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                0
            }
            None => {
                let size = params.len();
                self.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                    format!("{} bytes at parameter offset {address}, there are {size}", out.len())
                });
                u64::MAX
            }
        }
    }

    /// Reads from any space with all checks.
    #[inline]
    pub fn read(
        &mut self,
        space: Space,
        lane: usize,
        address: u64,
        align: usize,
        out: &mut [u8],
    ) -> u64 {
        match space {
            Space::Generic => {
                let (space, address) = self.resolve(address);
                self.read(space, lane, address, align, out)
            }
            Space::Global => self.read_global(lane, address, align, out),
            Space::Shared => self.read_shared(lane, address, align, out, Proxy::Generic),
            Space::Local => self.read_local(lane, address, align, out),
            Space::Param => self.read_param(lane, address, out),
        }
    }

    /// Writes to any space with all checks.
    #[inline]
    pub fn write(
        &mut self,
        space: Space,
        lane: usize,
        address: u64,
        align: usize,
        bytes: &[u8],
        poison: u64,
    ) {
        match space {
            Space::Generic => {
                let (space, address) = self.resolve(address);
                self.write(space, lane, address, align, bytes, poison);
            }
            Space::Global => self.write_global(lane, address, align, bytes, poison),
            Space::Shared => {
                self.write_shared(lane, address, align, bytes, poison, Proxy::Generic);
            }
            Space::Local => self.write_local(lane, address, align, bytes, poison),
            Space::Param => self.report(FindingKind::ReadOnly, Some(lane as u32), || {
                "store to a kernel parameter".into()
            }),
        }
    }
}
