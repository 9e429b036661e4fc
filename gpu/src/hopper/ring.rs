//! The ring of stages between the producer and the consumers, and a walk around it.
//!
//! Each stage has two barriers. `full` ends a phase when its operands have arrived; one thread of the block
//! arrives, with the number of bytes. `empty` ends a phase when every warp that reads the stage has arrived, and
//! since X is multicast, those are the warps of all blocks of the cluster.

use cuda_std::{mbarrier, shared};
use layout::hopper::{Shape, WARPGROUP};

/// A place in the ring.
#[derive(Clone, Copy)]
pub struct Ring {
    shape: Shape,
    base: u32,
    slot: u32,
    parity: u32,
}

impl Ring {
    /// The first stage.
    #[inline(always)]
    pub fn new(shape: Shape) -> Self {
        Self { shape, base: shared::base(), slot: 0, parity: 0 }
    }

    /// Makes the barriers. They may be used after a barrier of the block or cluster.
    ///
    /// # Safety
    /// One thread of the block calls it, once.
    #[inline(always)]
    pub unsafe fn init(&self) {
        let readers = const { WARPGROUP / 32 } * self.shape.team() * self.shape.cluster;
        // SAFETY: the barriers have room of their own in shared memory.
        unsafe {
            for slot in 0..self.shape.stages {
                mbarrier::init(self.base + self.shape.full_at(slot), 1);
                mbarrier::init(self.base + self.shape.empty_at(slot), readers);
            }
            for consumer in 0..self.shape.consumers() {
                mbarrier::init(self.turn(consumer), WARPGROUP / 32);
            }
        }
        mbarrier::fence_init();
    }

    /// Address of the stage.
    #[inline(always)]
    pub fn stage(&self) -> u32 {
        self.base + self.slot * self.shape.stage_bytes()
    }

    /// Its offset from the first stage, in bytes.
    #[inline(always)]
    pub fn stage_offset(&self) -> u32 {
        self.slot * self.shape.stage_bytes()
    }

    /// Its barrier that it is full.
    #[inline(always)]
    pub fn full(&self) -> u32 {
        self.base + self.shape.full_at(0) + self.slot * 16
    }

    /// Its barrier that it is empty.
    #[inline(always)]
    pub fn empty(&self) -> u32 {
        self.base + self.shape.empty_at(0) + self.slot * 16
    }

    /// The barrier that it is the turn of a consumer: one that has tiles of its own, or one that ends the block's last
    /// tile behind the other. A wait tells a phase by its parity alone, so a consumer with tiles of its own must not wait
    /// for a stage before the other one has seen all of its stages full, or it takes the phase before last for its own.
    #[inline(always)]
    pub fn turn(&self, consumer: u32) -> u32 {
        self.base + self.shape.turn_at(0) + consumer * 8
    }

    /// Waits until the stage is full.
    ///
    /// # Safety
    /// The barriers have been made, and nothing but [`Self::advance`] and [`Self::skip`] has moved the ring.
    #[inline(always)]
    pub unsafe fn wait_full(&self) {
        // SAFETY: as the caller vouches.
        unsafe { mbarrier::wait(self.full(), self.parity) }
    }

    /// Waits until the stage is empty.
    ///
    /// # Safety
    /// As for [`Self::wait_full`].
    #[inline(always)]
    pub unsafe fn wait_empty(&self) {
        // SAFETY: as the caller vouches.
        unsafe { mbarrier::wait(self.empty(), self.parity ^ 1) }
    }

    /// Goes on to the next stage.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.slot += 1;
        if self.slot == self.shape.stages {
            (self.slot, self.parity) = (0, self.parity ^ 1);
        }
    }

    /// Goes on by `stages` stages.
    #[inline(always)]
    pub fn skip(&mut self, stages: u32) {
        let slot = self.slot + stages;
        self.parity ^= slot / self.shape.stages & 1;
        self.slot = slot % self.shape.stages;
    }
}
