//! Shared memory of a block: bytes, poison, and who touched what when.

use crate::clock::Clock;
use std::ops::Range;

/// Which path to memory an access takes (PTX ISA, "Proxies").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Ordinary loads, stores, atomics, ldmatrix, cp.async.
    Generic,
    /// cp.async.bulk, wgmma operands in shared memory.
    Async,
    /// The generic proxy, by an atomic, volatile, release or acquire access: never itself a race.
    Strong,
}

/// The warp on whose behalf an access happens.
#[derive(Clone, Copy)]
pub struct Accessor<'a> {
    /// Index of the warp in its unit.
    pub warp: usize,
    /// Its clock.
    pub clock: &'a Clock,
    /// The path taken.
    pub proxy: Proxy,
    /// The lane, [`WARP`] or [`NO_LANE`].
    pub lane: u8,
}

/// Not a lane: an asynchronous unit touches the bytes.
pub const NO_LANE: u8 = 0xff;
/// All lanes together, by a `.sync.aligned` instruction: what it reads goes to other lanes than those
/// that wrote it, and has arrived before any lane goes on.
pub const WARP: u8 = 0xfd;
/// Several lanes have read.
const LANES: u8 = 0xfe;
/// Epochs of reads have 24 bits; races after more releases of one warp go unnoticed.
const LAST_EPOCH: u32 = 0xff_ffff;

/// What an access ran into. The first conflict of the access is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A write of another warp that nothing orders before this access.
    Write(Stamp),
    /// A read of another warp (its index) that nothing orders before this write.
    Read(usize),
    /// A write by another lane of the same warp, no `bar.warp.sync` or barrier since.
    LaneWrite(u8),
    /// A read by another lane of the same warp, no `bar.warp.sync` or barrier since.
    LaneRead,
    /// Another warp's asynchronous copy into these bytes is under way.
    InFlight(Stamp),
    /// A bulk copy out of shared memory, issued by the warp with this index, has still to read these bytes.
    StillRead(usize),
    /// The bytes were written through the other proxy, with no proxy fence since.
    Proxy(Stamp),
}

/// Last writer of a granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Epoch of the writer; 0 is nobody, `u32::MAX` an asynchronous copy under way.
    pub epoch: u32,
    /// Index of the writing warp in its unit.
    pub warp: u16,
    /// The lane that wrote, or [`NO_LANE`].
    pub lane: u8,
    /// Whether the async proxy wrote.
    pub by_async: bool,
}

const NOBODY: Stamp = Stamp { epoch: 0, warp: 0, lane: NO_LANE, by_async: false };
const IN_FLIGHT: u32 = u32::MAX;

/// The shared memory of one block.
pub struct Shared {
    bytes: Vec<u8>,
    /// 1 for every byte that nothing has written.
    poison: Vec<u8>,
    /// log2 of the bytes that share one stamp.
    shift: u32,
    writes: Vec<Stamp>,
    /// Last read, epoch << 8 | lane, per warp and granule: `reads[warp * granules + granule]`.
    reads: Vec<u32>,
    granules: usize,
    /// What bulk copies have still to read, and the warps that issued them.
    still_read: Vec<(Range<usize>, usize)>,
}

