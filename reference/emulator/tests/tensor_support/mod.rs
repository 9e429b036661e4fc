//! What the tests of the tensor-core and asynchronous families share: a kernel with its arguments as a
//! [`Case`], operands of small integers, and where tiles lie in shared memory.
//!
//! With `PTX_EMULATOR_EXPORT=<directory>` every case that runs is also written there, text, arguments
//! and results, so that `on_device.py` beside this file can run the same on a GPU and compare.

// Each test program compiles this for itself and uses a part of it.
#![allow(dead_code)]

use half::{bf16, f16};
use ptx_emulator::family::tensor_map::TensorMap;
use ptx_emulator::{Error, FindingKind, Launch, Memory, Module, Report};

/// An argument of a kernel.
#[derive(Clone)]
pub enum Arg {
    /// Address of a buffer with these bytes.
    In(Vec<u8>),
    /// Address of a buffer of zeros that is compared afterwards.
    Out(usize),
    /// A tensor map over the buffer of an earlier argument.
    Map(usize, TensorMap),
    /// A number.
    U32(u32),
}

/// A kernel `test` and how it is launched.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub ptx: String,
    pub grid: u32,
    pub block: u32,
    pub cluster: u32,
    pub shared: usize,
    pub args: Vec<Arg>,
}

/// A parameter list and body become a module.
pub fn module(params: &str, body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n\
         .extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry test({params})\n{{\n{body}\nret;\n}}\n"
    )
}

impl Case {
    /// One block of `block` threads with dynamic shared memory.
    pub fn new(name: impl Into<String>, ptx: String, block: u32, shared: usize) -> Self {
        let name = name.into();
        Self { name, ptx, grid: 1, block, cluster: 1, shared, args: Vec::new() }
    }

