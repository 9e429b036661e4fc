//! The autotuner: on a device that only keeps time, so that it is known what is the fastest, and on the
//! emulator, where all of it really runs.

use half::f16;
use layout::activation::Activation;
use layout::instance::Dtype;
use layout::params::GemmParams;
use sparseflow::autotune::{Problem, Tuner};
use sparseflow::cache::Store;
use sparseflow::device::{Device, DeviceInfo, Launch, Memory, TensorMap};
use sparseflow::error::{Error, Result};
use sparseflow::{Choice, EmulatedDevice, Matrix, PackedWeight, Weight, kernels};
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Cost = dyn Fn(&str, u32, u32) -> Option<f64> + Send + Sync;

/// Keeps no data, launches nothing, and takes the time that `cost` says.
struct Clockwork {
    info: DeviceInfo,
    /// Microseconds of a kernel with a grid and the units of work that its blocks share; `None`: it fails.
    cost: Box<Cost>,
    /// Bytes that may still be allocated.
    room: AtomicU64,
    next: AtomicU64,
    launches: AtomicUsize,
    last: Mutex<f64>,
    compiled: Mutex<Vec<&'static str>>,
}

struct Nothing(u64, u64);

impl Memory for Nothing {
    fn address(&self) -> u64 {
        self.0
    }
    fn bytes(&self) -> u64 {
        self.1
    }
    fn upload(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn download(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
    fn fill(&self, _: u8) -> Result<()> {
        Ok(())
    }
}

fn fails(what: &str) -> Error {
    Error::InvalidArgument {
        what: what.to_owned(),
        value: "bad".to_owned(),
        limit: "good".to_owned(),
    }
}

impl Device for Clockwork {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn allocate(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        let take = |room: u64| room.checked_sub(bytes);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| fails("memory"))?;
        let size = bytes.next_multiple_of(256);
        Ok(Arc::new(Nothing(self.next.fetch_add(size, Ordering::Relaxed), bytes)))
    }
    fn workspace(&self, bytes: u64) -> Result<Arc<dyn Memory>> {
        self.allocate(bytes)
    }
    fn compile(&self, launch: &Launch<'_>) -> Result<()> {
        let entry = launch.entry;
        self.compiled.lock().unwrap().push(entry);
        if entry.contains("uncompilable") { Err(fails("PTX")) } else { Ok(()) }
    }
    fn tensor_map(&self, _: &TensorMap) -> Result<[u64; 16]> {
        Ok([0; 16])
    }
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        // Hopper's parameters end with these too.
        let after = size_of::<GemmParams>() - std::mem::offset_of!(GemmParams, units);
        let at = launch.params.len() - after;
        let units = u32::from_le_bytes(launch.params[at..at + 4].try_into().unwrap());
        let cost = (self.cost)(launch.entry, launch.grid, units).ok_or_else(|| fails("launch"))?;
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        // A clock that slowly falls to half, and noise of 1% in steps that repeat after 7 launches.
        let drift = 1.5 + 0.5 * (number as f64 / 60.0).sin();
        let noise = 1.0 + 0.01 * ((number * 3 % 7) as f64 - 3.0) / 3.0;
        *self.last.lock().unwrap() = cost * drift * noise;
        Ok(())
    }
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
    fn time(&self, items: usize, item: &mut dyn FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
        (0..items).map(|i| item(i).map(|()| *self.last.lock().unwrap())).collect()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn device(
    name: &str,
    cost: impl Fn(&str, u32, u32) -> Option<f64> + Send + Sync + 'static,
) -> Arc<Clockwork> {
    let info = DeviceInfo {
        name: name.to_owned(),
        // The kernels that all GPUs have: a large sm_80.
        sm: (8, 0),
        multiprocessors: 132,
        l2_bytes: 10 << 20,
        shared_bytes: 227 << 10,
        memory_bytes: 1 << 40,
        driver: "13.0".to_owned(),
    };
    Arc::new(Clockwork {
        info,
        cost: Box::new(cost),
        room: AtomicU64::new(1 << 40),
        next: AtomicU64::new(1 << 20),
        launches: AtomicUsize::new(0),
        last: Mutex::default(),
        compiled: Mutex::default(),
    })
}

fn tuner(device: &Arc<Clockwork>, store: Store) -> Tuner {
    Tuner::new(&(Arc::clone(device) as Arc<dyn Device>), store)
}

fn problem() -> Problem {
    Problem::new(false, Dtype::F16, 256, 4096, 4096)
}

/// What a tuner that never measures takes.
fn heuristic(problem: &Problem) -> Choice {
    let device = device("fake", |_, _, _| None);
    tuner(&device, Store::in_memory()).without_measuring().choice(problem).unwrap()
}

/// What is measured is the schedule: blocks that share work are the faster, the more of them there are.
fn sharing_wins(_: &str, grid: u32, units: u32) -> Option<f64> {
    Some(if units > 0 { 50.0 - grid as f64 / 100.0 } else { 80.0 })
}

#[test]
fn the_fastest_candidate_wins_and_the_heuristic_is_measured_beside_it() {
    let whole_tiles_win =
        |_: &str, grid, units| Some(if units > 0 { 80.0 } else { 50.0 - grid as f64 / 100.0 });
    let device = device("fake", whole_tiles_win);
    let record = tuner(&device, Store::in_memory()).record(&problem()).unwrap();
    assert_eq!(record.choice.schedule, sparseflow::Schedule::Tiles);
    let fastest = record.candidates.iter().map(|c| c.median_us).fold(f64::INFINITY, f64::min);
    assert!(record.median_us <= 1.02 * fastest, "{record:?}");
    let heuristic = record.heuristic.unwrap();
    assert_ne!(heuristic.schedule, sparseflow::Schedule::Tiles);
    // The true ratio is 80 over 47 to 50, whatever the clock did.
    let ratio = record.heuristic_us.unwrap() / record.median_us;
    assert!((1.5..1.8).contains(&ratio), "{ratio}");
    let of_heuristic = record.candidates.iter().find(|c| c.choice == heuristic).unwrap();
    assert_eq!(of_heuristic.samples, record.samples);
    assert!(record.candidates.iter().any(|c| c.samples < record.samples), "none dropped early");
    assert!(!record.from_store && record.tuned_at > Some(1_700_000_000));
}

#[test]
fn what_is_known_is_not_measured_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let first = device("fake", sharing_wins);
    let tuner_a = tuner(&first, Store::open(&path));
    let choice = tuner_a.choice(&problem()).unwrap();
    let launches = first.launches.load(Ordering::Relaxed);
    assert!(launches > 0);
    assert_eq!(tuner_a.choice(&problem()).unwrap(), choice);
    assert_eq!(tuner_a.record(&problem()).unwrap().choice, choice);
    assert_eq!(first.launches.load(Ordering::Relaxed), launches);

    // Another process on the same GPU.
    let second = device("fake", |_, _, _| None);
    let record = tuner(&second, Store::open(&path)).record(&problem()).unwrap();
    assert_eq!((record.choice, record.from_store), (choice, true));
    assert_eq!(tuner(&second, Store::open(&path)).choice(&problem()).unwrap(), choice);
    assert_eq!(second.launches.load(Ordering::Relaxed), 0);

    // Another GPU, and another problem on the first.
    let other = device("another", sharing_wins);
    assert!(!tuner(&other, Store::open(&path)).record(&problem()).unwrap().from_store);
    let wider = Problem::new(false, Dtype::F16, 256, 4104, 4096);
    assert_eq!(tuner(&first, Store::open(&path)).stored(&wider), None);
}

#[test]
fn a_record_that_the_device_cannot_run_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let large = device("fake", sharing_wins);
    let mut record = tuner(&large, Store::in_memory()).record(&problem()).unwrap();
    record.choice = kernels::find("sm80_dense_f16_128x256x64").unwrap().into();
    Store::open(&path).put(&problem().key(large.info()), &record);
    assert_eq!(tuner(&large, Store::open(&path)).choice(&problem()).unwrap(), record.choice);
    // The same name with less shared memory.
    let mut small = device("fake", sharing_wins);
    Arc::get_mut(&mut small).unwrap().info.shared_bytes = 99 << 10;
    let choice = tuner(&small, Store::open(&path)).choice(&problem()).unwrap();
    assert!(choice.kernel.shared_bytes() <= 99 << 10);
    record.choice = kernels::find("sm80_dense_bf16_64x64x64").unwrap().into();
    Store::open(&path).put(&problem().key(large.info()), &record);
    assert_eq!(tuner(&large, Store::open(&path)).stored(&problem()), None, "another type");
}

