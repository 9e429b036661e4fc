//! Values of single instructions, checked by hand (or against the host's arithmetic).

use ptx_emulator::{Launch, Memory, Module};

/// Runs `body` in one thread and returns register `%d0` (64 bits), or what `%r0` or `%h0` hold.
fn run(body: &str, store: &str) -> u64 {
    let text = format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n
         .visible .entry test(.param .u64 out) {{
           .reg .b16 %h<16>; .reg .b32 %r<16>; .reg .b64 %d<16>; .reg .pred %p<8>; .reg .b64 %out;
           ld.param.u64 %out, [out];
           {body}
           {store}
           ret;
         }}"
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{body}"));
    let memory = Memory::new();
    let out = memory.upload(&[0u64]);
    let report = Launch::new("test").block([1, 1, 1]).arg(out).run(&module, &memory).unwrap();
    assert!(report.findings.is_empty(), "{body}: {:?}", report.findings);
    memory.download::<u64>(out, 1).unwrap()[0]
}

fn r(body: &str) -> u32 {
    run(body, "st.global.u32 [%out], %r0;") as u32
}

fn d(body: &str) -> u64 {
    run(body, "st.global.u64 [%out], %d0;")
}

fn h(body: &str) -> u16 {
    run(body, "st.global.u16 [%out], %h0;") as u16
}

fn p(body: &str) -> bool {
    run(&format!("{body} selp.u32 %r0, 1, 0, %p0;"), "st.global.u32 [%out], %r0;") == 1
}

fn f(body: &str) -> f32 {
    f32::from_bits(r(body))
}

/// A constant in a register: `c("%r1", x)`.
fn c(reg: &str, value: u64) -> String {
    let bits = match &reg[1..2] {
        "h" => 16,
        "r" => 32,
        _ => 64,
    };
    format!("mov.b{bits} {reg}, {value};")
}

fn cf(reg: &str, value: f32) -> String {
    c(reg, value.to_bits().into())
}

#[test]
fn integer() {
    assert_eq!(r("add.s32 %r0, 5, -7;") as i32, -2);
    assert_eq!(r("mov.b32 %r1, 0x7fffffff; add.sat.s32 %r0, %r1, 1;"), 0x7fff_ffff);
    assert_eq!(r("mov.b32 %r1, 0x80000000; sub.sat.s32 %r0, %r1, 1;"), 0x8000_0000);
    assert_eq!(h("mov.b16 %h1, 65535; add.u16 %h0, %h1, 2;"), 1);
    assert_eq!(d("mul.lo.s64 %d0, -3, 7;") as i64, -21);
    assert_eq!(d("mul.hi.s64 %d0, -3, 7;") as i64, -1);
    assert_eq!(d("mul.hi.u64 %d0, -3, 7;"), 6);
    assert_eq!(r("mul.hi.u32 %r0, 0xffffffff, 0xffffffff;"), 0xffff_fffe);
    assert_eq!(r("mul.hi.s32 %r0, -1, -1;"), 0);
    assert_eq!(d("mul.wide.s32 %d0, -2, 3;") as i64, -6);
    assert_eq!(d("mul.wide.u32 %d0, -2, 3;"), 3 * 0xffff_fffe);
    assert_eq!(r("mul.wide.u16 %r0, 65535, 65535;"), 65535 * 65535);
    assert_eq!(r("mad.lo.s32 %r0, 7, -3, 30;"), 9);
    assert_eq!(d("mad.wide.u32 %d0, 7, 3, 30;"), 51);
    assert_eq!(r("mad.hi.u32 %r0, 0x80000000, 6, 1;"), 4);
    assert_eq!(r("div.s32 %r0, -7, 2;") as i32, -3);
    assert_eq!(r("rem.s32 %r0, -7, 2;") as i32, -1);
    assert_eq!(r("div.u32 %r0, -7, 2;"), 0x7fff_fffc);
    assert_eq!(r("mov.b32 %r1, 0x80000000; div.s32 %r0, %r1, -1;"), 0x8000_0000);
    assert_eq!(r("abs.s32 %r0, -7;"), 7);
    assert_eq!(h("neg.s16 %h0, 7;") as i16, -7);
    assert_eq!(r("min.s32 %r0, -7, 2;") as i32, -7);
    assert_eq!(r("min.u32 %r0, -7, 2;"), 2);
    assert_eq!(r("max.u32 %r0, -7, 2;") as i32, -7);
    assert_eq!(r("sad.s32 %r0, -7, 2, 100;"), 109);
    assert_eq!(r("mul24.lo.u32 %r0, 0x01000002, 3;"), 6);
}