    pub fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }

    /// A grid of one cluster.
    pub fn cluster(mut self, blocks: u32) -> Self {
        (self.grid, self.cluster) = (blocks, blocks);
        self
    }

    /// Runs it; the buffers of the `Out` arguments, and the report.
    pub fn launch(&self, seed: u64) -> Result<(Vec<Vec<u8>>, Report), Error> {
        self.launch_within(1 << 24, seed)
    }

    fn launch_within(&self, limit: u64, seed: u64) -> Result<(Vec<Vec<u8>>, Report), Error> {
        let module = Module::parse(&self.ptx).unwrap_or_else(|e| panic!("{e}\n{}", self.ptx));
        let memory = Memory::new();
        let mut launch = Launch::new("test")
            .grid([self.grid, 1, 1])
            .block([self.block, 1, 1])
            .cluster([self.cluster, 1, 1])
            .shared_bytes(self.shared)
            .instruction_limit(limit)
            .seed(seed);
        let (mut addresses, mut outs) = (Vec::new(), Vec::new());
        for arg in &self.args {
            let mut address = 0;
            match arg {
                Arg::In(bytes) => address = memory.upload(bytes),
                Arg::Out(len) => {
                    address = memory.upload(&vec![0u8; *len]);
                    outs.push((address, *len));
                }
                Arg::Map(buffer, map) => {
                    let map = TensorMap { address: addresses[*buffer], ..map.clone() };
                    launch = launch.arg_bytes(&map.encode().unwrap());
                }
                Arg::U32(value) => launch = launch.arg(*value),
            }
            if address != 0 {
                launch = launch.arg(address);
            }
            addresses.push(address);
        }
        let report = launch.run(&module, &memory)?;
        let outs = outs.into_iter().map(|(at, len)| memory.download(at, len).unwrap()).collect();
        Ok((outs, report))
    }

    /// Runs it under four seeds without any finding; the bytes of the `Out` arguments.
    pub fn outputs(&self) -> Vec<Vec<u8>> {
        let mut first = None;
        for seed in 0..4 {
            let (outs, report) =
                self.launch(seed).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.name, self.ptx));
            assert!(report.findings.is_empty(), "{}: {}", self.name, list(&report));
            let first = first.get_or_insert_with(|| outs.clone());
            assert_eq!(*first, outs, "{}: seed {seed} gives another result", self.name);
        }
        let outs = first.unwrap();
        self.export(&outs);
        outs
    }

    /// The findings' kinds and messages, each kind once, under a seed.
    pub fn findings(&self, seed: u64) -> Vec<(FindingKind, String)> {
        let report = match self.launch(seed) {
            Ok((_, report)) => report,
            Err(Error::Stopped { report, .. }) => *report,
            Err(error) => panic!("{}: {error}", self.name),
        };
        report.findings.into_iter().map(|f| (f.kind, f.to_string())).collect()
    }

    /// Asserts that every one of four seeds gives a finding of a kind that says `text`.
    pub fn finds(&self, kind: FindingKind, text: &str) {
        for seed in 0..4 {
            let findings = self.findings(seed);
            let found = findings.iter().any(|(k, message)| *k == kind && message.contains(text));
            assert!(found, "{}, seed {seed}: no {kind:?} `{text}` in {findings:#?}", self.name);
        }
    }

    /// Asserts that every one of four seeds gives one of these findings.
    pub fn finds_any(&self, wanted: &[(FindingKind, &str)]) {
        for seed in 0..4 {
            let findings = self.findings(seed);
            let found = findings.iter().any(|(k, message)| {
                wanted.iter().any(|(w, text)| k == w && message.contains(text))
            });
            assert!(found, "{}, seed {seed}: {findings:#?}", self.name);
        }
    }

    /// The error that ends it.
    pub fn stops(&self, seed: u64) -> String {
        match self.launch(seed) {
            Ok((_, report)) => panic!("{} did not stop: {}", self.name, list(&report)),
            Err(error) => error.to_string(),
        }
    }

    /// The same kernel with a piece of its text replaced.
    pub fn with(&self, old: &str, new: &str) -> Self {
        assert!(self.ptx.contains(old), "no `{old}` in\n{}", self.ptx);
        let name = format!("{} with `{new}` for `{old}`", self.name);
        Self { name, ptx: self.ptx.replace(old, new), ..self.clone() }
    }

    /// Replaces every number of the kernel's body by odd ones, one at a time: whatever comes of it is
    /// an error or findings, never a panic or a hang.
    pub fn survives_odd_numbers(&self) {
        let body = self.ptx.find('{').unwrap();
        let bytes = self.ptx.as_bytes();
        let part_of_name = |b: u8| b.is_ascii_alphanumeric() || b"_%.$:".contains(&b);
        let (mut at, mut runs) = (body, 0);
        while at < bytes.len() {
            let length = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            if length == 0 || part_of_name(bytes[at - 1]) || bytes[at - 1] == b'<' {
                at += length.max(1);
                continue;
            }
            for odd in ["0", "1", "3", "17", "4104", "-16", "4294967295", "0x7fffffffffffff"] {
                let ptx = format!("{}{odd}{}", &self.ptx[..at], &self.ptx[at + length..]);
                let case = Self { ptx, ..self.clone() };
                if Module::parse(&case.ptx).is_ok() {
                    let _ = case.launch_within(1 << 15, 0);
                    runs += 1;
                }
            }
            at += length;
        }
        println!("{}: {runs} runs", self.name);
        assert!(runs > 30, "{}: only {runs} runs", self.name);
    }

    fn export(&self, outs: &[Vec<u8>]) {
        let Ok(directory) = std::env::var("PTX_EMULATOR_EXPORT") else { return };
        let name: String =
            self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let path = |end: String| std::path::Path::new(&directory).join(end);
        let mut text = format!(
            "{{\"grid\":{},\"block\":{},\"cluster\":{},\"shared\":{},\"args\":[",
            self.grid, self.block, self.cluster, self.shared
        );
        let (mut first, mut outs) = (true, outs.iter());
        for (index, arg) in self.args.iter().enumerate() {
            if !std::mem::take(&mut first) {
                text.push(',');
            }
            let file = format!("{name}.{index}.bin");
            text += &match arg {
                Arg::In(bytes) => {
                    std::fs::write(path(file.clone()), bytes).unwrap();
                    format!("{{\"in\":\"{file}\"}}")
                }
                Arg::Out(_) => {
                    std::fs::write(path(file.clone()), outs.next().unwrap()).unwrap();
                    format!("{{\"out\":\"{file}\"}}")
                }
                Arg::U32(value) => format!("{{\"u32\":{value}}}"),
                Arg::Map(buffer, map) => format!(
                    "{{\"map\":{buffer},\"type\":\"{:?}\",\"dims\":{:?},\"strides\":{:?},\
                     \"box\":{:?},\"steps\":{:?},\"swizzle\":\"{:?}\",\"fill\":\"{:?}\"}}",
                    map.element, map.dims, map.strides, map.boxes, map.steps, map.swizzle, map.fill
                ),
            };
        }
        text += "]}";
        std::fs::write(path(format!("{name}.json")), text).unwrap();
        std::fs::write(path(format!("{name}.ptx")), &self.ptx).unwrap();
    }
}

