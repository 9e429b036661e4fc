//! What needs a device: `cargo test -p cust --test gpu -- --ignored`.
//!
//! The PTX is written by hand, so these tests depend on the driver and this crate alone.

use cust::module::ModuleJitOption;
use cust::prelude::*;
use cust::tensor_map::Swizzle;

/// c[i] = a[i] + b[i] for i < n.
const VECTOR_ADD: &str = r"
.version 7.0
.target sm_70
.address_size 64
.visible .entry vector_add(
    .param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.u64 %rd5, %rd1, %rd4;
    add.u64 %rd6, %rd2, %rd4;
    add.u64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}
";

/// Writes `value` to the 32-bit word of dynamic shared memory at `offset`, reads it back to `out`.
const SHARED_WORD: &str = r"
.version 7.0
.target sm_70
.address_size 64
.extern .shared .align 16 .b8 smem[];
.visible .entry shared_word(.param .u64 out, .param .u32 offset, .param .u32 value)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [offset];
    ld.param.u32 %r2, [value];
    mov.u32 %r3, smem;
    add.u32 %r4, %r3, %r1;
    st.volatile.shared.u32 [%r4], %r2;
    bar.sync 0;
    ld.volatile.shared.u32 %r5, [%r4];
    st.global.u32 [%rd1], %r5;
    ret;
}
";

/// out[block] = number of blocks in its cluster.
const CLUSTER_SIZE: &str = r"
.version 7.8
.target sm_90
.address_size 64
.visible .entry cluster_size(.param .u64 out)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %cluster_nctarank;
    mul.wide.u32 %rd2, %r1, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r2;
    ret;
}
";