#[test]
fn carries() {
    let sum = "add.cc.u32 %r1, 0xffffffff, 1; addc.u32 %r0, 5, 6;";
    assert_eq!(r(sum), 12);
    let no = "add.cc.u32 %r1, 1, 1; addc.u32 %r0, 5, 6;";
    assert_eq!(r(no), 11);
    let borrow = "sub.cc.u32 %r1, 0, 1; subc.u32 %r0, 5, 2;";
    assert_eq!(r(borrow), 2);
    let mad = "mad.lo.cc.u32 %r1, 0x10000, 0x10000, 0; madc.hi.u32 %r0, 0x10000, 0x10000, 1;";
    assert_eq!(r(mad), 2);
    let carried = "mad.lo.cc.u32 %r1, 3, 1, 0xffffffff; madc.hi.u32 %r0, 3, 1, 0;";
    assert_eq!(r(carried), 1);
    assert_eq!(d("add.cc.u64 %d1, -1, 1; addc.u64 %d0, 0, 0;"), 1);
}

#[test]
fn logic_and_shifts() {
    assert_eq!(r("and.b32 %r0, 0xff00ff00, 0x0ff00ff0;"), 0x0f00_0f00);
    assert_eq!(r("or.b32 %r0, 0xf0, 0x0f;"), 0xff);
    assert_eq!(d("xor.b64 %d0, -1, 1;"), !1);
    assert_eq!(h("mov.b16 %h1, 1; not.b16 %h0, %h1;"), 0xfffe);
    assert_eq!(r("cnot.b32 %r0, 0;"), 1);
    assert_eq!(r("lop3.b32 %r0, 0xf0f0, 0xcccc, 0xaaaa, 0x80;"), 0x8080);
    assert_eq!(r("lop3.b32 %r0, 0xf0f0, 0xcccc, 0xaaaa, 0x96;"), 0xf0f0 ^ 0xcccc ^ 0xaaaa);
    assert_eq!(r("shl.b32 %r0, 1, 31;"), 1 << 31);
    assert_eq!(r("shl.b32 %r0, 1, 32;"), 0);
    assert_eq!(r("shr.s32 %r0, 0x80000000, 40;"), u32::MAX);
    assert_eq!(r("shr.u32 %r0, 0x80000000, 31;"), 1);
    assert_eq!(h("mov.b16 %h1, 0x8000; shr.s16 %h0, %h1, 3;"), 0xf000);
    assert_eq!(r("shf.l.wrap.b32 %r0, 0x80000001, 0x12345678, 4;"), 0x2345_6788);
    assert_eq!(r("shf.r.wrap.b32 %r0, 0x80000001, 0x12345678, 4;"), 0x8800_0000);
    assert_eq!(r("shf.r.clamp.b32 %r0, 1, 2, 99;"), 2);
    assert_eq!(r("bfe.u32 %r0, 0xabcd1234, 8, 8;"), 0x12);
    assert_eq!(r("bfe.s32 %r0, 0xabcd1234, 28, 4;"), 0xffff_fffa);
    assert_eq!(d("bfe.u64 %d0, 0xabcd123400000000, 40, 8;"), 0x12);
    assert_eq!(r("bfi.b32 %r0, 0x5, 0xffff, 4, 4;"), 0xff5f);
    assert_eq!(r("prmt.b32 %r0, 0x33221100, 0x77665544, 0x7531;"), 0x7755_3311);
    assert_eq!(r("prmt.b32 %r0, 0x000000f0, 0, 0x8888;"), 0xffff_ffff);
    assert_eq!(r("prmt.b32.f4e %r0, 0x33221100, 0x77665544, 2;"), 0x5544_3322);
    assert_eq!(r("prmt.b32.b4e %r0, 0x33221100, 0x77665544, 2;"), 0x7700_1122);
    assert_eq!(r("prmt.b32.rc8 %r0, 0x33221100, 0, 2;"), 0x2222_2222);
    assert_eq!(r("prmt.b32.ecl %r0, 0x33221100, 0, 1;"), 0x3322_1111);
    assert_eq!(r("prmt.b32.ecr %r0, 0x33221100, 0, 1;"), 0x1111_1100);
    assert_eq!(r("prmt.b32.rc16 %r0, 0x33221100, 0, 1;"), 0x3322_3322);
    assert_eq!(r("popc.b64 %r0, -1;"), 64);
    assert_eq!(r("clz.b32 %r0, 1;"), 31);
    assert_eq!(r("clz.b64 %r0, 0;"), 64);
    assert_eq!(r("brev.b32 %r0, 1;"), 1 << 31);
    assert_eq!(r("bfind.u32 %r0, 0x100;"), 8);
    assert_eq!(r("bfind.s32 %r0, -1;"), u32::MAX);
    assert_eq!(r("bfind.shiftamt.u32 %r0, 0x100;"), 23);
    assert_eq!(r("fns.b32 %r0, 0xaaaaaaaa, 3, 2;"), 5);
}

