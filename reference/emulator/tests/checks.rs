//! Broken kernels are caught, and the same kernels unbroken are clean.

use ptx_emulator::{Error, Finding, FindingKind, Launch, Memory, Module, Report, Stop};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// Runs entry `k` of `body` with one parameter, a buffer of 256 words that hold 0, 1, 2, ...
fn run(body: &str, threads: u32, seed: u64) -> Result<(Report, Vec<u32>), Error> {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 data) {{
            .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .pred %p<8>; .reg .f32 %f<8>;
            .shared .align 16 .b8 tile[1024];
            ld.param.u64 %rd1, [data];
            mov.u32 %r1, %tid.x; mov.u32 %r2, tile;
            shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3;
            cvt.u64.u32 %rd2, %r3; add.s64 %rd3, %rd1, %rd2;
            {body}
            ret;
        }}"
    );
    let module = Module::parse(&text)?;
    let memory = Memory::new();
    let data = memory.upload(&(0..256u32).collect::<Vec<_>>());
    let launch = Launch::new("k").block([threads, 1, 1]).arg(data).seed(seed);
    let report = launch.instruction_limit(1 << 22).run(&module, &memory)?;
    Ok((report, memory.download(data, 256)?))
}

fn findings(body: &str, threads: u32) -> Vec<Finding> {
    run(body, threads, 0).unwrap().0.findings
}

/// The kinds found; a race may show at both of its accesses.
fn kinds(body: &str, threads: u32) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = findings(body, threads).iter().map(|f| f.kind).collect();
    kinds.dedup();
    kinds
}

const EXCHANGE: &str = "
    ld.global.u32 %r5, [%rd3];
    st.shared.u32 [%r4], %r5;
    bar.sync 0;
    xor.b32 %r6, %r3, 0x80; add.u32 %r6, %r6, %r2;
    ld.shared.u32 %r7, [%r6];
    st.global.u32 [%rd3], %r7;";

#[test]
fn missing_barrier_is_a_race() {
    for seed in 0..8 {
        let (report, data) = run(EXCHANGE, 256, seed).unwrap();
        assert_eq!(report.findings, []);
        assert!(data.iter().enumerate().all(|(i, &v)| v as usize == i ^ 32));
        let (report, _) = run(&EXCHANGE.replace("bar.sync 0;", ""), 256, seed).unwrap();
        let race = report.findings.iter().find(|f| f.kind == FindingKind::Race).unwrap();
        assert!(race.message.contains("unordered after"), "{race}");
        // The data is poison or not, depending on the order of the warps; the race is always there.
        assert_eq!(race.place.entry, "k");
        assert!(race.place.lane.is_some() && race.place.line > 5);
    }
}

#[test]
fn write_after_read_and_write_after_write_are_races() {
    let reuse = format!("{EXCHANGE} st.shared.u32 [%r4], 1;");
    assert_eq!(kinds(&reuse, 64), [FindingKind::Race]);
    assert_eq!(
        kinds(&reuse.replace("st.shared.u32 [%r4], 1", "bar.sync 0; st.shared.u32 [%r4], 1"), 64),
        []
    );
    let all_write_one = "st.shared.u32 [%r2], %r1;";
    assert_eq!(kinds(all_write_one, 64), [FindingKind::Race]);
    assert_eq!(kinds(all_write_one, 32), []);
    // Neighbouring halves of a word are different bytes.
    let halves =
        "shr.u32 %r5, %r1, 5; shl.b32 %r5, %r5, 1; add.u32 %r5, %r5, %r2; st.shared.u16 [%r5], 7;";
    assert_eq!(kinds(halves, 64), []);
}

#[test]
fn lanes_of_a_warp_need_a_warp_barrier() {
    let exchange = "
        st.shared.u32 [%r4], %r1;
        bar.warp.sync -1;
        xor.b32 %r6, %r3, 4; add.u32 %r6, %r6, %r2;
        ld.shared.u32 %r7, [%r6];
        bar.warp.sync 0xffffffff;
        st.shared.u32 [%r4], %r7;
        ld.shared.u32 %r8, [%r4];";
    assert_eq!(kinds(exchange, 64), []);
    assert_eq!(kinds(&exchange.replace("bar.warp.sync -1;", ""), 64), [FindingKind::Race]);
    let message = &findings(&exchange.replace("bar.warp.sync 0xffffffff;", ""), 64)[0].message;
    assert!(message.contains("read by another lane of its warp"), "{message}");
}

