//! The GPU's rows without a GPU: on a device that computes what the kernels would, and can be broken.

use crate::backend::Backend;
use crate::cases::plan;
use crate::cli::Cli;
use crate::kernel::{Kernel, Op};
use crate::report::{Row, Soak};
use crate::run::{Run, Settings};
use clap::Parser;
use half::f16;
use layout::activation::Activation;
use layout::instance::Dtype;
use layout::params::{GemmParams, Output};
use reference::random::Fill;
use reference::{Epilogue, MatMut, MatRef, OutputOf, Packed, Weights, gemm};
use sparseflow::autotune::Problem;
use sparseflow::device::{Device, DeviceInfo, Launch, Memory, TensorMap};
use sparseflow::epilogue::Fused;
use sparseflow::error::Result;
use sparseflow::{heuristic, kernels};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What a device does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Defect {
    None,
    /// The last element of Y is never written.
    Gemm,
    /// One kept value is replaced by another.
    Compress,
    /// One nibble is not legal.
    Metadata,
    /// Each product beyond so many has another first element.
    Late(usize),
}

struct FakeDevice {
    info: DeviceInfo,
    defect: Defect,
    memory: Mutex<BTreeMap<u64, Arc<FakeMemory>>>,
    /// Addresses of the Y of every product.
    written: Mutex<BTreeSet<u64>>,
    /// Products that were launched.
    products: Mutex<usize>,
    /// Values and metadata of each W that was brought into the order of Hopper's kernels.
    tiled: Mutex<BTreeMap<u64, [u64; 2]>>,
}

struct FakeMemory {
    address: u64,
    content: Mutex<Vec<u8>>,
}

impl Memory for FakeMemory {
    fn address(&self) -> u64 {
        self.address
    }

    fn bytes(&self) -> u64 {
        self.content.lock().unwrap().len() as u64
    }