#[test]
fn comparison() {
    assert!(p("setp.lt.s32 %p0, -1, 0;"));
    assert!(!p("setp.lt.u32 %p0, -1, 0;"));
    assert!(p("setp.hi.u32 %p0, -1, 0;"));
    assert!(p("setp.eq.b16 %p0, 7, 7;"));
    assert!(p("setp.ne.b64 %p0, 7, 8;"));
    let nan = c("%r1", 0x7fc0_0000);
    assert!(!p(&format!("{nan} setp.lt.f32 %p0, %r1, 0f00000000;")));
    assert!(!p(&format!("{nan} setp.ne.f32 %p0, %r1, 0f00000000;")));
    assert!(p(&format!("{nan} setp.neu.f32 %p0, %r1, 0f00000000;")));
    assert!(p(&format!("{nan} setp.nan.f32 %p0, %r1, 0f00000000;")));
    assert!(!p(&format!("{nan} setp.num.f32 %p0, %r1, 0f00000000;")));
    assert!(p(&format!("{nan} setp.gtu.f32 %p0, %r1, 0f00000000;")));
    assert!(p("setp.eq.ftz.f32 %p0, 0f00000001, 0f00000000;"));
    assert!(!p("setp.eq.f32 %p0, 0f00000001, 0f00000000;"));
    assert!(p("setp.lt.u32 %p1|%p2, 5, 3; not.pred %p3, %p1; and.pred %p0, %p2, %p3;"));
    assert!(p("setp.lt.u32 %p1, 1, 3; setp.eq.and.u32 %p0, 3, 3, %p1;"));
    assert!(!p("setp.lt.u32 %p1, 1, 3; setp.eq.and.u32 %p0, 3, 3, !%p1;"));
    assert!(p("setp.lt.u32 %p1, 1, 3; setp.eq.xor.u32 %p0, 3, 4, %p1;"));
    assert!(p("mov.b16 %h1, 0x3c00; setp.gt.f16 %p0, %h1, 0;"));
    assert_eq!(r("set.lt.u32.s32 %r0, -1, 0;"), u32::MAX);
    assert_eq!(f("set.lt.f32.s32 %r0, -1, 0;"), 1.0);
    assert_eq!(r("slct.u32.s32 %r0, 4, 5, -1;"), 5);
    assert_eq!(r("slct.u32.f32 %r0, 4, 5, 0f3F800000;"), 4);
    // The halves of a packed comparison: 1 > 0.5 below, 1 < 2 above.
    let packed =
        "mov.b32 %r1, 0x3c003c00; mov.b32 %r2, 0x40003800; setp.gt.f16x2 %p1|%p2, %r1, %r2;";
    assert!(p(&format!("{packed} not.pred %p3, %p2; and.pred %p0, %p1, %p3;")));
}

