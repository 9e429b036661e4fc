//! A GPU that is not there: the same PTX, run on the CPU by `ptx_emulator`.
//!
//! Launches run at once, under all of the emulator's checks. A finding (a race, an access outside a
//! buffer, a value that nothing initialised, ...) makes the launch an error.

use crate::constants::Constants;
use crate::device::{Device, DeviceInfo, Launch, MapElement, Memory, TensorMap};
use crate::error::{Error, Result, invalid};
use crate::ptx;
use ptx_emulator::family::tensor_map;
use ptx_emulator::{Counters, Module};
use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Most warp instructions of one launch: a net under endless loops, far above any test.
const INSTRUCTION_LIMIT: u64 = 1 << 36;

/// The emulator as a device. It takes the place of an sm_90 with 227 KiB of shared memory a block.
pub struct EmulatedDevice {
    info: DeviceInfo,
    memory: Arc<ptx_emulator::Memory>,
    /// The latest of each kernel.
    modules: Mutex<HashMap<&'static str, (Constants, Arc<Module>)>>,
    launches: Mutex<Vec<(&'static str, Counters)>>,
    ptx: Cow<'static, str>,
    specializes: bool,
    seed: u64,
}

impl EmulatedDevice {
    /// A device whose warps are scheduled in an order that `seed` permutes. Results of a correct kernel
    /// do not depend on it.
    pub fn open(seed: u64) -> Arc<dyn Device> {
        Self::with(seed, ptx::SM_80.into(), false)
    }

    /// The same, but it compiles the [`Constants`] of a launch into its kernel, as a GPU does. It parses a kernel
    /// anew for each set of them.
    pub fn specializing(seed: u64) -> Arc<dyn Device> {
        Self::with(seed, ptx::SM_80.into(), true)
    }

    /// A device with the kernels of `ptx` in place of those of their names: to try a changed kernel, or to see a
    /// broken one caught.
    pub fn with_ptx(seed: u64, ptx: impl Into<Cow<'static, str>>) -> Arc<dyn Device> {
        Self::with(seed, ptx.into(), false)
    }

    fn with(seed: u64, ptx: Cow<'static, str>, specializes: bool) -> Arc<dyn Device> {
        let info = DeviceInfo {
            name: "PTX emulator".to_owned(),
            sm: (9, 0),
            multiprocessors: 16,
            l2_bytes: 0,
            shared_bytes: ptx_emulator::MAX_SHARED as u32,
            memory_bytes: 1 << 40,
            driver: "none".to_owned(),
        };
        Arc::new(Self {
            info,
            memory: Arc::default(),
            modules: Mutex::default(),
            launches: Mutex::default(),
            ptx,
            specializes,
            seed,
        })
    }

    /// Entry and counters of the launches since the last call, in order.
    pub fn take_launches(&self) -> Vec<(&'static str, Counters)> {
        std::mem::take(&mut self.launches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The parsed kernel of a launch.
    fn module(&self, launch: &Launch<'_>) -> Result<Arc<Module>> {
        let entry = launch.entry;
        let constants = if self.specializes { launch.constants } else { Constants::default() };
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((parsed_with, module)) = modules.get(entry)
            && *parsed_with == constants
        {
            return Ok(Arc::clone(module));
        }
        let own = ptx::entry(&self.ptx, entry).map(|own| ptx::specialize(own, entry, &constants));
        let text = own
            .or_else(|| ptx::specialized(entry, &constants))
            .ok_or_else(|| Error::UnknownKernel { name: entry.to_owned() })?;
        let module = Arc::new(Module::parse(&text)?);
        modules.insert(entry, (constants, Arc::clone(&module)));
        Ok(module)
    }
}

impl Device for EmulatedDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        if bytes > self.info.memory_bytes {
            let limit = format!("at most {}", self.info.memory_bytes);
            return Err(invalid("allocation (bytes)", bytes, limit));
        }
        let address = self.memory.alloc(bytes as usize);
        let memory = Arc::clone(&self.memory);
        Ok(Arc::new(EmulatedMemory { memory, address, bytes }))
    }

    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        // Plans share none: nothing orders launches of several threads here, as a stream does.
        let memory = self.allocate(bytes)?;
        memory.fill(0)?;
        Ok(memory)
    }

    fn compile(&self, launch: &Launch<'_>) -> Result<()> {
        self.module(launch).map(drop)
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<[u64; 16]> {
        let element = match map.element {
            MapElement::F16 => tensor_map::Element::F16,
            MapElement::Bf16 => tensor_map::Element::Bf16,
            MapElement::U32 => tensor_map::Element::U32,
        };
        let swizzle = match map.swizzle {
            layout::descriptor::Swizzle::None => tensor_map::Swizzle::None,
            layout::descriptor::Swizzle::B32 => tensor_map::Swizzle::B32,
            layout::descriptor::Swizzle::B64 => tensor_map::Swizzle::B64,
            layout::descriptor::Swizzle::B128 => tensor_map::Swizzle::B128,
        };
        let (dims, boxes) = ([map.columns, map.rows], [map.box_columns, map.box_rows]);
        let bytes = tensor_map::TensorMap::new(element, map.address, &dims, &[map.pitch], &boxes)
            .swizzle(swizzle)
            .encode()
            .map_err(|error| invalid("tensor map", error, "as the driver documents"))?;
        Ok(bytemuck::cast(bytes))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let module = self.module(launch)?;
        let report = ptx_emulator::Launch::new(launch.entry)
            .grid([launch.grid, 1, 1])
            .block([launch.block, 1, 1])
            .cluster([launch.cluster, 1, 1])
            .shared_bytes(launch.shared_bytes as usize)
            .arg_bytes(launch.params)
            .seed(self.seed)
            .instruction_limit(INSTRUCTION_LIMIT)
            .run(&module, &self.memory)?;
        if !report.findings.is_empty() {
            let entry = launch.entry.to_owned();
            return Err(Error::Findings { entry, findings: report.findings });
        }
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        launches.push((launch.entry, report.counters));
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// The time that emulation takes on this machine, which says nothing of a GPU.
    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        let mut one = |i| {
            let start = Instant::now();
            item(i)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        };
        (0..items).map(&mut one).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory of an [`EmulatedDevice`].
struct EmulatedMemory {
    memory: Arc<ptx_emulator::Memory>,
    address: u64,
    bytes: u64,
}

impl Memory for EmulatedMemory {
    fn address(&self) -> u64 {
        self.address
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn upload(&self, offset: u64, data: &[u8]) -> Result<()> {
        Ok(self.memory.write(self.address + offset, data)?)
    }

    fn download(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        data.copy_from_slice(&self.memory.download::<u8>(self.address + offset, data.len())?);
        Ok(())
    }

    fn fill(&self, byte: u8) -> Result<()> {
        Ok(self.memory.fill(self.address, byte, self.bytes as usize)?)
    }
}

impl Drop for EmulatedMemory {
    fn drop(&mut self) {
        self.memory.free(self.address);
    }
}