fn stream() -> Stream {
    Stream::new(StreamFlags::NON_BLOCKING, None).unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn vector_add_and_the_launch_macro() {
    let _context = cust::quick_init().unwrap();
    let n = 1_000_003usize;
    let a: Vec<f32> = (0..n).map(|i| (i % 1000) as f32).collect();
    let b: Vec<f32> = (0..n).map(|i| (i % 77) as f32).collect();
    let (da, db) = (DeviceBuffer::from_slice(&a).unwrap(), DeviceBuffer::from_slice(&b).unwrap());
    let mut dc = DeviceBuffer::<f32>::uninitialized(n).unwrap();
    dc.set_8(0xFF).unwrap();
    assert!(dc.as_host_vec().unwrap().iter().all(|value| value.is_nan()));

    let module = Module::from_ptx(VECTOR_ADD, &[ModuleJitOption::LogVerbose(true)]).unwrap();
    let add = module.get_function("vector_add").unwrap();
    drop(module); // The function keeps it loaded.
    let attributes = add.attributes().unwrap();
    assert!(attributes.num_regs > 0 && attributes.local_bytes == 0);
    assert!(add.max_active_blocks_per_multiprocessor(256, 0).unwrap() > 0);

    let stream = stream();
    let grid = n.div_ceil(256) as u32;
    let (pa, pb, pc) = (da.as_device_ptr(), db.as_device_ptr(), dc.as_device_ptr());
    // SAFETY: three pointers to n floats and n, as the kernel takes; the buffers outlive it.
    unsafe { launch!(add<<<grid, 256, 0, stream>>>(pa, pb, pc, n as u32)) }.unwrap();
    stream.synchronize().unwrap();
    let mut c = vec![0.0; n];
    dc.copy_to(&mut c).unwrap();
    assert!(c.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| *c == a + b));

    // The same through bytes, into a copy, with asynchronous copies around it.
    let mut dd = DeviceBuffer::<f32>::zeroed(n).unwrap();
    dd.copy_from_buffer(&dc).unwrap();
    assert!(dd.as_host_vec().unwrap() == c);
    dd.set_8_async(0, &stream).unwrap();
    let (a8, b8) = (pa.as_raw().to_le_bytes(), pb.as_raw().to_le_bytes());
    let d8 = dd.as_device_ptr().as_raw().to_le_bytes();
    let params: [&[u8]; 4] = [&a8, &b8, &d8, &(n as u32).to_le_bytes()];
    let mut d = vec![0.0; n];
    // SAFETY: as above, and `d` is left alone until the stream is synchronised.
    unsafe {
        add.launch_bytes(&stream, &LaunchConfig::new(grid, 256), &params).unwrap();
        dd.async_copy_to(&mut d, &stream).unwrap();
    }
    stream.synchronize().unwrap();
    assert!(d == c);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn bad_launches_are_refused_before_the_driver() {
    let _context = cust::quick_init().unwrap();
    let module = Module::from_ptx(VECTOR_ADD, &[]).unwrap();
    let add = module.get_function("vector_add").unwrap();
    let (stream, null) = (stream(), DevicePointer::<f32>::null());
    // SAFETY: none of these reaches the device.
    let errors = unsafe {
        [
            launch!(add<<<(1, 70_000), 1, 0, stream>>>(null, null, null, 0u32)).unwrap_err(),
            launch!(add<<<1, 2048, 0, stream>>>(null, null, null, 0u32)).unwrap_err(),
            launch!(add<<<1, 1, 65_536, stream>>>(null, null, null, 0u32)).unwrap_err(),
        ]
    };
    for (error, value) in errors.iter().zip(["70000", "2048", "65536"]) {
        assert!(matches!(error, CudaError::InvalidArgument { .. }), "{error}");
        assert!(error.to_string().contains(value), "{error}");
    }
    // SAFETY: refused, as there is an argument too many.
    let error = unsafe { launch!(add<<<1, 1, 0, stream>>>(null, null, null, 0u32, 0u32)) };
    // Drivers before CUDA 12.4 cannot tell.
    if cust::CudaApiVersion::get().unwrap().major() >= 13 {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("is 5, must be 4"), "{text}");
    }
    let error = module.get_function("no_such_kernel").unwrap_err().to_string();
    assert!(error.contains("no_such_kernel"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn bad_ptx_shows_the_compilers_log() {
    let _context = cust::quick_init().unwrap();
    let broken = VECTOR_ADD.replace("add.f32", "frobnicate.f32");
    let error = Module::from_ptx(&broken, &[]).unwrap_err();
    let CudaError::Jit { log, .. } = &error else { panic!("{error}") };
    assert!(log.contains("frobnicate") || log.contains("ptxas"), "{error}");
    assert!(error.to_string().contains(log.lines().next().unwrap()));
    // Nothing is left broken behind it.
    Module::from_ptx(VECTOR_ADD, &[]).unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn shared_memory_over_48_kib() {
    let context = cust::quick_init().unwrap();
    let module = Module::from_ptx(SHARED_WORD, &[]).unwrap();
    let kernel = module.get_function("shared_word").unwrap();
    let stream = stream();
    let out = DeviceBuffer::<u32>::zeroed(1).unwrap();
    let most = context.limits().max_shared_per_block;
    let bytes = 64 * 1024;
    assert!(most >= bytes, "every supported GPU has {bytes} bytes, this one {most}");

    let pointer = out.as_device_ptr();
    // SAFETY: refused, as the limit was not raised.
    let refused =
        unsafe { launch!(kernel<<<1, 1, bytes, stream>>>(pointer, bytes - 4, 7u32)) }.unwrap_err();
    assert!(refused.to_string().contains("set_max_dynamic_shared"), "{refused}");
    let refused = kernel.set_max_dynamic_shared(most + 1).unwrap_err().to_string();
    assert!(refused.contains(&most.to_string()), "{refused}");

    for bytes in [bytes, most] {
        kernel.set_max_dynamic_shared(bytes).unwrap();
        // SAFETY: the last word lies inside the shared memory asked for; `out` outlives the kernel.
        unsafe { launch!(kernel<<<1, 1, bytes, stream>>>(pointer, bytes - 4, bytes)) }.unwrap();
        stream.synchronize().unwrap();
        assert_eq!(out.as_host_vec().unwrap(), [bytes]);
    }
    // A second look-up of the same kernel knows of it.
    let again = module.get_function("shared_word").unwrap();
    assert_eq!(again.attributes().unwrap().max_dynamic_shared_bytes, most);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn events_measure_time_and_order_streams() {
    let _context = cust::quick_init().unwrap();
    let (first, second) = (stream(), stream());
    let start = Event::new(EventFlags::DEFAULT).unwrap();
    let end = Event::new(EventFlags::DEFAULT).unwrap();
    let mut buffer = DeviceBuffer::<u8>::zeroed(256 << 20).unwrap();
    start.record(&first).unwrap();
    buffer.set_8_async(1, &first).unwrap();
    end.record(&first).unwrap();
    second.wait_event(&end).unwrap();
    buffer.set_8_async(2, &second).unwrap();
    second.synchronize().unwrap();
    end.synchronize().unwrap();
    assert_eq!(end.query().unwrap(), EventStatus::Ready);
    let ms = end.elapsed_ms(&start).unwrap();
    assert!(ms > 0.0 && ms < 10_000.0, "{ms} ms");
    assert!(end.elapsed(&start).unwrap().as_secs_f64() > 0.0);
    assert!(buffer.as_host_vec().unwrap().iter().all(|&byte| byte == 2));
    let never = Event::new(EventFlags::DEFAULT).unwrap();
    assert!(matches!(never.elapsed_ms(&start), Err(CudaError::Driver { .. })));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn oversize_allocations_say_how_much_there_is() {
    let context = cust::quick_init().unwrap();
    let all = context.device().total_memory().unwrap();
    for bytes in [all + 1, 1 << 62] {
        let error = DeviceBuffer::<u8>::uninitialized(bytes).unwrap_err();
        let CudaError::OutOfMemory { requested, free, total } = error else { panic!("{error}") };
        assert_eq!(requested, bytes as u64);
        assert!(free > 0 && free <= total && total <= all as u64);
    }
    DeviceBuffer::<u8>::zeroed(1 << 20).unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn device_and_context_describe_themselves() {
    let context = cust::quick_init().unwrap();
    let device = context.device();
    assert!(Device::num_devices().unwrap() >= 1);
    assert!(!device.name().unwrap().is_empty());
    assert!(device.compute_capability().unwrap() >= (7, 0));
    assert!(device.get_attribute(DeviceAttribute::MultiprocessorCount).unwrap() > 0);
    assert_ne!(device.uuid().unwrap(), [0; 16]);
    assert!(context.driver_version().unwrap().major() >= 12);
    let error = Device::get_device(4096).unwrap_err().to_string();
    assert!(error.contains("4096"), "{error}");
    let fresh = std::thread::spawn(|| DeviceBuffer::<u8>::zeroed(1).unwrap_err());
    assert_eq!(fresh.join().unwrap(), CudaError::NoContext);
    // A buffer made here may be read and freed elsewhere.
    let buffer = DeviceBuffer::from_slice(&[1u8, 2, 3]).unwrap();
    let elsewhere = std::thread::spawn(move || buffer.as_host_vec().unwrap());
    assert_eq!(elsewhere.join().unwrap(), [1, 2, 3]);
    context.synchronize().unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn clusters_and_tensor_maps_on_hopper() {
    let context = cust::quick_init().unwrap();
    if context.device().compute_capability().unwrap() < (9, 0) {
        return;
    }
    let module = Module::from_ptx(CLUSTER_SIZE, &[]).unwrap();
    let kernel = module.get_function("cluster_size").unwrap();
    let (stream, out) = (stream(), DeviceBuffer::<u32>::zeroed(8).unwrap());
    let config = LaunchConfig::new(8, 32).cluster((4, 1, 1));
    assert!(kernel.max_active_clusters(&config).unwrap() > 0);
    let pointer = out.as_device_ptr();
    // SAFETY: eight blocks write one word each of eight; `out` outlives the kernel.
    unsafe { launch!(kernel<<<8, 32, 0, stream, (4, 1, 1)>>>(pointer)) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(out.as_host_vec().unwrap(), [4; 8]);

    let tensor = DeviceBuffer::<half::f16>::zeroed(256 * 512).unwrap();
    let map = TensorMapBuilder::new(tensor.as_device_ptr())
        .dims(&[512, 256])
        .strides(&[1024])
        .box_dims(&[64, 128])
        .swizzle(Swizzle::B128)
        .build()
        .unwrap();
    assert_ne!(map.as_words(), &[0; 16]);
    let stored = DeviceBuffer::from_slice(&[map]).unwrap();
    assert_eq!(stored.as_host_vec().unwrap(), [map]);
}
