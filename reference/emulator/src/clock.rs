//! Vector clocks: which writes of other warps a warp is ordered after.
//!
//! Every warp of a unit (a cluster, or a block launched alone) has an epoch that grows at each of its
//! release operations. `seen[u]` of warp w is the last epoch of u whose accesses happen before what w
//! does next. `proxied[u]` is the same for accesses that a proxy fence has passed, so that the async
//! proxy may touch the bytes too. An access of u at epoch e is ordered before w iff `e <= seen[u]`.

/// The clock of a warp, or what a barrier has gathered from those that arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    seen: Vec<u32>,
    proxied: Vec<u32>,
}

impl Clock {
    /// A clock for a unit of `warps` warps that has seen nothing.
    pub fn new(warps: usize) -> Self {
        Self { seen: vec![0; warps], proxied: vec![0; warps] }
    }

    /// The clock a warp starts with: its own epoch is 1.
    pub fn start(warps: usize, warp: usize) -> Self {
        let mut clock = Self::new(warps);
        clock.seen[warp] = 1;
        clock
    }

    /// The epochs of all warps that are ordered before.
    pub fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// The epochs of all warps whose writes a proxy fence has passed.
    pub fn proxied(&self) -> &[u32] {
        &self.proxied
    }

    /// Takes over what `other` knows (acquire).
    pub fn join(&mut self, other: &Self) {
        if self.seen.len() < other.seen.len() {
            self.seen.resize(other.seen.len(), 0);
            self.proxied.resize(other.proxied.len(), 0);
        }
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.proxied.iter_mut().zip(&other.proxied) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Starts the warp's next epoch (after a release).
    pub fn tick(&mut self, warp: usize) {
        // The last value means "under way" in shared memory's stamps.
        self.seen[warp] = self.seen[warp].saturating_add(1).min(u32::MAX - 1);
    }

    /// `fence.proxy.async`: everything ordered before now may be touched by the async proxy.
    pub fn fence_proxy(&mut self) {
        for (proxied, seen) in self.proxied.iter_mut().zip(&self.seen) {
            *proxied = (*proxied).max(*seen);
        }
    }

    /// Forgets everything (a barrier starts its next phase).
    pub fn clear(&mut self) {
        self.seen.fill(0);
        self.proxied.fill(0);
    }
}