#[test]
fn moves() {
    assert_eq!(
        r("mov.b32 %r1, 0x12345678; mov.b32 {%h1, %h2}, %r1; mov.b32 %r0, {%h2, %h1};"),
        0x5678_1234
    );
    assert_eq!(
        d("mov.b64 %d1, 0x1122334455667788; mov.b64 {%r1, %r2}, %d1; mov.b64 %d0, {%r2, %r1};"),
        0x5566_7788_1122_3344
    );
    assert_eq!(
        d(
            "mov.b64 %d1, 0x1122334455667788; mov.b64 {%h1, _, _, %h2}, %d1; mov.b64 %d0, {%h2, %h1, %h2, %h1};"
        ),
        0x7788_1122_7788_1122
    );
    assert_eq!(r("mov.u32 %r0, %ntid.x;"), 1);
    assert_eq!(r("mov.u32 %r0, %nctaid.y;"), 1);
    assert_eq!(
        d("mov.u64 %d1, 4096; cvta.shared.u64 %d2, %d1; cvta.to.shared.u64 %d0, %d2;"),
        4096
    );
    assert!(p("mov.u64 %d1, 4096; cvta.shared.u64 %d2, %d1; isspacep.shared %p0, %d2;"));
    assert!(p("isspacep.global %p0, %out;"));
    assert!(!p("isspacep.local %p0, %out;"));
    assert_eq!(
        r(
            "mov.u32 %r1, 64; mapa.shared::cluster.u32 %r2, %r1, 0; getctarank.shared::cluster.u32 %r0, %r2;"
        ),
        0
    );
}