    fn upload(&self, offset: u64, data: &[u8]) -> Result<()> {
        let start = offset as usize;
        self.content.lock().unwrap()[start..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn download(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        data.copy_from_slice(&self.content.lock().unwrap()[offset as usize..][..data.len()]);
        Ok(())
    }

    fn fill(&self, byte: u8) -> Result<()> {
        self.content.lock().unwrap().fill(byte);
        Ok(())
    }
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    words(bytes).into_iter().map(f32::from_bits).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

impl FakeDevice {
    fn open(defect: Defect) -> Arc<Self> {
        let info = DeviceInfo {
            name: "fake".to_owned(),
            sm: (9, 0),
            multiprocessors: 132,
            l2_bytes: 10_000,
            shared_bytes: 227 * 1024,
            memory_bytes: 0,
            driver: "13.0".to_owned(),
        };
        Arc::new(Self {
            info,
            defect,
            memory: Mutex::default(),
            written: Mutex::default(),
            products: Mutex::default(),
            tiled: Mutex::default(),
        })
    }

    fn read(&self, address: u64) -> Vec<u8> {
        self.memory.lock().unwrap()[&address].content.lock().unwrap().clone()
    }

    /// Overwrites what is at `address` with `bytes`, but for `left` bytes at its end.
    fn write(&self, address: u64, bytes: &[u8], left: usize) {
        let end = bytes.len() - left;
        let memory = &self.memory.lock().unwrap()[&address];
        memory.content.lock().unwrap()[..end].copy_from_slice(&bytes[..end]);
    }

    /// `layout::params::GemmParams`: thirteen words of 64 bits, twelve of 32.
    fn multiply(&self, sparse: bool, params: &[u8]) {
        let (mut wide, narrow) = (addresses(params), words(&params[104..]));
        if let Some([values, metadata]) = self.tiled.lock().unwrap().get(&wide[1]) {
            (wide[1], wide[2]) = (*values, *metadata);
        }
        let (m, n, k) = (narrow[0] as usize, narrow[1] as usize, narrow[2] as usize);
        let x = halves(&self.read(wide[0]));
        let x = MatRef::contiguous(&x, m, k).unwrap();
        let w = halves(&self.read(wide[1]));
        let packed = sparse.then(|| {
            let metadata = words(&self.read(wide[2]));
            Packed::from_parts(n, k, w.clone(), metadata).unwrap()
        });
        let weights = match &packed {
            Some(packed) => Weights::Sparse(packed),
            None => Weights::Dense(MatRef::contiguous(&w, n, k).unwrap()),
        };
        let mut y = match narrow[7] {
            0 => {
                self.finish(x, weights, (&wide, &narrow), halves, |y: f16| y.to_le_bytes().to_vec())
            }
            1 => {
                self.finish(x, weights, (&wide, &narrow), floats, |y: f32| y.to_le_bytes().to_vec())
            }
            _ => {
                self.finish(x, weights, (&wide, &narrow), halves, |y: i8| y.to_le_bytes().to_vec())
            }
        };
        let left = if self.defect == Defect::Gemm { 2 } else { 0 };
        let mut products = self.products.lock().unwrap();
        *products += 1;
        if matches!(self.defect, Defect::Late(after) if *products > after) {
            y[0] ^= 1;
        }
        self.write(wide[5], &y, left);
        self.written.lock().unwrap().insert(wide[5]);
    }

    /// The bytes of a Y of type `O`.
    fn finish<O: OutputOf<f16>>(
        &self,
        x: MatRef<'_, f16>,
        weights: Weights<'_, f16>,
        (wide, narrow): (&[u64], &[u32]),
        addends: impl Fn(&[u8]) -> Vec<O::Addend>,
        bytes: impl Fn(O) -> Vec<u8>,
    ) -> Vec<u8> {
        let (m, n) = (narrow[0] as usize, narrow[1] as usize);
        let c = (wide[3] != 0).then(|| addends(&self.read(wide[3])));
        let bias = (wide[4] != 0).then(|| halves(&self.read(wide[4])));
        let row_scale = (wide[6] != 0).then(|| floats(&self.read(wide[6])));
        let epilogue = Epilogue {
            alpha: f32::from_bits(narrow[4]),
            beta: f32::from_bits(narrow[5]),
            c: c.as_deref().map(|c| MatRef::contiguous(c, m, n).unwrap()),
            bias: bias.as_deref(),
            activation: Activation::ALL.into_iter().find(|&a| a as u32 == narrow[6]).unwrap(),
            gated: narrow[9] != 0,
            row_scale: row_scale.as_deref(),
        };
        let columns = epilogue.columns(n);
        let mut y = vec![O::ZERO; m * columns];
        gemm(x, weights, &epilogue, &mut MatMut::contiguous(&mut y, m, columns).unwrap()).unwrap();
        y.into_iter().flat_map(bytes).collect()
    }

    /// `layout::params::CompressParams`: four words of 64 bits, four of 32.
    fn compress(&self, params: &[u8]) {
        let (wide, narrow) = (addresses(params), words(&params[32..]));
        let w = halves(&self.read(wide[0]));
        let w = MatRef::contiguous(&w, narrow[0] as usize, narrow[1] as usize).unwrap();
        let (mut values, mut metadata) = Packed::prune_and_pack(w).unwrap().into_parts();
        match self.defect {
            Defect::Compress => values[0] = f16::from_f32(7.0),
            Defect::Metadata => metadata[0] |= 0xF,
            Defect::None | Defect::Gemm | Defect::Late(_) => {}
        }
        let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let metadata: Vec<u8> = metadata.iter().flat_map(|m| m.to_le_bytes()).collect();
        self.write(wide[1], &values, 0);
        self.write(wide[2], &metadata, 0);
    }
}

fn addresses(params: &[u8]) -> Vec<u64> {
    params.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect()
}

impl Device for FakeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        let mut all = self.memory.lock().unwrap();
        let address = (all.len() as u64 + 1) << 32;
        let content = Mutex::new(vec![0xA5; bytes as usize]);
        let memory = Arc::new(FakeMemory { address, content });
        all.insert(address, Arc::clone(&memory));
        Ok(memory)
    }

    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        self.allocate(bytes)
    }

