//! Handwritten kernels: right results, no findings, under several schedules, and their counters.

use ptx_emulator::{Launch, Memory, Module};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

const VECTOR_ADD: &str = "
.visible .entry vector_add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<2>; .reg .f32 %f<4>; .reg .b32 %r<6>; .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5]; ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}";

#[test]
fn vector_add() {
    let module = Module::parse(&format!("{HEAD}{VECTOR_ADD}")).unwrap();
    let n = 1000;
    let (a, b): (Vec<f32>, Vec<f32>) = (0..n).map(|i| (i as f32, 0.5 * i as f32)).unzip();
    let memory = Memory::new();
    let (a, b, c) = (memory.upload(&a), memory.upload(&b), memory.alloc(n * 4));
    let launch = Launch::new("vector_add").grid([8, 1, 1]).block([128, 1, 1]);
    let report = launch.arg(a).arg(b).arg(c).arg(n as u32).run(&module, &memory).unwrap();
    assert_eq!(report.findings, []);
    let out = memory.download::<f32>(c, n).unwrap();
    assert!(out.iter().enumerate().all(|(i, &v)| v == 1.5 * i as f32));
    // 31 full warps and one with 8 lanes: 4 sectors each, the last one 1.
    assert_eq!(report.counters.bytes.global_written, 4000);
    let stores = report.counters.global_sites.values().last().unwrap();
    assert_eq!((stores.requests, stores.sectors), (32, 31 * 4 + 1));
    assert_eq!(report.counters.divergent_branches, 1);
}

/// A 32x32 tile through shared memory; `pitch` is the row pitch in words.
fn transpose(pitch: usize) -> String {
    format!(
        "{HEAD}
.visible .entry transpose(.param .u64 from, .param .u64 to)
{{
    .reg .b32 %r<12>; .reg .b64 %rd<8>;
    .shared .align 4 .b8 tile[{bytes}];
    ld.param.u64 %rd1, [from]; ld.param.u64 %rd2, [to];
    mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y;
    mad.lo.u32 %r3, %r2, 32, %r1;
    mul.wide.u32 %rd3, %r3, 4;
    add.s64 %rd4, %rd1, %rd3;
    ld.global.u32 %r4, [%rd4];
    mov.u32 %r5, tile;
    mad.lo.u32 %r6, %r2, {pitch}, %r1; shl.b32 %r6, %r6, 2; add.u32 %r6, %r6, %r5;
    st.shared.u32 [%r6], %r4;
    bar.sync 0;
    mad.lo.u32 %r7, %r1, {pitch}, %r2; shl.b32 %r7, %r7, 2; add.u32 %r7, %r7, %r5;
    ld.shared.u32 %r8, [%r7];
    add.s64 %rd5, %rd2, %rd3;
    st.global.u32 [%rd5], %r8;
    ret;
}}",
        bytes = 32 * pitch * 4
    )
}

#[test]
fn transpose_through_shared_memory() {
    for (pitch, conflicts) in [(32, 32 * 31), (33, 0)] {
        let module = Module::parse(&transpose(pitch)).unwrap();
        for seed in 0..8 {
            let memory = Memory::new();
            let from = memory.upload(&(0..1024u32).collect::<Vec<_>>());
            let to = memory.alloc(4096);
            let launch = Launch::new("transpose").block([32, 32, 1]).arg(from).arg(to).seed(seed);
            let report = launch.run(&module, &memory).unwrap();
            assert_eq!(report.findings, []);
            let out = memory.download::<u32>(to, 1024).unwrap();
            assert!(out.iter().enumerate().all(|(i, &v)| v as usize == i % 32 * 32 + i / 32));
            assert_eq!(report.counters.bank_conflicts(), conflicts);
            assert_eq!(report.counters.barriers, 1);
        }
    }
}