#[test]
fn float() {
    assert_eq!(f("add.f32 %r0, 0f3F800000, 0f40000000;"), 3.0);
    assert_eq!(f(&format!("{}{} sub.rn.f32 %r0, %r1, %r2;", cf("%r1", 1.5), cf("%r2", 4.0))), -2.5);
    let a = 1.0 + f32::EPSILON;
    let bits = |mode: &str| {
        r(&format!("{}{} add.{mode}.f32 %r0, %r1, %r2;", cf("%r1", a), cf("%r2", 1e-30)))
    };
    assert_eq!(bits("rn"), a.to_bits());
    assert_eq!(bits("rz"), a.to_bits());
    assert_eq!(bits("rm"), a.to_bits());
    assert_eq!(bits("rp"), a.to_bits() + 1);
    let third = |mode: &str| {
        f(&format!("{}{} mul.{mode}.f32 %r0, %r1, %r2;", cf("%r1", 1.1), cf("%r2", 1.3)))
    };
    let exact = f64::from(1.1f32) * f64::from(1.3f32);
    assert!(f64::from(third("rz")) <= exact && f64::from(third("rp")) >= exact);
    assert_eq!(third("rp").to_bits() - third("rz").to_bits(), 1);
    // Fused: (1 + e)^2 - (1 + 2e) = e^2.
    let e = f32::EPSILON;
    let fused = format!(
        "{}{} fma.rn.f32 %r0, %r1, %r1, %r2;",
        cf("%r1", 1.0 + e),
        cf("%r2", -(1.0 + 2.0 * e))
    );
    assert_eq!(f(&fused), e * e);
    assert_eq!(f("add.sat.f32 %r0, 0f3F800000, 0f40000000;"), 1.0);
    assert_eq!(r("add.sat.f32 %r0, 0fBF800000, 0f00000000;"), 0);
    assert_eq!(r("add.sat.f32 %r0, 0f7FC00000, 0f00000000;"), 0);
    assert_eq!(r("add.f32 %r0, 0fFFC12345, 0f00000000;"), 0x7fff_ffff);
    assert_eq!(r("mul.ftz.f32 %r0, 0f80000001, 0f3F800000;"), 0x8000_0000);
    assert_eq!(r("mul.f32 %r0, 0f80000001, 0f3F800000;"), 0x8000_0001);
    assert_eq!(f("div.rn.f32 %r0, 0f3F800000, 0f40400000;"), 1.0 / 3.0);
    assert_eq!(f("div.approx.f32 %r0, 0f3F800000, 0f7F000000;"), 0.0);
    assert_eq!(r("min.f32 %r0, 0f7FC00000, 0f3F800000;"), 0x3f80_0000);
    assert_eq!(r("min.NaN.f32 %r0, 0f7FC00000, 0f3F800000;"), 0x7fff_ffff);
    assert_eq!(r("max.f32 %r0, 0f80000000, 0f00000000;"), 0);
    assert_eq!(r("min.f32 %r0, 0f00000000, 0f80000000;"), 0x8000_0000);
    assert_eq!(f("neg.f32 %r0, 0f3F800000;"), -1.0);
    assert_eq!(f("abs.f32 %r0, 0fBF800000;"), 1.0);
    assert_eq!(f("copysign.f32 %r0, 0fBF800000, 0f40000000;"), -2.0);
    assert!(p("testp.subnormal.f32 %p0, 0f00000001;"));
    assert!(p("testp.notanumber.f32 %p0, 0f7FC00000;"));
    assert_eq!(
        f64::from_bits(d(
            "fma.rn.f64 %d0, 0d4000000000000000, 0d4008000000000000, 0d3FF0000000000000;"
        )),
        7.0
    );
    // f16: 1 + 2; 65504 + 65504 = inf; fma keeps the sticky bit: 1 + 2^-11 + 2^-24 rounds up.
    assert_eq!(
        h(&format!("{}{} add.f16 %h0, %h1, %h2;", c("%h1", 0x3c00), c("%h2", 0x4000))),
        0x4200
    );
    assert_eq!(h(&format!("{} add.rn.f16 %h0, %h1, %h1;", c("%h1", 0x7bff))), 0x7c00);
    let tie = format!(
        "{}{}{} fma.rn.f16 %h0, %h1, %h2, %h3;",
        c("%h1", 0x3c00),
        c("%h2", 0x1000),
        c("%h3", 0x3c00)
    );
    assert_eq!(h(&tie), 0x3c00);
    let above = tie.replace("4096", "4097");
    assert_eq!(h(&above), 0x3c01);
    assert_eq!(
        r(&format!("{}{} mul.f16x2 %r0, %r1, %r2;", c("%r1", 0x4000_3c00), c("%r2", 0x4200_c000))),
        0x4600_c000
    );
    assert_eq!(
        r(&format!(
            "{}{} fma.rn.relu.f16x2 %r0, %r1, %r2, 0;",
            c("%r1", 0x4000_3c00),
            c("%r2", 0x4200_c000)
        )),
        0x4600_0000
    );
    assert_eq!(
        r(&format!(
            "{}{} fma.rn.bf16x2 %r0, %r1, %r2, %r1;",
            c("%r1", 0x3f80_4000),
            c("%r2", 0x4000_4040)
        )),
        0x4040_4100
    );
    assert_eq!(h(&format!("{} neg.f16 %h0, %h1;", c("%h1", 0x3c00))), 0xbc00);
    assert_eq!(r(&format!("{} abs.f16x2 %r0, %r1;", c("%r1", 0xbc00_bc00))), 0x3c00_3c00);
    assert_eq!(
        r(&format!("{}{} max.f16x2 %r0, %r1, %r2;", c("%r1", 0x3c00_4000), c("%r2", 0x4000_3c00))),
        0x4000_4000
    );
}