    fn tensor_map(&self, _: &TensorMap) -> Result<[u64; 16]> {
        Ok([0; 16])
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        match kernels::find(launch.entry) {
            Ok(kernel) => {
                // Tensor maps come before the product, if any.
                let at = launch.params.len() - size_of::<GemmParams>();
                self.multiply(kernel.family.is_sparse(), &launch.params[at..]);
            }
            Err(_) if launch.entry == "tile24" => {
                // `layout::params::TileParams`: values, metadata, what becomes of them.
                let [values, metadata, tiles, ..] = addresses(launch.params)[..] else {
                    panic!("{} bytes of parameters", launch.params.len());
                };
                self.tiled.lock().unwrap().insert(tiles, [values, metadata]);
            }
            Err(_) => self.compress(launch.params),
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        (0..items).map(|i| item(i).map(|()| 5000.0)).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The rows of a command line on a device with a defect.
fn rows(defect: Defect, line: &str) -> (Vec<Row>, Arc<FakeDevice>) {
    let device = FakeDevice::open(defect);
    let backend = Backend::Cuda(Arc::clone(&device) as Arc<dyn Device>);
    let cli = Cli::parse_from(line.split(' '));
    let cases = plan(&cli, &backend).unwrap();
    let settings = Settings {
        runs: cli.runs,
        repeat: Some(4),
        seed: 1,
        fill: Fill::Uniform,
        dump: None,
        peers: None,
    };
    let (rows, result) = Run::all(&cases, &backend, &settings);
    result.unwrap();
    assert_eq!(rows.len(), cases.len());
    (rows, device)
}

fn fault(rows: &[Row], op: Op) -> Option<&str> {
    let row = rows.iter().find(|row| row.case.op == op).unwrap();
    assert_eq!(row.check.passed, row.check.fault.is_none());
    assert_eq!(row.check.passed, row.times().is_some());
    row.check.fault.as_deref()
}

#[test]
fn every_kernel_is_checked_and_timed_on_rotating_operands() {
    let line = "bench --shape 17x40x40 --kernel all --epilogue none,bias-gelu";
    let (rows, _) = self::rows(Defect::None, line);
    let of_f16 = kernels::all().filter(|i| i.name.contains("_f16_")).count();
    assert_eq!(rows.len(), 2 * of_f16 + 1);
    for row in &rows {
        assert!(row.check.passed, "{:?}", row.check.fault);
        assert_eq!(row.times().unwrap().samples, [5000.0; 4]);
        assert_eq!(row.backend, "cuda");
    }
    let (_, device) = self::rows(Defect::None, "bench --shape 17x33x40 --kernel all");
    // 40,000 bytes are wanted, and a set has 5122 (dense) or 5938 (sparse).
    assert_eq!(device.written.lock().unwrap().len(), 8 + 7);
}

#[test]
fn every_form_is_checked_and_all_but_the_bare_product_timed_against_it() {
    let line = "bench --shape 17x34x40 --op dense,sparse --output input,f32,int8 \
                --epilogue none,residual,bias-residual-relu,gated-silu,bias-gated";
    let (rows, _) = rows(Defect::None, &line.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(rows.len(), 2 * 3 * 5);
    for row in &rows {
        assert!(row.check.passed, "{}: {:?}", row.case, row.check.fault);
        let bare = row.case.fused == Fused::default() && row.case.output == Output::Input;
        assert_eq!(row.bare_ratio(), (!bare).then_some(1.0), "{}", row.case);
    }
    // A gated f32 Y has half the columns of twice the size.
    let bytes = |text: &str| {
        let row = rows.iter().find(|row| row.case.to_string().ends_with(text)).unwrap();
        row.gb_per_s().unwrap() * 5000.0 * 1e3
    };
    let (x_and_w, y) = ((17.0 + 34.0) * 40.0 * 2.0, 17.0 * 34.0);
    assert_eq!(bytes("x40 none").round(), x_and_w + 2.0 * y);
    assert_eq!(bytes("x40 residual f32").round(), x_and_w + 8.0 * y);
    assert_eq!(bytes("x40 gated-silu f32").round(), x_and_w + 2.0 * y);
    assert_eq!(bytes("x40 bias-residual-relu int8").round(), x_and_w + 3.0 * y);
}

#[test]
fn later_runs_compare_every_bit_with_the_first() {
    let line = "bench --shape 17x33x40,16x16x16 --runs 3 --output input,int8";
    let (all, device) = rows(Defect::None, line);
    assert_eq!(Soak::of(3, &all), Some(Soak { runs: 3, rows: 3 * all.len(), errors: 0 }));
    assert!(all.iter().all(|row| row.later_runs_us == [Some(5000.0); 2]));

    // Two thirds of the products are those of the later runs; the last tenth is the third's.
    let products = *device.products.lock().unwrap();
    let (late, _) = rows(Defect::Late(products * 9 / 10), line);
    let wrong: Vec<&Row> = late.iter().filter(|row| !row.check.passed).collect();
    assert!(!wrong.is_empty() && wrong.len() < late.len());
    for row in &wrong {
        let fault = row.check.fault.as_deref().unwrap();
        assert!(fault.starts_with("run 3: element 0 is "), "{fault}");
        assert_eq!((row.times(), &row.later_runs_us[..]), (None, &[Some(5000.0), None][..]));
    }
    let errors = wrong.len();
    assert_eq!(Soak::of(3, &late), Some(Soak { runs: 3, rows: 3 * late.len(), errors }));

    // A row that is wrong at once is not computed again.
    let (broken, _) = rows(Defect::Gemm, "bench --shape 17x33x40 --runs 2 --op dense");
    assert!(!broken[0].check.passed && broken[0].later_runs_us.is_empty());
}

#[test]
fn an_int8_element_that_is_not_written_is_found() {
    // -1 is what Y was filled with; it may even be right there.
    for seed in 1..=4 {
        let device = FakeDevice::open(Defect::Gemm);
        let backend = Backend::Cuda(device);
        let line = "bench --shape 5x6x8 --op dense --output int8";
        let cases = plan(&Cli::parse_from(line.split(' ')), &backend).unwrap();
        let (fill, runs) = (Fill::Integers, 1);
        let settings = Settings { runs, repeat: None, seed, fill, dump: None, peers: None };
        let (rows, result) = Run::all(&cases, &backend, &settings);
        result.unwrap();
        assert!(!rows[0].check.passed && rows[0].times().is_none());
    }
}

#[test]
fn by_default_the_library_picks_one_kernel() {
    let (rows, device) = rows(Defect::None, "bench --shape 17x33x40,18x33x40");
    let picked = |sparse| {
        let problem = Problem::new(sparse, Dtype::F16, 17, 33, 40);
        let choice = heuristic::select(&problem, device.info()).unwrap();
        Kernel::Gemm(choice)
    };
    let kernels: Vec<_> = rows.iter().map(|row| row.case.kernel).collect();
    let (dense, sparse) = (picked(false), picked(true));
    assert_eq!(kernels, [dense, sparse, Kernel::Compress(Dtype::F16), dense, sparse]);
}

#[test]
fn a_tuned_row_says_what_the_tuner_found_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let line = format!("bench --shape 16x256x4096 --tune --cache {}", path.display());
    for from_store in [false, true] {
        let (rows, _) = rows(Defect::None, &line);
        for row in &rows {
            assert!(row.check.passed, "{:?}", row.check.fault);
            let Some(tuned) = row.case.tuned else {
                assert_eq!(row.case.kernel.name(), "compress24_f16");
                continue;
            };
            assert_eq!((tuned.median_us, tuned.heuristic_us), (5000.0, Some(5000.0)));
            assert_eq!(tuned.heuristic.unwrap().kernel.dtype, row.case.dtype);
            assert_eq!(tuned.seconds.is_none(), from_store);
        }
        assert_eq!(rows.iter().filter(|row| row.case.tuned.is_some()).count(), 2);
    }
    assert!(path.is_file());
}

#[test]
fn a_schedule_goes_with_the_kernels_that_are_named() {
    let (rows, device) =
        rows(Defect::None, "bench --shape 17x33x640 --op dense --kernel all --schedule split-k-5");
    for row in &rows {
        assert!(row.check.passed, "{:?}", row.check.fault);
        assert!(row.case.to_string().contains(" split-k-5 17x33x640"), "{}", row.case);
    }
    assert!(!rows.is_empty() && !device.written.lock().unwrap().is_empty());
}

#[test]
fn an_element_that_is_not_written_fails_the_row() {
    let (rows, _) = rows(Defect::Gemm, "bench --shape 17x33x40");
    for op in [Op::Dense, Op::Sparse] {
        let fault = fault(&rows, op).unwrap();
        assert!(fault.starts_with("y[16, 32] is NaN, must be "), "{fault}");
        assert!(fault.ends_with("1 of 561 elements wrong"), "{fault}");
    }
    assert_eq!(fault(&rows, Op::Compress), None);
}

#[test]
fn a_wrong_packing_fails_every_row_that_uses_it() {
    for (defect, word) in [(Defect::Compress, "value 0 is 0x4700"), (Defect::Metadata, "nibble")] {
        let (rows, _) = rows(defect, "bench --shape 17x33x40");
        assert_eq!(fault(&rows, Op::Dense), None);
        assert!(
            fault(&rows, Op::Compress).unwrap().contains(word),
            "{:?}",
            fault(&rows, Op::Compress)
        );
        let fault = fault(&rows, Op::Sparse).unwrap();
        assert!(fault.starts_with("W was packed wrongly: ") && fault.contains(word), "{fault}");
    }
}