#[test]
fn block_reduction_with_shuffles() {
    let text = format!(
        "{HEAD}
.visible .entry reduce(.param .u64 from, .param .u64 to)
{{
    .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .pred %p<4>;
    .shared .align 4 .b32 partial[32];
    ld.param.u64 %rd1, [from]; ld.param.u64 %rd2, [to];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4; add.s64 %rd4, %rd1, %rd3;
    ld.global.u32 %r2, [%rd4];
    mov.u32 %r3, 16;
LOOP:
    shfl.sync.bfly.b32 %r4, %r2, %r3, 31, 0xffffffff;
    add.u32 %r2, %r2, %r4;
    shr.u32 %r3, %r3, 1;
    setp.ne.u32 %p1, %r3, 0;
    @%p1 bra LOOP;
    and.b32 %r5, %r1, 31; shr.u32 %r6, %r1, 5;
    setp.ne.u32 %p2, %r5, 0;
    shl.b32 %r7, %r6, 2; mov.u32 %r8, partial; add.u32 %r7, %r7, %r8;
    @!%p2 st.shared.u32 [%r7], %r2;
    bar.sync 0;
    setp.ge.u32 %p3, %r1, 8;
    @%p3 bra END;
    shl.b32 %r9, %r1, 2; add.u32 %r9, %r9, %r8;
    ld.shared.u32 %r10, [%r9];
    redux.sync.add.u32 %r11, %r10, 0xff;
    setp.ne.u32 %p3, %r1, 0;
    @!%p3 st.global.u32 [%rd2], %r11;
END:
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    for seed in 0..8 {
        let memory = Memory::new();
        let from = memory.upload(&(0..256u32).collect::<Vec<_>>());
        let to = memory.alloc(4);
        let launch = Launch::new("reduce").block([256, 1, 1]).arg(from).arg(to).seed(seed);
        let report = launch.run(&module, &memory).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(memory.download::<u32>(to, 1).unwrap(), [255 * 128]);
    }
}

#[test]
fn histogram_with_atomics() {
    let text = format!(
        "{HEAD}
.visible .entry histogram(.param .u64 from, .param .u64 bins, .param .u32 n)
{{
    .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
    .shared .align 4 .b32 local_bins[64];
    ld.param.u64 %rd1, [from]; ld.param.u64 %rd2, [bins]; ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x; mov.u32 %r3, local_bins;
    shl.b32 %r4, %r2, 2; add.u32 %r4, %r4, %r3;
    setp.lt.u32 %p1, %r2, 64;
    @%p1 st.shared.u32 [%r4], 0;
    bar.sync 0;
    mov.u32 %r5, %ctaid.x; mov.u32 %r6, %ntid.x; mov.u32 %r7, %nctaid.x;
    mad.lo.u32 %r8, %r5, %r6, %r2;
    mul.lo.u32 %r9, %r6, %r7;
LOOP:
    setp.ge.u32 %p2, %r8, %r1;
    @%p2 bra FLUSH;
    cvt.u64.u32 %rd3, %r8; add.s64 %rd4, %rd1, %rd3;
    ld.global.u8 %r10, [%rd4];
    and.b32 %r10, %r10, 63; shl.b32 %r10, %r10, 2; add.u32 %r10, %r10, %r3;
    red.shared.add.u32 [%r10], 1;
    add.u32 %r8, %r8, %r9;
    bra LOOP;
FLUSH:
    bar.sync 0;
    @!%p1 bra END;
    ld.shared.u32 %r11, [%r4];
    mul.wide.u32 %rd5, %r2, 4; add.s64 %rd6, %rd2, %rd5;
    red.global.add.u32 [%rd6], %r11;
END:
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    let n = 10_007;
    let data: Vec<u8> = (0..n).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut expected = vec![0u32; 64];
    data.iter().for_each(|v| expected[(v & 63) as usize] += 1);
    for seed in 0..8 {
        let memory = Memory::new();
        let (from, bins) = (memory.upload(&data), memory.upload(&[0u32; 64]));
        let launch = Launch::new("histogram").grid([4, 1, 1]).block([96, 1, 1]).seed(seed);
        let report = launch.arg(from).arg(bins).arg(n).run(&module, &memory).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(memory.download::<u32>(bins, 64).unwrap(), expected);
    }
}

#[test]
fn divergent_lanes_meet_again() {
    // Collatz steps per lane: a loop with different trip counts and a branch inside; the ballot after
    // it needs all lanes back.
    let text = format!(
        "{HEAD}
.visible .entry collatz(.param .u64 out)
{{
    .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .pred %p<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x; add.u32 %r2, %r1, 1; mov.u32 %r3, 0;
LOOP:
    setp.eq.u32 %p1, %r2, 1;
    @%p1 bra DONE;
    and.b32 %r4, %r2, 1; setp.eq.u32 %p2, %r4, 0;
    @%p2 bra EVEN;
    mad.lo.u32 %r2, %r2, 3, 1;
    bra NEXT;
EVEN:
    shr.u32 %r2, %r2, 1;
NEXT:
    add.u32 %r3, %r3, 1;
    bra LOOP;
DONE:
    activemask.b32 %r5;
    mul.wide.u32 %rd2, %r1, 8; add.s64 %rd3, %rd1, %rd2;
    st.global.v2.u32 [%rd3], {{%r3, %r5}};
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    let memory = Memory::new();
    let out = memory.alloc(32 * 8);
    let report = Launch::new("collatz").arg(out).run(&module, &memory).unwrap();
    assert_eq!(report.findings, []);
    for (i, row) in memory.download::<u32>(out, 64).unwrap().chunks(2).enumerate() {
        let (mut value, mut steps) = (i as u32 + 1, 0);
        while value != 1 {
            value = if value % 2 == 0 { value / 2 } else { 3 * value + 1 };
            steps += 1;
        }
        assert_eq!(row, [steps, u32::MAX]);
    }
    assert!(report.counters.divergent_branches > 10);
}

#[test]
fn indexed_branch() {
    let text = format!(
        "{HEAD}
.visible .entry pick(.param .u64 out)
{{
    .reg .b32 %r<12>; .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 3;
    mul.wide.u32 %rd2, %r1, 4; add.s64 %rd3, %rd1, %rd2;
    TARGETS: .branchtargets A, B, C, B;
    brx.idx %r2, TARGETS;
A:  mov.u32 %r3, 10; bra END;
B:  mov.u32 %r3, 20; bra END;
C:  mov.u32 %r3, 30;
END:
    activemask.b32 %r4; not.b32 %r4, %r4; add.u32 %r3, %r3, %r4;
    st.global.u32 [%rd3], %r3;
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    let memory = Memory::new();
    let out = memory.alloc(128);
    let report = Launch::new("pick").arg(out).run(&module, &memory).unwrap();
    assert_eq!(report.findings, []);
    let expected: Vec<u32> = (0..32).map(|i| [10, 20, 30, 20][i % 4]).collect();
    assert_eq!(memory.download::<u32>(out, 32).unwrap(), expected);
}

#[test]
fn module_variables_keep_their_values() {
    let text = format!(
        "{HEAD}
.visible .global .align 4 .u32 calls = 5;
.const .align 4 .b32 table[4] = {{1, 2, 3, 4}};
.visible .global .u64 where = generic(table)+8;
.visible .entry count(.param .u64 out)
{{
    .reg .b32 %r<6>; .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [out];
    atom.global.add.u32 %r1, [calls], 1;
    ld.const.u32 %r2, [table+4];
    ld.global.u64 %rd2, [where];
    ld.u32 %r3, [%rd2];
    st.global.v2.u32 [%rd1], {{%r1, %r2}};
    st.global.u32 [%rd1+8], %r3;
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    let memory = Memory::new();
    let out = memory.alloc(16);
    let launch = Launch::new("count").block([1, 1, 1]).arg(out);
    for expected in [5, 6] {
        let report = launch.run(&module, &memory).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(memory.download::<u32>(out, 3).unwrap(), [expected, 2, 3]);
    }
}

#[test]
fn named_barriers_between_two_warps() {
    // Warp 0 produces, warp 1 consumes; arrive does not wait, sync does.
    let text = format!(
        "{HEAD}
.visible .entry pass(.param .u64 out)
{{
    .reg .b32 %r<10>; .reg .b64 %rd<6>; .reg .pred %p<3>;
    .shared .align 4 .b32 box[32];
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 31;
    shl.b32 %r3, %r2, 2; mov.u32 %r4, box; add.u32 %r3, %r3, %r4;
    setp.ge.u32 %p1, %r1, 32;
    @%p1 bra CONSUME;
    mov.u32 %r5, 3;
PRODUCE:
    bar.sync 2, 64;
    st.shared.u32 [%r3], %r5;
    bar.arrive 1, 64;
    sub.u32 %r5, %r5, 1;
    setp.ne.u32 %p2, %r5, 0;
    @%p2 bra PRODUCE;
    ret;
CONSUME:
    mov.u32 %r6, 0; mov.u32 %r7, 3;
AGAIN:
    bar.arrive 2, 64;
    bar.sync 1, 64;
    ld.shared.u32 %r8, [%r3];
    add.u32 %r6, %r6, %r8;
    sub.u32 %r7, %r7, 1;
    setp.ne.u32 %p2, %r7, 0;
    @%p2 bra AGAIN;
    mul.wide.u32 %rd2, %r2, 4; add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r6;
    ret;
}}"
    );
    let module = Module::parse(&text).unwrap();
    for seed in 0..8 {
        let memory = Memory::new();
        let out = memory.alloc(128);
        let launch = Launch::new("pass").block([64, 1, 1]).arg(out).seed(seed);
        let report = launch.run(&module, &memory).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(memory.download::<u32>(out, 32).unwrap(), [6; 32]);
        assert_eq!(report.counters.barriers, 6);
    }
}