#[test]
fn approximate() {
    let within = |value: f32, exact: f64, relative: f64| {
        assert!((f64::from(value) - exact).abs() <= relative * exact.abs(), "{value} {exact}");
    };
    within(f("rcp.approx.ftz.f32 %r0, 0f40400000;"), 1.0 / 3.0, 1e-7);
    within(f("sqrt.approx.f32 %r0, 0f40000000;"), 2f64.sqrt(), 1e-7);
    within(f("rsqrt.approx.f32 %r0, 0f40000000;"), 1.0 / 2f64.sqrt(), 1e-7);
    within(f("ex2.approx.ftz.f32 %r0, 0f3F000000;"), 2f64.sqrt(), 1e-7);
    within(f("lg2.approx.f32 %r0, 0f40400000;"), 3f64.log2(), 1e-7);
    within(f("sin.approx.f32 %r0, 0f3F800000;"), 1f64.sin(), 1e-7);
    within(f("cos.approx.f32 %r0, 0f3F800000;"), 1f64.cos(), 1e-7);
    within(f("tanh.approx.f32 %r0, 0f3F000000;"), 0.5f64.tanh(), 1e-7);
    assert_eq!(f("rcp.approx.ftz.f32 %r0, 0f00000001;"), f32::INFINITY);
    assert_eq!(f("rcp.approx.ftz.f32 %r0, 0f80000000;"), f32::NEG_INFINITY);
    assert_eq!(f("ex2.approx.ftz.f32 %r0, 0fC3020000;"), 0.0);
    assert_eq!(f("sqrt.rn.f32 %r0, 0f40000000;"), 2f32.sqrt());
    assert_eq!(h("mov.b16 %h1, 0x3c00; ex2.approx.f16 %h0, %h1;"), 0x4000);
}

#[test]
fn conversions() {
    assert_eq!(r("mov.b16 %h1, 0xffff; cvt.u32.u16 %r0, %h1;"), 0xffff);
    assert_eq!(r("mov.b16 %h1, 0xffff; cvt.s32.s16 %r0, %h1;"), u32::MAX);
    assert_eq!(d("mov.b32 %r1, 0x80000000; cvt.s64.s32 %d0, %r1;"), 0xffff_ffff_8000_0000);
    assert_eq!(r("mov.b32 %r1, 0x1ff; cvt.s32.s8 %r0, %r1;"), u32::MAX);
    assert_eq!(r("mov.b32 %r1, 0x1ff; cvt.u32.u8 %r0, %r1;"), 0xff);
    assert_eq!(r("mov.b32 %r1, 300; cvt.sat.u8.u32 %r0, %r1;"), 255);
    assert_eq!(r("mov.b32 %r1, -300; cvt.sat.s8.s32 %r0, %r1;") as i32, -128);
    assert_eq!(f("mov.b32 %r1, 16777217; cvt.rn.f32.u32 %r0, %r1;"), 16777216.0);
    assert_eq!(f("mov.b32 %r1, 16777217; cvt.rp.f32.u32 %r0, %r1;"), 16777218.0);
    assert_eq!(f("mov.b32 %r1, -1; cvt.rn.f32.s32 %r0, %r1;"), -1.0);
    assert_eq!(r(&format!("{} cvt.rni.s32.f32 %r0, %r1;", cf("%r1", 2.5))), 2);
    assert_eq!(r(&format!("{} cvt.rzi.s32.f32 %r0, %r1;", cf("%r1", -2.5))) as i32, -2);
    assert_eq!(r(&format!("{} cvt.rmi.s32.f32 %r0, %r1;", cf("%r1", -2.5))) as i32, -3);
    assert_eq!(r(&format!("{} cvt.rzi.u32.f32 %r0, %r1;", cf("%r1", -2.5))), 0);
    assert_eq!(r(&format!("{} cvt.rzi.s32.f32 %r0, %r1;", cf("%r1", 1e20))), i32::MAX as u32);
    assert_eq!(r(&format!("{} cvt.rzi.s32.f32 %r0, %r1;", cf("%r1", f32::NAN))), 0);
    assert_eq!(f(&format!("{} cvt.rmi.f32.f32 %r0, %r1;", cf("%r1", -2.5))), -3.0);
    assert_eq!(f(&format!("{} cvt.sat.f32.f32 %r0, %r1;", cf("%r1", 2.5))), 1.0);
    assert_eq!(h(&format!("{} cvt.rn.f16.f32 %h0, %r1;", cf("%r1", 65520.0))), 0x7c00);
    assert_eq!(h(&format!("{} cvt.rz.f16.f32 %h0, %r1;", cf("%r1", 65520.0))), 0x7bff);
    assert_eq!(h(&format!("{} cvt.rn.bf16.f32 %h0, %r1;", cf("%r1", 1.0))), 0x3f80);
    assert_eq!(
        f("mov.b16 %h1, 0x3555; cvt.f32.f16 %r0, %h1;"),
        half::f16::from_bits(0x3555).to_f32()
    );
    assert_eq!(
        f("mov.b16 %h1, 0x3eab; cvt.f32.bf16 %r0, %h1;"),
        half::bf16::from_bits(0x3eab).to_f32()
    );
    let pack = |op: &str| r(&format!("{}{} {op} %r0, %r1, %r2;", cf("%r1", -1.0), cf("%r2", 2.0)));
    assert_eq!(pack("cvt.rn.f16x2.f32"), 0xbc00_4000);
    assert_eq!(pack("cvt.rn.bf16x2.f32"), 0xbf80_4000);
    assert_eq!(pack("cvt.rn.relu.f16x2.f32"), 0x0000_4000);
    assert_eq!(
        r(&format!("{} cvt.rna.tf32.f32 %r0, %r1;", cf("%r1", 1.0 + 2f32.powi(-11)))),
        0x3f80_2000
    );
    assert_eq!(
        f64::from_bits(d(&format!("{} cvt.f64.f32 %d0, %r1;", cf("%r1", 0.1)))),
        f64::from(0.1f32)
    );
    assert_eq!(f(&format!("{} cvt.rn.f32.f64 %r0, %d1;", c("%d1", 0.1f64.to_bits()))), 0.1);
    assert_eq!(f64::from_bits(d("mov.b64 %d1, -1; cvt.rn.f64.u64 %d0, %d1;")), u64::MAX as f64);
}

