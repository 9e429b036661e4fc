//! The emulator in one page: PTX text, plain Vecs, counters, findings.
//!
//!     cargo run -p ptx_emulator --example vector_add

use ptx_emulator::{Launch, Memory, Module};

/// c[i] = a[i] + b[i], 128 threads a block. The bounds check is off by one: see what comes of it.
const PTX: &str = "
.version 8.0
.target sm_80
.address_size 64

.visible .entry vector_add(
    .param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p; .reg .f32 %f<4>; .reg .b32 %r<6>; .reg .b64 %rd<8>;

    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.gt.u32 %p, %r5, %r1;         // should be setp.ge
    @%p bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd1, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    add.s64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n = 1000;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let b = vec![0.5f32; n];

    let module = Module::parse(PTX)?;
    let memory = Memory::new();
    let (a, b, c) = (memory.upload(&a), memory.upload(&b), memory.alloc(4 * n));
    let report = Launch::new("vector_add")
        .grid([n.div_ceil(128) as u32, 1, 1])
        .block([128, 1, 1])
        .arg(a)
        .arg(b)
        .arg(c)
        .arg(n as u32)
        .run(&module, &memory)?;

    let sums: Vec<f32> = memory.download(c, n)?;
    println!("c = [{}, {}, ... {}]", sums[0], sums[1], sums[n - 1]);

    let counters = &report.counters;
    println!("{} warp instructions:", counters.instructions);
    for (family, count) in &counters.families {
        println!("  {family:8} {count}");
    }
    println!("{:.2} sectors per global request", counters.sectors_per_request());
    println!(
        "{} bytes read, {} written",
        counters.bytes.global_read, counters.bytes.global_written
    );

    println!("{} findings:", report.findings.len());
    for finding in &report.findings {
        println!("  {finding}");
    }
    Ok(())
}
