//! A GPU through the CUDA driver.

use crate::constants::Constants;
use crate::device::{Device, DeviceInfo, Launch, MapElement, Memory, TensorMap};
use crate::error::{Error, Result};
use crate::ptx;
use cust::context::Context;
use cust::device::DeviceAttribute;
use cust::event::{Event, EventFlags};
use cust::function::Function;
use cust::launch::LaunchConfig;
use cust::memory::{DeviceBuffer, DevicePointer};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::tensor_map::{L2Promotion, Swizzle, TensorMapBuilder};
use half::{bf16, f16};
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Oldest compute capability that the kernels run on.
const MIN_SM: (u32, u32) = (8, 0);

/// Where Linux tells the version of the NVIDIA driver.
const DRIVER_VERSION: &str = "/sys/module/nvidia/version";

/// A GPU with a stream of its own. Each kernel is compiled by the driver when it is first launched.
pub struct CudaDevice {
    info: DeviceInfo,
    context: Context,
    stream: Arc<Stream>,
    /// Whether what a launch fixes is compiled into its kernel.
    specializes: bool,
    functions: RwLock<HashMap<(&'static str, Constants), Function>>,
    workspace: Workspace,
}

impl CudaDevice {
    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// No driver, no such device, or one older than sm_80.
    pub fn open(ordinal: u32) -> Result<Arc<dyn Device>> {
        Self::open_with(ordinal, true)
    }

    /// The same, but each kernel is compiled once, for all forms of its epilogue: for programs that use many forms, as
    /// each compilation takes the driver a good part of a second.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_general(ordinal: u32) -> Result<Arc<dyn Device>> {
        Self::open_with(ordinal, false)
    }

    fn open_with(ordinal: u32, specializes: bool) -> Result<Arc<dyn Device>> {
        cust::init()?;
        let device = cust::device::Device::get_device(ordinal)?;
        let name = device.name()?;
        let sm = device.compute_capability()?;
        if sm < MIN_SM {
            return Err(crate::error::invalid(
                format!("compute capability of {name}"),
                format!("{}.{}", sm.0, sm.1),
                format!("at least {}.{}", MIN_SM.0, MIN_SM.1),
            ));
        }
        let attribute = |a| device.get_attribute(a).map(|value| value.max(0) as u32);
        let context = Context::new(device)?;
        let info = DeviceInfo {
            name,
            sm,
            multiprocessors: attribute(DeviceAttribute::MultiprocessorCount)?,
            l2_bytes: attribute(DeviceAttribute::L2CacheSize)? as u64,
            shared_bytes: attribute(DeviceAttribute::MaxSharedMemoryPerBlockOptin)?,
            memory_bytes: device.total_memory()? as u64,
            driver: match std::fs::read_to_string(DRIVER_VERSION) {
                Ok(version) => format!("{} ({})", context.driver_version()?, version.trim()),
                Err(_) => context.driver_version()?.to_string(),
            },
        };
        let stream = Arc::new(Stream::new(StreamFlags::NON_BLOCKING, None)?);
        Ok(Arc::new(Self {
            info,
            context,
            stream,
            specializes,
            functions: RwLock::default(),
            workspace: Workspace::default(),
        }))
    }

