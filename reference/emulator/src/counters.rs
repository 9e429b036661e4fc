//! What a launch did, counted.

use std::collections::BTreeMap;

/// Shared-memory accesses of one instruction (a warp-wide access needs one wavefront per 128 bytes of
/// distinct words that fall into distinct banks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedSite {
    /// Warp-wide accesses executed.
    pub requests: u64,
    /// Wavefronts they would take without bank conflicts.
    pub ideal: u64,
    /// Wavefronts they take; `wavefronts - ideal` is the cost of bank conflicts.
    pub wavefronts: u64,
}

/// Global-memory accesses of one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalSite {
    /// Warp-wide accesses executed.
    pub requests: u64,
    /// 32-byte sectors touched.
    pub sectors: u64,
    /// Bytes asked for by the lanes, each lane counted.
    pub bytes: u64,
}

/// Bytes moved, each lane's bytes counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Bytes {
    pub global_read: u64,
    pub global_written: u64,
    pub shared_read: u64,
    pub shared_written: u64,
    pub local: u64,
}

/// Counters of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Warp instructions executed, per family.
    pub families: BTreeMap<&'static str, u64>,
    /// Warp instructions executed.
    pub instructions: u64,
    /// Lane instructions executed: warp instructions times active lanes.
    pub lane_instructions: u64,
    /// Tensor-core multiply instructions (wmma.mma, mma, mma.sp per warp; wgmma per warpgroup).
    pub mma: u64,
    /// Block and cluster barriers completed.
    pub barriers: u64,
    /// Branches at which a warp split.
    pub divergent_branches: u64,
    /// Bytes moved.
    pub bytes: Bytes,
    /// Shared accesses per PTX line.
    pub shared_sites: BTreeMap<u32, SharedSite>,
    /// Global accesses per PTX line.
    pub global_sites: BTreeMap<u32, GlobalSite>,
}

impl Counters {
    /// Wavefronts lost to bank conflicts, over all sites.
    pub fn bank_conflicts(&self) -> u64 {
        self.shared_sites.values().map(|s| s.wavefronts - s.ideal).sum()
    }

    /// 32-byte sectors per global request, over all sites.
    pub fn sectors_per_request(&self) -> f64 {
        let requests: u64 = self.global_sites.values().map(|s| s.requests).sum();
        let sectors: u64 = self.global_sites.values().map(|s| s.sectors).sum();
        sectors as f64 / requests.max(1) as f64
    }
}

/// Wavefronts of a warp-wide shared access of `bytes` per lane: `(without conflicts, actual)`.
///
/// Shared memory has 32 banks of 4 bytes. Accesses of 8 bytes are served in two phases (half warps),
/// of 16 bytes in four (quarter warps). Within a phase, distinct words of one bank take one wavefront
/// each, and equal words are broadcast; so a phase without conflicts takes one.
pub fn wavefronts(addresses: &[u64; 32], lanes: u32, bytes: usize) -> (u64, u64) {
    let words = bytes.div_ceil(4).clamp(1, 32);
    let per_phase = 32 / words;
    let (mut ideal, mut actual) = (0, 0);
    for phase in 0..32usize.div_ceil(per_phase) {
        // The word each bank serves first, and the words beyond that: at most 32 in all.
        let (mut first, mut further) = ([u64::MAX; 32], [u64::MAX; 32]);
        let (mut served, mut count) = (0u32, 0);
        let phase_lanes = addresses.iter().enumerate().skip(phase * per_phase).take(per_phase);
        for (_, address) in phase_lanes.filter(|(lane, _)| lanes >> lane & 1 != 0) {
            for word in address / 4..address / 4 + words as u64 {
                let bank = (word % 32) as usize;
                served |= 1 << bank;
                if first[bank] == u64::MAX {
                    first[bank] = word;
                } else if first[bank] != word && !further[..count].contains(&word) {
                    further[count] = word;
                    count += 1;
                }
            }
        }
        if served != 0 {
            let mut waits = [0u8; 32];
            further[..count].iter().for_each(|word| waits[(word % 32) as usize] += 1);
            ideal += 1;
            actual += 1 + u64::from(waits.into_iter().max().unwrap_or(0));
        }
    }
    (ideal, actual)
}

/// 32-byte sectors touched by a warp-wide access of `bytes` per lane.
pub fn sectors(addresses: &[u64; 32], lanes: u32, bytes: usize) -> u64 {
    let mut touched = [0u64; 64];
    let mut count = 0;
    for (lane, address) in addresses.iter().enumerate() {
        if lanes >> lane & 1 == 0 {
            continue;
        }
        let (first, last) = (address / 32, address.saturating_add(bytes.max(1) as u64 - 1) / 32);
        for sector in first..=last {
            let known = count > 0 && touched[count - 1] == sector;
            if !known && count < 64 && !touched[..count].contains(&sector) {
                touched[count] = sector;
                count += 1;
            }
        }
    }
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflict_free_and_conflicting() {
        let linear = std::array::from_fn(|lane| lane as u64 * 4);
        assert_eq!(wavefronts(&linear, !0, 4), (1, 1));
        let column = std::array::from_fn(|lane| lane as u64 * 128);
        assert_eq!(wavefronts(&column, !0, 4), (1, 32));
        let padded = std::array::from_fn(|lane| lane as u64 * 132);
        assert_eq!(wavefronts(&padded, !0, 4), (1, 1));
        assert_eq!(wavefronts(&[64; 32], !0, 4), (1, 1));
    }

    #[test]
    fn wide_accesses_are_served_in_phases() {
        let linear16 = std::array::from_fn(|lane| lane as u64 * 16);
        assert_eq!(wavefronts(&linear16, !0, 16), (4, 4));
        let linear8 = std::array::from_fn(|lane| lane as u64 * 8);
        assert_eq!(wavefronts(&linear8, !0, 8), (2, 2));
        // Rows 128 bytes apart: eight lanes of a phase hit the same four banks.
        let rows = std::array::from_fn(|lane| lane as u64 * 128);
        assert_eq!(wavefronts(&rows, !0, 16), (4, 32));
    }

    #[test]
    fn sectors_of_a_request() {
        let linear = std::array::from_fn(|lane| lane as u64 * 4);
        assert_eq!(sectors(&linear, !0, 4), 4);
        let strided = std::array::from_fn(|lane| lane as u64 * 256);
        assert_eq!(sectors(&strided, !0, 4), 32);
    }
}