#[test]
fn atomics_and_flags_order_shared_memory() {
    let counted = "
        setp.ne.u32 %p1, %r1, 0;
        @%p1 bra WAIT;
        st.shared.u32 [%r2], 0;
    WAIT:
        bar.sync 0;
        atom.shared.add.u32 %r5, [%r2], 1;
        bar.sync 0;
        ld.shared.u32 %r6, [%r2];
        st.global.u32 [%rd3], %r6;";
    for seed in 0..8 {
        let (report, data) = run(counted, 128, seed).unwrap();
        assert_eq!(report.findings, []);
        assert!(data[..128].iter().all(|&v| v == 128));
    }
    // Warp 1 spins on a flag that warp 0 releases behind its data.
    let flag = "
        setp.eq.u32 %p1, %r1, 0;
        @%p1 st.shared.u32 [%r2], 0;
        bar.sync 0;
        setp.ge.u32 %p2, %r1, 32;
        @%p2 bra SPIN;
        st.shared.u32 [%r4+64], %r1;
        bar.warp.sync -1;
        @%p1 st.release.cta.shared.u32 [%r2], 1;
        ret;
    SPIN:
        ld.acquire.cta.shared.u32 %r5, [%r2];
        setp.eq.u32 %p3, %r5, 0;
        @%p3 bra SPIN;
        ld.shared.u32 %r6, [%r4+-64];
        st.global.u32 [%rd3], %r6;";
    for seed in 0..8 {
        let (report, data) = run(flag, 64, seed).unwrap();
        assert_eq!(report.findings, [], "seed {seed}");
        assert_eq!(data[32..64], (0..32).collect::<Vec<_>>()[..]);
    }
}

#[test]
fn poison_is_tracked_to_where_it_matters() {
    // Loading and moving it is allowed, storing it to shared memory too.
    assert_eq!(
        kinds("ld.shared.u32 %r5, [%r4]; mov.b32 %r6, %r5; st.shared.u32 [%r4], %r6;", 32),
        []
    );
    assert_eq!(
        kinds("ld.shared.u32 %r5, [%r4]; add.u32 %r6, %r5, 1; st.global.u32 [%rd3], %r6;", 32),
        [FindingKind::Poison]
    );
    assert_eq!(kinds("add.u32 %r6, %r5, 1; st.global.u32 [%rd3], %r6;", 32), [FindingKind::Poison]);
    assert_eq!(kinds("setp.eq.u32 %p1, %r5, 1; @%p1 bra L; L:", 32), [FindingKind::Poison]);
    assert_eq!(
        kinds(
            "ld.shared.u32 %r5, [%r2]; and.b32 %r5, %r5, 0; cvt.u64.u32 %rd5, %r5; add.s64 %rd5, %rd5, %rd3; ld.global.u32 %r6, [%rd5];",
            32
        ),
        [FindingKind::Poison]
    );
    // Chosen away: no poison left.
    let chosen =
        "setp.lt.u32 %p1, %r1, 99; selp.u32 %r6, %r1, %r5, %p1; st.global.u32 [%rd3], %r6;";
    assert_eq!(kinds(chosen, 32), []);
    // One byte of a word.
    let byte = "st.shared.u8 [%r4], 1; st.shared.u8 [%r4+1], 1; st.shared.u8 [%r4+2], 1; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd3], %r5;";
    assert_eq!(kinds(byte, 32), [FindingKind::Poison]);
    let whole = format!("st.shared.u8 [%r4+3], 1; {byte}");
    assert_eq!(kinds(&whole, 32), []);
    let message = &findings("div.u32 %r5, %r1, 0; st.global.u32 [%rd3], %r5;", 32)[0].message;
    assert!(message.contains("nothing initialised"));
}

#[test]
fn bad_addresses() {
    let past = findings("ld.global.u32 %r5, [%rd3+1000];", 32);
    assert_eq!(past.len(), 1);
    assert_eq!((past[0].kind, past[0].count), (FindingKind::OutOfBounds, 26));
    assert!(past[0].message.contains("offset 1024 of buffer"), "{}", past[0]);
    assert_eq!(past[0].place.lane, Some(6));
    assert!(findings("st.global.u32 [%rd3+-4], %r1;", 32)[0].message.contains("4 before buffer"));
    assert_eq!(kinds("ld.global.u32 %r5, [%rd3+2];", 32), [FindingKind::Misaligned]);
    assert_eq!(
        kinds("ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd3];", 8),
        [FindingKind::Misaligned]
    );
    assert_eq!(kinds("ld.shared.u32 %r5, [%r4+1000];", 32), [FindingKind::OutOfBounds]);
    assert_eq!(kinds("st.shared.u32 [%r4+1], 0;", 1), [FindingKind::Misaligned]);
    assert_eq!(kinds("st.u32 [%rd2], %r1;", 32), [FindingKind::OutOfBounds]);
    assert_eq!(kinds("ld.param.u64 %rd5, [data+8];", 1), [FindingKind::OutOfBounds]);
}