#[test]
fn memory_widths() {
    assert_eq!(
        d("st.global.u8 [%out+3], 255; ld.global.s8 %r1, [%out+3]; cvt.s64.s32 %d0, %r1;"),
        u64::MAX
    );
    assert_eq!(
        d(
            "mov.b32 %r1, 1; mov.b32 %r2, 2; st.global.v2.b32 [%out], {%r1, %r2}; ld.global.b64 %d0, [%out];"
        ),
        0x2_0000_0001
    );
    assert_eq!(
        r(
            ".local .align 8 .b8 frame[16]; st.local.u32 [frame+4], 77; ld.local.u32 %r0, [frame+4];"
        ),
        77
    );
    assert_eq!(
        r(
            ".shared .align 4 .b8 tile[16]; mov.u32 %r1, tile; st.shared.u32 [%r1+4], 78; ld.shared.u32 %r0, [tile+4];"
        ),
        78
    );
    assert_eq!(
        r(
            ".shared .b32 word; mov.u64 %d1, word; cvta.shared.u64 %d2, %d1; st.u32 [%d2], 79; ld.u32 %r0, [%d2];"
        ),
        79
    );
}

#[test]
fn atomics() {
    assert_eq!(
        r(
            "st.global.u32 [%out], 5; atom.global.add.u32 %r0, [%out], 3; ld.global.u32 %r1, [%out]; shl.b32 %r1, %r1, 8; or.b32 %r0, %r0, %r1;"
        ),
        0x0805
    );
    assert_eq!(r("atom.global.cas.b32 %r1, [%out], 0, 9; ld.global.u32 %r0, [%out];"), 9);
    assert_eq!(r("atom.global.cas.b32 %r1, [%out], 1, 9; ld.global.u32 %r0, [%out];"), 0);
    assert_eq!(
        f(
            "red.global.add.f32 [%out], 0f3F800000; red.global.add.f32 [%out], 0f3F800000; ld.global.f32 %r0, [%out];"
        ),
        2.0
    );
    assert_eq!(
        r(
            "st.global.u32 [%out], 5; atom.global.inc.u32 %r1, [%out], 5; ld.global.u32 %r0, [%out];"
        ),
        0
    );
    assert_eq!(d("atom.global.exch.b64 %d1, [%out], 77; ld.global.u64 %d0, [%out];"), 77);
    assert_eq!(r("atom.global.max.s32 %r1, [%out], -5; ld.global.u32 %r0, [%out];"), 0);
    assert_eq!(
        r(
            "atom.relaxed.gpu.global.add.noftz.f16x2 %r1, [%out], 0x3c003c00; ld.global.u32 %r0, [%out];"
        ),
        0x3c00_3c00
    );
    assert_eq!(
        r(
            ".shared .b32 word; st.shared.u32 [word], 1; atom.shared.xor.b32 %r1, [word], 3; ld.shared.u32 %r0, [word];"
        ),
        2
    );
}