#[test]
fn candidates_that_fail_are_dropped() {
    let heuristic = heuristic(&problem());
    let of_heuristic = heuristic.kernel.name;
    let without = move |entry: &str, _, units| {
        (entry != of_heuristic).then_some(if units > 0 { 50.0 } else { 60.0 })
    };
    let device = device("fake", without);
    let record = tuner(&device, Store::in_memory()).record(&problem()).unwrap();
    assert_eq!((record.heuristic, record.heuristic_us), (Some(heuristic), None));
    assert_ne!(record.choice.kernel.name, of_heuristic);
    assert!(record.candidates.iter().all(|c| c.choice.kernel.name != of_heuristic));
}

#[test]
fn where_nothing_can_be_measured_the_heuristic_chooses() {
    let heuristic = heuristic(&problem());
    let broken = device("fake", |_, _, _| None);
    let text = tuner(&broken, Store::in_memory()).record(&problem()).unwrap_err().to_string();
    assert!(text.contains("launch is bad"), "{text}");
    assert_eq!(tuner(&broken, Store::in_memory()).choice(&problem()).unwrap(), heuristic);

    let full = device("fake", sharing_wins);
    full.room.store(1 << 20, Ordering::Relaxed);
    let full_tuner = tuner(&full, Store::in_memory());
    assert!(full_tuner.record(&problem()).unwrap_err().to_string().contains("memory is bad"));
    assert_eq!(full_tuner.choice(&problem()).unwrap(), heuristic);

    let empty = Problem::new(false, Dtype::F16, 0, 512, 512);
    let device = device("fake", sharing_wins);
    tuner(&device, Store::in_memory()).choice(&empty).unwrap();
    assert!(tuner(&device, Store::in_memory()).record(&empty).is_err());
    assert_eq!(device.launches.load(Ordering::Relaxed), 0);
}