impl Shared {
    /// `len` bytes of poison. Accesses of at least `granule` bytes (1, 2 or 4) are told apart; `warps`
    /// is the number of warps of the unit.
    pub fn new(len: usize, granule: usize, warps: usize) -> Self {
        let shift = granule.trailing_zeros();
        let granules = len.div_ceil(granule);
        Self {
            bytes: vec![0; len],
            poison: vec![1; len],
            shift,
            writes: vec![NOBODY; granules],
            reads: vec![0; granules * warps],
            granules,
            still_read: Vec::new(),
        }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn granule_range(&self, at: usize, len: usize) -> Range<usize> {
        at >> self.shift..((at + len - 1) >> self.shift) + 1
    }

    /// Bytes without any check; the range must be inside.
    pub fn peek(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
    }

    /// Whether any byte of the range is poison.
    pub fn is_poison(&self, at: usize, len: usize) -> bool {
        self.poison[at..at + len].iter().any(|&p| p != 0)
    }

    /// Reads; returns which bytes are poison (bit i for byte i, the first 64 bytes) and the first
    /// conflict. The range must be inside.
    #[inline]
    pub fn read(
        &mut self,
        at: usize,
        out: &mut [u8],
        who: Accessor<'_>,
    ) -> (u64, Option<Conflict>) {
        if out.is_empty() {
            return (0, None);
        }
        let len = out.len();
        out.copy_from_slice(&self.bytes[at..at + len]);
        let poison = poison_mask(&self.poison[at..at + len]);
        let conflict = self.note_read(at, len, who);
        (poison, conflict)
    }

    /// The ordering part of [`Self::read`]: checks and records a read without fetching bytes.
    pub fn note_read(&mut self, at: usize, len: usize, who: Accessor<'_>) -> Option<Conflict> {
        if who.proxy == Proxy::Strong {
            return None;
        }
        let range = self.granule_range(at, len);
        let seen = who.clock.seen();
        let epoch = seen[who.warp];
        let mut conflict = None;
        for stamp in &self.writes[range.clone()] {
            let own = stamp.warp as usize == who.warp;
            let fresh =
                if own { stamp.epoch >= epoch } else { stamp.epoch > seen[stamp.warp as usize] };
            if fresh || who.proxy == Proxy::Async {
                let lane = || Self::judge_lane(*stamp, who);
                conflict = conflict.or_else(|| Self::judge_write(*stamp, who)).or_else(lane);
            }
        }
        let epoch = epoch.min(LAST_EPOCH);
        let lane = if who.lane == WARP { NO_LANE } else { who.lane };
        let new = epoch << 8 | u32::from(lane);
        let row = who.warp * self.granules;
        for read in &mut self.reads[row + range.start..row + range.end] {
            if *read >> 8 != epoch || *read & 0xff == u32::from(NO_LANE) {
                *read = new;
            } else if *read != new && lane != NO_LANE {
                *read = epoch << 8 | u32::from(LANES);
            }
        }
        conflict
    }

    /// A read by one lane of what another lane of the warp wrote.
    fn judge_lane(stamp: Stamp, who: Accessor<'_>) -> Option<Conflict> {
        let epoch = who.clock.seen()[who.warp];
        let same = stamp.warp as usize == who.warp && stamp.epoch == epoch;
        let lanes = stamp.lane != NO_LANE
            && who.lane != NO_LANE
            && (stamp.lane != who.lane || who.lane == WARP);
        (same && lanes).then_some(Conflict::LaneWrite(stamp.lane))
    }

    fn judge_write(stamp: Stamp, who: Accessor<'_>) -> Option<Conflict> {
        let warp = stamp.warp as usize;
        if stamp.epoch == 0 {
            None
        } else if stamp.epoch == IN_FLIGHT {
            (warp != who.warp).then_some(Conflict::InFlight(stamp))
        } else if stamp.epoch > who.clock.seen()[warp] {
            Some(Conflict::Write(stamp))
        } else if who.proxy == Proxy::Async
            && !stamp.by_async
            && stamp.epoch > who.clock.proxied()[warp]
        {
            Some(Conflict::Proxy(stamp))
        } else {
            None
        }
    }

    /// Writes; bit i of `poison` makes byte i poison (the first 64 bytes). Returns the first conflict.
    /// The range must be inside.
    #[inline]
    pub fn write(
        &mut self,
        at: usize,
        bytes: &[u8],
        poison: u64,
        who: Accessor<'_>,
    ) -> Option<Conflict> {
        if bytes.is_empty() {
            return None;
        }
        let conflict = self.note_write(at, bytes.len(), who);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let shadow = &mut self.poison[at..at + bytes.len()];
        if poison == 0 {
            shadow.fill(0);
        } else {
            for (i, p) in shadow.iter_mut().enumerate() {
                *p = if i < 64 { (poison >> i & 1) as u8 } else { 0 };
            }
        }
        conflict
    }

    /// The ordering part of [`Self::write`]: checks and records a write without storing bytes.
    pub fn note_write(&mut self, at: usize, len: usize, who: Accessor<'_>) -> Option<Conflict> {
        let range = self.granule_range(at, len);
        let stamp = Stamp {
            epoch: who.clock.seen()[who.warp],
            warp: who.warp as u16,
            lane: who.lane,
            by_async: who.proxy == Proxy::Async,
        };
        let conflict = self.check_write(range.clone(), who);
        self.writes[range].fill(stamp);
        conflict
    }

    fn check_write(&self, range: Range<usize>, who: Accessor<'_>) -> Option<Conflict> {
        if who.proxy == Proxy::Strong {
            return None;
        }
        let seen = who.clock.seen();
        let mut conflict = self.check_still_read(range.clone());
        for stamp in &self.writes[range.clone()] {
            if stamp.epoch > seen[stamp.warp as usize] || who.proxy == Proxy::Async {
                conflict = conflict.or(Self::judge_write(*stamp, who));
            }
        }
        for (warp, &seen) in seen.iter().enumerate() {
            let row = warp * self.granules;
            let reads = &self.reads[row + range.start..row + range.end];
            if warp != who.warp {
                if reads.iter().any(|&read| read >> 8 > seen) {
                    conflict = conflict.or(Some(Conflict::Read(warp)));
                }
            } else if who.lane != NO_LANE && seen < LAST_EPOCH {
                let own = [NO_LANE, who.lane].map(u32::from);
                if reads.iter().any(|&read| read >> 8 == seen && !own.contains(&(read & 0xff))) {
                    conflict = conflict.or(Some(Conflict::LaneRead));
                }
            }
        }
        conflict
    }

    /// A bulk copy out of shared memory starts, which reads the range at any time until [`Self::end_read`].
    pub fn start_read(&mut self, at: usize, len: usize, who: Accessor<'_>) -> Option<Conflict> {
        if len == 0 {
            return None;
        }
        self.still_read.push((at..at + len, who.warp));
        self.note_read(at, len, who)
    }

    /// The copy of `warp` that [`Self::start_read`] announced has read the range.
    pub fn end_read(&mut self, at: usize, len: usize, warp: usize) {
        let ended = (at..at + len, warp);
        if let Some(place) = self.still_read.iter().position(|read| *read == ended) {
            self.still_read.swap_remove(place);
        }
    }

    /// Only a wait tells when a copy has read: a write that comes before it is a race, whatever orders it behind
    /// the start of the copy.
    #[inline]
    fn check_still_read(&self, range: Range<usize>) -> Option<Conflict> {
        let (start, end) = (range.start << self.shift, range.end << self.shift);
        let mut reads = self.still_read.iter();
        reads
            .find(|(read, _)| read.start < end && start < read.end)
            .map(|read| Conflict::StillRead(read.1))
    }

    /// An asynchronous copy into the range starts: its bytes are poison and any access by another
    /// warp is a conflict until [`Self::land`].
    pub fn start_copy(&mut self, at: usize, len: usize, who: Accessor<'_>) -> Option<Conflict> {
        if len == 0 {
            return None;
        }
        let range = self.granule_range(at, len);
        let conflict = self.check_write(range.clone(), who);
        self.writes[range].fill(Stamp {
            epoch: IN_FLIGHT,
            warp: who.warp as u16,
            lane: who.lane,
            by_async: who.proxy == Proxy::Async,
        });
        self.poison[at..at + len].fill(1);
        conflict
    }

    /// The copy that [`Self::start_copy`] announced arrives, as a write of `warp` at `epoch`.
    pub fn land(&mut self, at: usize, bytes: &[u8], poison: impl Fn(usize) -> bool, stamp: Stamp) {
        if bytes.is_empty() {
            return;
        }
        let range = self.granule_range(at, bytes.len());
        self.writes[range].fill(stamp);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for (i, p) in self.poison[at..at + bytes.len()].iter_mut().enumerate() {
            *p = u8::from(poison(i));
        }
    }
}

#[inline]
fn poison_mask(shadow: &[u8]) -> u64 {
    if shadow.iter().all(|&p| p == 0) {
        return 0;
    }
    shadow.iter().take(64).enumerate().fold(0, |mask, (i, &p)| mask | u64::from(p) << i)
}