#[test]
fn calls_are_expanded() {
    let text = "
        .version 8.0 .target sm_80 .address_size 64
        .func (.param .b32 ret) twice(.param .b32 x) {
            .reg .b32 %r<3>; .reg .pred %p;
            ld.param.b32 %r1, [x];
            setp.eq.s32 %p, %r1, 0;
            @%p bra ZERO;
            add.s32 %r2, %r1, %r1;
            st.param.b32 [ret], %r2;
            ret;
        ZERO:
            st.param.b32 [ret], 1000;
            ret;
        }
        .visible .entry test(.param .u64 out) {
            .reg .b32 %r<4>; .reg .b64 %d<4>;
            ld.param.u64 %d1, [out];
            mov.u32 %r1, %tid.x;
            { .param .b32 a; .param .b32 b;
              st.param.b32 [a], %r1;
              call.uni (b), twice, (a);
              ld.param.b32 %r2, [b]; }
            { .param .b32 a; .param .b32 b;
              st.param.b32 [a], %r2;
              call (b), twice, (a);
              ld.param.b32 %r2, [b]; }
            mul.wide.u32 %d2, %r1, 4;
            add.s64 %d3, %d1, %d2;
            st.global.u32 [%d3], %r2;
            ret;
        }";
    let (module, memory) = (Module::parse(text).unwrap(), Memory::new());
    let out = memory.alloc(32 * 4);
    let report = Launch::new("test").arg(out).run(&module, &memory).unwrap();
    assert_eq!(report.findings, []);
    let expected: Vec<u32> = (0..32).map(|i| if i == 0 { 2000 } else { 4 * i }).collect();
    assert_eq!(memory.download::<u32>(out, 32).unwrap(), expected);
}

#[test]
fn shuffles_and_votes() {
    let text = "
        .version 8.0 .target sm_80 .address_size 64
        .visible .entry test(.param .u64 out) {
            .reg .b32 %r<12>; .reg .b64 %d<4>; .reg .pred %p<4>;
            ld.param.u64 %d1, [out];
            mov.u32 %r1, %laneid;
            shfl.sync.down.b32 %r2|%p1, %r1, 4, 31, -1;
            shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;
            shfl.sync.idx.b32 %r4, %r1, 5, 0x181f, -1;
            shfl.sync.up.b32 %r5|%p2, %r1, 1, 0, -1;
            setp.lt.u32 %p3, %r1, 3;
            vote.sync.ballot.b32 %r6, %p3, -1;
            shr.u32 %r7, %r1, 4;
            match.any.sync.b32 %r8, %r7, -1;
            redux.sync.add.u32 %r9, %r1, -1;
            selp.u32 %r10, 1, 0, %p1;
            mul.wide.u32 %d2, %r1, 32;
            add.s64 %d3, %d1, %d2;
            st.global.v4.u32 [%d3], {%r2, %r3, %r4, %r5};
            st.global.v4.u32 [%d3+16], {%r6, %r8, %r9, %r10};
            ret;
        }";
    let (module, memory) = (Module::parse(text).unwrap(), Memory::new());
    let out = memory.alloc(32 * 32);
    let report = Launch::new("test").arg(out).run(&module, &memory).unwrap();
    assert_eq!(report.findings, []);
    let rows = memory.download::<u32>(out, 256).unwrap();
    for (lane, row) in rows.chunks(8).enumerate() {
        let lane = lane as u32;
        let half = if lane < 16 { 0xffff } else { 0xffff_0000 };
        let down = if lane < 28 { lane + 4 } else { lane };
        let group = lane / 8 * 8 + 5;
        let expected =
            [down, lane ^ 1, group, lane.saturating_sub(1), 7, half, 496, u32::from(lane < 28)];
        assert_eq!(row, expected, "lane {lane}");
    }
}