#[test]
fn little_memory_makes_fewer_sets_of_operands() {
    let device = device("fake", |_, _, _| Some(80.0));
    // X, W and Y have 36 MB together: one set, and not all the workspaces.
    device.room.store(40 << 20, Ordering::Relaxed);
    let record = tuner(&device, Store::in_memory()).record(&problem()).unwrap();
    let tiles = sparseflow::Schedule::Tiles;
    assert!(record.candidates.iter().any(|c| c.choice.schedule == tiles));
    device.room.store(1 << 40, Ordering::Relaxed);
    let all = tuner(&device, Store::in_memory()).record(&problem()).unwrap();
    assert!(record.candidates.len() < all.candidates.len());
}

#[test]
fn a_hopeless_candidate_whose_launches_are_long_runs_once() {
    let launches: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let counted = Arc::clone(&launches);
    let heuristic = heuristic(&problem()).kernel.name;
    let device = device("fake", move |entry, _, _| {
        *counted.lock().unwrap().entry(entry.to_owned()).or_default() += 1;
        Some(if entry == heuristic { 3000.0 } else { 9500.0 })
    });
    let record = tuner(&device, Store::in_memory()).record(&problem()).unwrap();
    assert!(record.candidates.iter().all(|c| c.choice.kernel.name == heuristic));
    let launches = launches.lock().unwrap();
    assert!(launches.len() > 1 && launches[heuristic] > 20, "{launches:?}");
    // Once for each schedule.
    assert!(launches.iter().all(|(name, &n)| name == heuristic || n <= 12), "{launches:?}");
}

#[test]
fn a_budget_of_nothing_compiles_one_kernel() {
    let device = device("fake", sharing_wins);
    let tuner = tuner(&device, Store::in_memory()).with_budget(Duration::ZERO);
    let record = tuner.record(&problem()).unwrap();
    let heuristic = record.heuristic.unwrap();
    assert_eq!(*device.compiled.lock().unwrap(), [heuristic.kernel.name]);
    assert!(record.candidates.iter().all(|c| c.choice.kernel == heuristic.kernel));
}

#[test]
fn a_product_that_is_none_is_refused_and_not_measured() {
    let clockwork = device("fake", sharing_wins);
    let tuner = tuner(&clockwork, Store::in_memory());
    let device: Arc<dyn Device> = clockwork.clone();
    let x: Matrix<f16> = Matrix::uninitialized(&device, 64, 128).unwrap();
    let w = Matrix::uninitialized(&device, 64, 120).unwrap();
    let text = tuner.linear(&x, Weight::Dense(&w), None, Activation::None).unwrap_err().to_string();
    assert!(text.contains("columns of X"), "{text}");
    assert_eq!(clockwork.launches.load(Ordering::Relaxed), 0);
}

#[test]
fn the_emulator_is_tuned_and_computes_the_product() {
    let device = EmulatedDevice::open(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let tuner = Tuner::new(&device, Store::open(&path)).with_budget(Duration::from_millis(100));
    let (m, n, k) = (17, 72, 520);
    let integers = |rows: usize, cols: usize, step: usize| -> Vec<f16> {
        (0..rows * cols).map(|i| f16::from_f32((i * step % 5) as f32 - 2.0)).collect()
    };
    let (x_host, w_host) = (integers(m, k, 3), integers(n, k, 7));
    let x = Matrix::from_slice(&device, &x_host, m, k).unwrap();
    let w = Matrix::from_slice(&device, &w_host, n, k).unwrap();
    let packed = PackedWeight::prune_and_pack(&w).unwrap();
    let pruned = packed.to_host().unwrap().unpack();
    for (weight, w_host) in [(Weight::Dense(&w), &w_host), (Weight::Sparse(&packed), &pruned)] {
        for _ in 0..2 {
            let y = tuner.linear(&x, weight, None, Activation::Relu).unwrap().to_vec().unwrap();
            let dot = |i: usize| -> f32 {
                let (x, w) = (&x_host[i / n * k..][..k], &w_host[i % n * k..][..k]);
                x.iter().zip(w).map(|(x, w)| x.to_f32() * w.to_f32()).sum()
            };
            let want: Vec<f16> = (0..m * n).map(|i| f16::from_f32(dot(i).max(0.0))).collect();
            assert_eq!(y, want);
        }
        let problem = Problem {
            fused: sparseflow::epilogue::Fused {
                activation: Activation::Relu,
                ..Default::default()
            },
            ..Problem::new(weight.is_sparse(), Dtype::F16, m, n, k)
        };
        let choices: Vec<Choice> = Tuner::new(&device, Store::open(&path))
            .stored(&problem)
            .unwrap()
            .candidates
            .iter()
            .map(|c| c.choice)
            .collect();
        assert!(choices.len() > 1, "{choices:?}");
    }
}