#[test]
fn constants_are_read_only() {
    let text = format!(
        "{HEAD}.const .u32 c = 3;
        .visible .entry k() {{ .reg .b64 %rd<2>; mov.u64 %rd1, c; st.u32 [%rd1], 4; ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let report = Launch::new("k").block([1, 1, 1]).run(&module, &Memory::new()).unwrap();
    assert_eq!(report.findings[0].kind, FindingKind::ReadOnly);
}

#[test]
fn barriers() {
    let half = "setp.lt.u32 %p1, %r1, 16; @%p1 bra L; bar.sync 0; L:";
    assert!(kinds(half, 32).contains(&FindingKind::Divergence));
    let counts = "setp.lt.u32 %p1, %r1, 32; @%p1 bra L; bar.sync 1, 64; ret; L: bar.sync 1, 96;";
    let outcome = run(counts, 64, 0);
    let report = match outcome {
        Ok((report, _)) => report,
        Err(Error::Stopped { report, .. }) => *report,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(report.findings[0].kind, FindingKind::Barrier);
    assert_eq!(kinds("bar.arrive 3, 64;", 32), [FindingKind::Barrier]);
    assert_eq!(kinds("bar.sync 16;", 32), [FindingKind::Illegal]);
    assert_eq!(kinds("bar.sync 1, 40;", 32), [FindingKind::Illegal]);
    // Warps that have exited no longer count.
    assert_eq!(kinds("setp.lt.u32 %p1, %r1, 32; @%p1 bra L; bar.sync 0; L:", 96), []);
}

#[test]
fn deadlock_says_where_every_warp_stands() {
    let body = "setp.lt.u32 %p1, %r1, 32; @%p1 bra L; bar.sync 1, 64; ret; L: bar.sync 2, 64;";
    for seed in 0..8 {
        let Err(Error::Stopped { cause: Stop::Deadlock(standing), .. }) = run(body, 64, seed)
        else {
            panic!("no deadlock");
        };
        let mut at: Vec<_> =
            standing.iter().map(|s| (s.place.warp, s.waits_for, s.lanes)).collect();
        at.sort_unstable();
        assert_eq!(at, [(0, "barrier 2", u32::MAX), (1, "barrier 1", u32::MAX)]);
    }
    // Lanes that never come to a shuffle of the whole warp.
    let shuffle = "
        setp.lt.u32 %p1, %r1, 16; @%p1 bra L;
        shfl.sync.idx.b32 %r5, %r1, 0, 31, -1;
        L: shfl.sync.idx.b32 %r6, %r1, 0, 31, -1;";
    assert!(matches!(run(shuffle, 32, 0), Err(Error::Stopped { cause: Stop::Deadlock(_), .. })));
}

#[test]
fn endless_loops_and_traps_end() {
    let Err(Error::Stopped { cause: Stop::InstructionLimit(_), .. }) = run("L: bra L;", 32, 0)
    else {
        panic!("no limit");
    };
    let trap = "setp.eq.u32 %p1, %r1, 37; @%p1 bra L; ret; L: trap;";
    let Err(Error::Stopped { cause: Stop::Trap(place), .. }) = run(trap, 64, 0) else {
        panic!("no trap");
    };
    assert_eq!((place.warp, place.lane), (1, Some(5)));
}

#[test]
fn stops_at_the_first_finding_if_asked() {
    let text = format!(
        "{HEAD}.visible .entry k() {{ .reg .b32 %r<4>; .shared .b32 x;
            bar.sync 17; ld.shared.u32 %r1, [x+400]; ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let launch = Launch::new("k").stop_at_first_finding(true);
    let Err(Error::Stopped { cause: Stop::FirstFinding(finding), report }) =
        launch.run(&module, &Memory::new())
    else {
        panic!("did not stop");
    };
    assert_eq!(finding.kind, FindingKind::Illegal);
    assert_eq!(report.findings, [*finding]);
}

#[test]
fn source_lines_come_from_loc() {
    let text = format!(
        "{HEAD}.visible .entry k() {{ .reg .b32 %r<4>; .shared .b32 x;
            .loc 1 42 9
            ld.shared.u32 %r1, [x+400];
            ret; }}
        .file 1 \"src/kernel.rs\""
    );
    let module = Module::parse(&text).unwrap();
    let report = Launch::new("k").run(&module, &Memory::new()).unwrap();
    let place = &report.findings[0].place;
    assert_eq!(place.source, Some(("src/kernel.rs".into(), 42)));
    assert_eq!(place.line, 6);
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u32 a, .param .align 8 .b8 b[24]) .maxntid 64, 1, 1 {{ ret; }}
        .visible .entry c() .reqnctapercluster 2, 1, 1 {{ ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let memory = Memory::new();
    let base = Launch::new("k").arg(1u32).arg_bytes(&[0; 24]);
    base.run(&module, &memory).unwrap();
    base.clone().block([64, 1, 1]).run(&module, &memory).unwrap();
    let refused = |launch: Launch| {
        matches!(launch.run(&module, &memory), Err(Error::Launch(_) | Error::UnknownEntry(_)))
    };
    assert!(refused(base.clone().block([65, 1, 1])));
    assert!(refused(base.clone().block([0, 1, 1])));
    assert!(refused(base.clone().shared_bytes(300 << 10)));
    assert!(refused(base.clone().arg(1u32)));
    assert!(refused(Launch::new("k").arg(1u64).arg_bytes(&[0; 24])));
    assert!(refused(Launch::new("nothing")));
    assert!(refused(Launch::new("c").grid([3, 1, 1])));
    Launch::new("c").grid([4, 1, 1]).run(&module, &memory).unwrap();
}

#[test]
fn addresses_are_never_used_twice() {
    let memory = Memory::new();
    let first = memory.upload(&[1u32, 2, 3]);
    memory.free(first);
    let second = memory.alloc(12);
    assert_ne!(first, second);
    assert!(matches!(memory.download::<u32>(first, 3), Err(Error::Address { .. })));
    assert!(matches!(memory.download::<u32>(second, 4), Err(Error::Address { .. })));
    assert_eq!(memory.poisoned(second, 12).unwrap(), 12);
    memory.write(second + 4, &[5u32]).unwrap();
    memory.fill(second, 0xff, 2).unwrap();
    assert_eq!(memory.poisoned(second, 12).unwrap(), 6);
    assert_eq!(memory.download::<u32>(second, 3).unwrap(), [0xffff, 5, 0]);
}

#[test]
fn many_small_blocks_fit_a_small_instruction_limit() {
    let text = format!("{HEAD}.visible .entry k() {{ ret; }}");
    let module = Module::parse(&text).unwrap();
    let launch = Launch::new("k").grid([3000, 1, 1]).block([64, 1, 1]);
    let report = launch.clone().instruction_limit(1 << 20).run(&module, &Memory::new()).unwrap();
    assert_eq!(report.counters.instructions, 6000);
    let stopped = launch.instruction_limit(100).run(&module, &Memory::new());
    assert!(matches!(stopped, Err(Error::Stopped { cause: Stop::InstructionLimit(_), .. })));
}

#[test]
fn no_address_is_too_far_off() {
    let places: [u64; 9] = [
        0,
        8,
        u64::MAX,
        u64::MAX - 3,
        0x2000_0000_0000 + 0xffff_ffff,
        0x1000_0000_0000 + 0xffff_fff8,
        0x3000_0000_0000 + 0xffff_fff8,
        0x7000_0000_0000 - 8,
        1 << 63,
    ];
    let accesses = [
        "ld{}.v4.u32 {%r5, %r6, %r7, %r8}, [%rd5+16];",
        "ld{}.u8 %r5, [%rd5];",
        "st{}.v2.u64 [%rd5], {%rd1, %rd1};",
        "st.release.gpu{}.u32 [%rd5+-4], 1;",
        "ld.acquire.gpu{}.u32 %r5, [%rd5];",
        "atom{}.add.u32 %r5, [%rd5], 1;",
        "red{}.add.u64 [%rd5], 1;",
    ];
    for place in places {
        for access in accesses {
            for space in ["", ".global", ".shared", ".local"] {
                let access = access.replace("{}", space);
                match run(&format!("mov.u64 %rd5, {place:#x}; {access}"), 1, 0) {
                    Ok((report, _)) => {
                        let inside = space == ".shared" && place <= 8;
                        assert!(inside || !report.findings.is_empty(), "{place:#x} {access}");
                    }
                    // Atomics on local memory do not exist.
                    Err(Error::Stopped { cause: Stop::Unsupported { .. }, .. }) => {}
                    Err(other) => panic!("{other}: {access}"),
                }
            }
        }
    }
    let text =
        format!("{HEAD}.visible .entry k() .maxntid 4294967295, 4294967295, 4294967295 {{ ret; }}");
    let module = Module::parse(&text).unwrap();
    let launch =
        Launch::new("k").grid([u32::MAX; 3]).cluster([u32::MAX; 3]).shared_bytes(usize::MAX);
    assert!(matches!(launch.run(&module, &Memory::new()), Err(Error::Launch(_))));
    assert!(Memory::new().download::<u64>(0, usize::MAX).is_err());
}