fn list(report: &Report) -> String {
    report.findings.iter().map(|f| format!("{f}\n")).collect()
}

/// Small integers, always the same ones.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// -3 to 3.
    pub fn small(&mut self) -> f64 {
        self.below(7) as f64 - 3.0
    }

    pub fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        let values = (0..rows * columns).map(|_| self.small()).collect();
        Matrix { columns, values }
    }
}

/// A matrix of small integers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub columns: usize,
    pub values: Vec<f64>,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// `self . other + start`.
    pub fn times(&self, other: &Self, start: &Self) -> Self {
        let mut out = start.clone();
        for row in 0..self.rows() {
            for column in 0..other.columns {
                let sum: f64 =
                    (0..self.columns).map(|k| self.at(row, k) * other.at(k, column)).sum();
                out.values[row * out.columns + column] += sum;
            }
        }
        out
    }
}

/// Bits of a value as f16 or bf16.
pub fn half_bits(value: f64, bf16: bool) -> u16 {
    if bf16 { self::bf16::from_f64(value).to_bits() } else { f16::from_f64(value).to_bits() }
}

/// Words `[register][lane]` of a fragment of 16-bit elements: `map(lane, half)` is row and column.
pub fn fragment(
    registers: u32,
    bf16: bool,
    matrix: &Matrix,
    map: impl Fn(u32, u32) -> (u32, u32),
) -> Vec<u32> {
    let half = |lane, h| {
        let (row, column) = map(lane, h);
        u32::from(half_bits(matrix.at(row as usize, column as usize), bf16))
    };
    (0..registers)
        .flat_map(|i| (0..32).map(move |lane| (lane, i)))
        .map(|(lane, i)| half(lane, 2 * i) | half(lane, 2 * i + 1) << 16)
        .collect()
}

/// 2:4 sparse matrix: dense form, kept values, and per lane and block of 64 columns the metadata.
pub struct Sparse {
    pub dense: Matrix,
    pub kept: Matrix,
    /// `[row block of 16][column block of 64][lane]`.
    pub metadata: Vec<u32>,
}

/// A random 2:4 sparse matrix; rows a multiple of 16, columns of 64.
pub fn sparse(numbers: &mut Numbers, rows: usize, columns: usize) -> Sparse {
    let mut dense = Matrix::zeros(rows, columns);
    let mut kept = Matrix::zeros(rows, columns / 2);
    let mut metadata = vec![0u32; rows / 16 * (columns / 64) * 32];
    for row in 0..rows {
        for group in 0..columns / 4 {
            let (i, j) =
                [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][numbers.below(6) as usize];
            for (h, position) in [i, j].into_iter().enumerate() {
                let value = numbers.small();
                dense.values[row * columns + 4 * group + position] = value;
                kept.values[row * columns / 2 + 2 * group + h] = value;
            }
            let block = row / 16 * (columns / 64) + group / 16;
            let lane = 4 * (row % 8) + group % 16 / 4;
            let nibble = (i | j << 2) as u32;
            metadata[block * 32 + lane] |= nibble << (16 * (row % 16 / 8) + 4 * (group % 4));
        }
    }
    Sparse { dense, kept, metadata }
}

pub fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A kernel whose every thread loads registers `%r0..` from `in` (register-major), executes `body`, and
/// stores `%s0..` to `out`.
pub fn register_kernel(inputs: usize, outputs: usize, threads: usize, body: &str) -> String {
    let mut text = String::from(
        ".reg .b32 %r<128>; .reg .b32 %s<128>; .reg .b32 %t<8>; .reg .b64 %a<8>; .reg .pred %p<4>;\n\
         ld.param.u64 %a0, [in];\nld.param.u64 %a1, [out];\nmov.u32 %t0, %tid.x;\n\
         mul.wide.u32 %a2, %t0, 4;\nadd.s64 %a0, %a0, %a2;\nadd.s64 %a1, %a1, %a2;\n",
    );
    for i in 0..inputs {
        text += &format!("ld.global.b32 %r{i}, [%a0+{}];\n", 4 * threads * i);
    }
    text += body;
    for i in 0..outputs {
        text += &format!("\nst.global.b32 [%a1+{}], %s{i};", 4 * threads * i);
    }
    module(".param .u64 in, .param .u64 out", &text)
}

/// `{%r3, %r4}` and the like.
pub fn vector(prefix: &str, first: usize, count: usize) -> String {
    let names: Vec<_> = (first..first + count).map(|i| format!("{prefix}{i}")).collect();
    format!("{{{}}}", names.join(", "))
}
