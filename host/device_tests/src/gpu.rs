//! Running a case on a GPU.

use crate::case::{Arg, Case, Contents, TensorMap};
use cust::error::CudaResult;
use cust::memory::{DeviceBuffer, DevicePointer};
use cust::prelude::{LaunchConfig, Module, Stream, StreamFlags};
use cust::tensor_map::{self, TensorMapBuilder};
use layout::descriptor::Swizzle;

/// Runs a case on GPU 0 and returns the output buffer.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// If the case names a kernel that there is not.
pub fn run(case: &Case) -> CudaResult<Vec<u8>> {
    let _context = cust::quick_init()?;
    let text = case.arch.entry(case.entry).unwrap_or_else(|| panic!("no kernel {}", case.entry));
    let function = Module::from_ptx(text, &[])?.get_function(case.entry)?;
    function.set_max_dynamic_shared(case.shared_bytes)?;

    let buffer = |contents: &Contents| match contents {
        Contents::Bytes(bytes) => DeviceBuffer::from_slice(bytes),
        Contents::Undefined(bytes) => DeviceBuffer::from_slice(&vec![0xffu8; *bytes]),
    };
    let buffers = case.buffers.iter().map(buffer).collect::<CudaResult<Vec<_>>>()?;
    let mut maps = Vec::new();
    let mut params = Vec::new();
    for arg in &case.args {
        params.push(match arg {
            Arg::Buffer(index) => buffers[*index].as_device_ptr().as_raw().to_le_bytes().to_vec(),
            Arg::Map(map) => {
                let map = encode(map, buffers[map.buffer].as_device_ptr())?;
                let map = DeviceBuffer::from_slice(&[map])?;
                let address = map.as_device_ptr().as_raw().to_le_bytes().to_vec();
                maps.push(map);
                address
            }
            Arg::Number(number) => number.to_le_bytes().to_vec(),
        });
    }
    let params: Vec<&[u8]> = params.iter().map(Vec::as_slice).collect();

    // Not NON_BLOCKING: that would not wait for the uploads.
    let stream = Stream::new(StreamFlags::DEFAULT, None)?;
    let mut config = LaunchConfig::new(case.grid, case.block).shared_bytes(case.shared_bytes);
    if case.cluster > 1 {
        config = config.cluster((case.cluster, 1, 1));
    }
    // SAFETY: the case was made for this kernel; buffers and maps live until the stream is idle.
    unsafe { function.launch_bytes(&stream, &config, &params)? };
    stream.synchronize()?;
    buffers[case.output].as_host_vec()
}

fn encode(map: &TensorMap, address: DevicePointer<u8>) -> CudaResult<tensor_map::TensorMap> {
    let swizzle = match map.swizzle {
        Swizzle::None => tensor_map::Swizzle::None,
        Swizzle::B32 => tensor_map::Swizzle::B32,
        Swizzle::B64 => tensor_map::Swizzle::B64,
        Swizzle::B128 => tensor_map::Swizzle::B128,
    };
    TensorMapBuilder::new(DevicePointer::<u16>::from_raw(address.as_raw()))
        .dims(&[map.columns, map.rows])
        .strides(&[map.pitch])
        .box_dims(&[map.box_columns, map.box_rows])
        .swizzle(swizzle)
        .build()
}
