//! The GPUs the driver sees.

use cudarc::driver::sys;

use crate::driver::call;
use crate::error::{CudaResult, invalid};

/// One GPU, by the driver's handle. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    raw: sys::CUdevice,
    ordinal: u32,
}

/// Declares [`DeviceAttribute`] beside the driver's constants.
macro_rules! attributes {
    ($($(#[$doc:meta])+ $name:ident = $raw:ident,)+) => {
        /// A property of a device, read with [`Device::get_attribute`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DeviceAttribute {
            $($(#[$doc])+ $name,)+
        }

        impl DeviceAttribute {
            fn raw(self) -> sys::CUdevice_attribute {
                match self {
                    $(Self::$name => sys::CUdevice_attribute::$raw,)+
                }
            }
        }
    };
}

attributes! {
    /// Threads in a block, all dimensions together.
    MaxThreadsPerBlock = CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
    /// Threads along x of a block.
    MaxBlockDimX = CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
    /// Threads along y of a block.
    MaxBlockDimY = CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
    /// Threads along z of a block.
    MaxBlockDimZ = CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
    /// Blocks along x of a grid.
    MaxGridDimX = CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
    /// Blocks along y of a grid.
    MaxGridDimY = CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
    /// Blocks along z of a grid.
    MaxGridDimZ = CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
    /// Shared memory of a block without opting in, in bytes (48 KiB).
    MaxSharedMemoryPerBlock = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
    /// Shared memory of a block after opting in, in bytes.
    MaxSharedMemoryPerBlockOptin = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
    /// Shared memory of a multiprocessor in bytes.
    MaxSharedMemoryPerMultiprocessor = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
    /// Shared memory the driver takes from each block in bytes.
    ReservedSharedMemoryPerBlock = CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK,
    /// Registers of 32 bits in a multiprocessor.
    MaxRegistersPerMultiprocessor = CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
    /// Resident threads of a multiprocessor.
    MaxThreadsPerMultiprocessor = CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR,
    /// Resident blocks of a multiprocessor.
    MaxBlocksPerMultiprocessor = CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR,
    /// Multiprocessors.
    MultiprocessorCount = CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
    /// Threads in a warp.
    WarpSize = CU_DEVICE_ATTRIBUTE_WARP_SIZE,
    /// Peak core clock in kHz.
    ClockRate = CU_DEVICE_ATTRIBUTE_CLOCK_RATE,
    /// Peak memory clock in kHz.
    MemoryClockRate = CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE,
    /// Width of the memory bus in bits.
    GlobalMemoryBusWidth = CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH,
    /// L2 cache in bytes.
    L2CacheSize = CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
    /// The 9 of compute capability 9.0.
    ComputeCapabilityMajor = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
    /// The 0 of compute capability 9.0.
    ComputeCapabilityMinor = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    /// 1 if kernels can be launched in clusters (Hopper and newer). Drivers before CUDA 11.8 do
    /// not know this attribute and answer with an error.
    ClusterLaunch = CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH,
    /// 1 if kernels can use tensor maps. Drivers before CUDA 12.0 answer with an error.
    TensorMapAccessSupported = CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED,
}

impl Device {
    /// How many GPUs the driver sees.
    ///
    /// # Errors
    /// Those of [`crate::init`].
    pub fn num_devices() -> CudaResult<u32> {
        crate::init()?;
        let mut count = 0;
        // SAFETY: the pointer is to a live local.
        unsafe { call!(cuDeviceGetCount(&mut count)) }?;
        Ok(count.max(0) as u32)
    }

    /// The GPU of this ordinal, counted from 0 within `CUDA_VISIBLE_DEVICES`.
    ///
    /// # Errors
    /// Those of [`crate::init`]; [`crate::CudaError::InvalidArgument`] past the last device.
    pub fn get_device(ordinal: u32) -> CudaResult<Self> {
        let count = Self::num_devices()?;
        if count == 0 {
            return Err(crate::CudaError::NoDevice);
        }
        if ordinal >= count {
            return Err(invalid("device ordinal", ordinal, format!("less than {count}")));
        }
        let mut raw = 0;
        // SAFETY: the pointer is to a live local; the ordinal was checked and fits an int.
        unsafe { call!(cuDeviceGet(&mut raw, ordinal as i32)) }?;
        Ok(Self { raw, ordinal })
    }

    /// The ordinal this device was asked for by.
    pub fn ordinal(self) -> u32 {
        self.ordinal
    }

    /// The driver's handle.
    pub fn as_raw(self) -> sys::CUdevice {
        self.raw
    }

    /// The marketing name, such as "NVIDIA H200".
    ///
    /// # Errors
    /// What the driver says.
    pub fn name(self) -> CudaResult<String> {
        let mut buffer = [0u8; 256];
        // SAFETY: the driver writes at most the length given, NUL included, into a live array.
        unsafe {
            call!(cuDeviceGetName(buffer.as_mut_ptr().cast(), buffer.len() as i32, self.raw))
        }?;
        let text: Vec<u8> = buffer.into_iter().take_while(|&byte| byte != 0).collect();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// All device memory in bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn total_memory(self) -> CudaResult<usize> {
        let mut bytes = 0;
        // SAFETY: the pointer is to a live local.
        unsafe { call!(cuDeviceTotalMem_v2(&mut bytes, self.raw)) }?;
        Ok(bytes)
    }

    /// One property; its unit is with the attribute.
    ///
    /// # Errors
    /// What the driver says, which for an attribute younger than it is `CUDA_ERROR_INVALID_VALUE`.
    pub fn get_attribute(self, attribute: DeviceAttribute) -> CudaResult<i32> {
        let mut value = 0;
        // SAFETY: the pointer is to a live local.
        unsafe { call!(cuDeviceGetAttribute(&mut value, attribute.raw(), self.raw)) }?;
        Ok(value)
    }

    /// Compute capability as (major, minor): (9, 0) is `sm_90`.
    ///
    /// # Errors
    /// What the driver says.
    pub fn compute_capability(self) -> CudaResult<(u32, u32)> {
        let major = self.get_attribute(DeviceAttribute::ComputeCapabilityMajor)?;
        let minor = self.get_attribute(DeviceAttribute::ComputeCapabilityMinor)?;
        Ok((major.max(0) as u32, minor.max(0) as u32))
    }

    /// The device's unique identifier (of the MIG slice, where there is one).
    ///
    /// # Errors
    /// What the driver says.
    pub fn uuid(self) -> CudaResult<[u8; 16]> {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: the pointer is to a live local of the driver's own type.
        unsafe { call!(cuDeviceGetUuid_v2(&mut uuid, self.raw)) }?;
        Ok(uuid.bytes.map(|byte| byte as u8))
    }
}