    /// The stream that everything is queued on.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The context it lives in.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The compiled kernel of a launch, allowed to use its dynamic shared memory.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`], or the driver's compiler log.
    fn function(&self, launch: &Launch<'_>) -> Result<Function> {
        let entry = launch.entry;
        let constants = if self.specializes { launch.constants } else { Constants::default() };
        let key = (entry, constants);
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&key) {
            return Ok(function.clone());
        }
        drop(functions);
        let text = ptx::specialized(entry, &constants)
            .ok_or_else(|| Error::UnknownKernel { name: entry.to_owned() })?;
        self.context.set_current()?;
        // Without a lock: whoever has its kernel need not wait for this one.
        let function = Module::from_ptx(text, &[])?.get_function(entry)?;
        function.set_max_dynamic_shared(launch.shared_bytes)?;
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        Ok(functions.entry(key).or_insert(function).clone())
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        self.context.set_current()?;
        let length = usize::try_from(bytes)
            .map_err(|_| crate::error::invalid("allocation (bytes)", bytes, "a usize"))?;
        let buffer = DeviceBuffer::uninitialized(length)?;
        Ok(Arc::new(CudaMemory {
            address: buffer.as_device_ptr().as_raw(),
            bytes,
            buffer: Mutex::new(buffer),
            stream: Arc::clone(&self.stream),
        }))
    }

    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        self.workspace.get(self, bytes)
    }

    fn compile(&self, launch: &Launch<'_>) -> Result<()> {
        self.function(launch).map(drop)
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<[u64; 16]> {
        let builder = match map.element {
            MapElement::F16 => TensorMapBuilder::new(DevicePointer::<f16>::from_raw(map.address)),
            MapElement::Bf16 => TensorMapBuilder::new(DevicePointer::<bf16>::from_raw(map.address)),
            MapElement::U32 => TensorMapBuilder::new(DevicePointer::<u32>::from_raw(map.address)),
        };
        let swizzle = match map.swizzle {
            layout::descriptor::Swizzle::None => Swizzle::None,
            layout::descriptor::Swizzle::B32 => Swizzle::B32,
            layout::descriptor::Swizzle::B64 => Swizzle::B64,
            layout::descriptor::Swizzle::B128 => Swizzle::B128,
        };
        let map = builder
            .dims(&[map.columns, map.rows])
            .strides(&[map.pitch])
            .box_dims(&[map.box_columns, map.box_rows])
            .swizzle(swizzle)
            .l2_promotion(L2Promotion::B256)
            .build()?;
        Ok(*map.as_words())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let function = self.function(launch)?;
        let mut config =
            LaunchConfig::new(launch.grid, launch.block).shared_bytes(launch.shared_bytes);
        if launch.cluster > 1 {
            config = config.cluster((launch.cluster, 1, 1));
        }
        // SAFETY: the caller vouches for the parameters; the driver copies them.
        unsafe { function.launch_bytes(&self.stream, &config, &[launch.params])? };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(self.stream.synchronize()?)
    }

    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        self.context.set_current()?;
        let pair = |_| Ok((Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?));
        // Made before the first launch: between launches the host has no time to lose.
        let events: Vec<(Event, Event)> = (0..items).map(pair).collect::<Result<_>>()?;
        for (i, (start, stop)) in events.iter().enumerate() {
            start.record(&self.stream)?;
            item(i)?;
            stop.record(&self.stream)?;
        }
        self.stream.synchronize()?;
        let micros = |(start, stop): &(Event, Event)| Ok(stop.elapsed_ms(start)? as f64 * 1e3);
        events.iter().map(micros).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory of a [`CudaDevice`].
struct CudaMemory {
    address: u64,
    bytes: u64,
    /// Locked for copies by the host; kernels use the address.
    buffer: Mutex<DeviceBuffer<u8>>,
    stream: Arc<Stream>,
}

impl Memory for CudaMemory {
    fn address(&self) -> u64 {
        self.address
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn upload(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.synchronize()?;
        Ok(buffer.copy_from_at(offset as usize, data)?)
    }

    fn download(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        let buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.synchronize()?;
        Ok(buffer.copy_to_at(offset as usize, data)?)
    }

    fn fill(&self, byte: u8) -> Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(buffer.set_8_async(byte, &self.stream)?)
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        // Kernels that use it may still be queued. An error here surfaces in the next call.
        let _ = self.stream.synchronize();
    }
}

/// The memory behind [`Device::workspace`]: the largest asked for so far.
#[derive(Default)]
struct Workspace(Mutex<Option<Arc<dyn Memory>>>);

impl Workspace {
    fn get(&self, device: &dyn Device, bytes: u64) -> Result<Arc<dyn Memory>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = held.as_ref().filter(|memory| memory.bytes() >= bytes) {
            return Ok(Arc::clone(memory));
        }
        // Plans made before keep the smaller one alive as long as they need it.
        *held = None;
        let memory = device.allocate(bytes)?;
        memory.fill(0)?;
        Ok(Arc::clone(held.insert(memory)))
    }
}
