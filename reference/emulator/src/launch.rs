//! Launching an entry, and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rayon::prelude::*;

use crate::counters::Counters;
use crate::error::{Error, Stop};
use crate::family;
use crate::finding::{Finding, Place};
use crate::memory::{Buffer, Memory, Plain};
use crate::module::Module;
use crate::program::Program;
use crate::schedule::run_unit;
use crate::unit::{Block, Tally};

/// Most shared memory of a block, static and dynamic (sm_90).
pub const MAX_SHARED: usize = 227 << 10;

/// A launch being described; [`Launch::run`] carries it out.
///
/// ```
/// # use ptx_emulator::{Launch, Memory, Module};
/// let module = Module::parse(
///     ".version 8.0 .target sm_80 .address_size 64
///      .visible .entry set(.param .u64 out) {
///        .reg .b32 %r<2>; .reg .b64 %rd<3>;
///        ld.param.u64 %rd0, [out];
///        mov.u32 %r0, %tid.x;
///        mul.wide.u32 %rd1, %r0, 4;
///        add.s64 %rd2, %rd0, %rd1;
///        st.global.u32 [%rd2], %r0;
///        ret;
///      }",
/// )?;
/// let memory = Memory::new();
/// let out = memory.alloc(64 * 4);
/// let report = Launch::new("set").block([64, 1, 1]).arg(out).run(&module, &memory)?;
/// assert!(report.findings.is_empty());
/// assert_eq!(memory.download::<u32>(out, 64)?[63], 63);
/// # Ok::<(), ptx_emulator::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Launch {
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    cluster: Option<[u32; 3]>,
    shared_bytes: usize,
    args: Vec<Vec<u8>>,
    seed: u64,
    stop_at_first_finding: bool,
    instruction_limit: u64,
    processors: u32,
}

/// What a launch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Counted work.
    pub counters: Counters,
    /// Broken rules, in block order.
    pub findings: Vec<Finding>,
}

/// What is the same for all units of a launch.
pub struct Context<'a> {
    /// The entry.
    pub program: &'a Program,
    /// Its module.
    pub module: &'a Module,
    /// Parameter bytes.
    pub params: &'a [u8],
    /// `%nctaid`.
    pub grid: [u32; 3],
    /// `%ntid`.
    pub block: [u32; 3],
    /// `%cluster_nctaid`.
    pub cluster: [u32; 3],
    /// Dynamic shared memory per block.
    pub dynamic_shared: usize,
    /// `%nsmid`.
    pub processors: u32,
    /// Permutes the schedule.
    pub seed: u64,
    /// Whether to end at the first finding.
    pub stop_at_first_finding: bool,
    /// Warp instructions left.
    pub budget: AtomicU64,
    /// Set when a unit has stopped the launch.
    pub abort: AtomicBool,
    /// Global memory, by address.
    pub buffers: Arc<[Arc<Buffer>]>,
}

impl Context<'_> {
    /// A place in this launch.
    pub fn place(&self, block: &Block, warp: u32, lane: Option<u32>, pc: u32) -> Place {
        let instruction = self.program.code.get(pc as usize).or(self.program.code.last());
        let source = instruction.and_then(|i| i.source);
        Place {
            entry: self.program.name.clone(),
            block: block.ctaid,
            warp,
            lane,
            line: instruction.map_or(0, |i| i.line),
            source: source.map(|(file, line)| {
                (self.module.file(file).map_or_else(|| format!("file {file}"), Into::into), line)
            }),
        }
    }
}

impl Launch {
    /// One block of 32 threads of `entry`, until said otherwise.
    pub fn new(entry: impl Into<String>) -> Self {
        Self {
            entry: entry.into(),
            grid: [1; 3],
            block: [32, 1, 1],
            cluster: None,
            shared_bytes: 0,
            args: Vec::new(),
            seed: 0,
            stop_at_first_finding: false,
            instruction_limit: 1 << 32,
            processors: 132,
        }
    }

    /// Blocks of the grid.
    pub fn grid(mut self, grid: [u32; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// Threads of a block.
    pub fn block(mut self, block: [u32; 3]) -> Self {
        self.block = block;
        self
    }

    /// Blocks of a cluster.
    pub fn cluster(mut self, cluster: [u32; 3]) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Dynamic shared memory of a block, in bytes.
    pub fn shared_bytes(mut self, bytes: usize) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// The next parameter: an address or a number.
    pub fn arg<T: Plain>(self, value: T) -> Self {
        self.arg_bytes(&T::bytes_of(&[value]))
    }

    /// The next parameter as bytes: a struct passed by value.
    pub fn arg_bytes(mut self, bytes: &[u8]) -> Self {
        self.args.push(bytes.to_vec());
        self
    }

    /// Permutes the order in which warps run. Results of a correct kernel do not depend on it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Ends the launch at the first finding, with [`Stop::FirstFinding`].
    pub fn stop_at_first_finding(mut self, stop: bool) -> Self {
        self.stop_at_first_finding = stop;
        self
    }

    /// Most warp instructions the launch may execute (about 4e9 by default); a net for endless loops.
    pub fn instruction_limit(mut self, limit: u64) -> Self {
        self.instruction_limit = limit;
        self
    }

    /// `%nsmid`, 132 by default.
    pub fn processors(mut self, processors: u32) -> Self {
        self.processors = processors.max(1);
        self
    }

    /// Runs it to its end, blocks side by side on rayon's threads.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`] and [`Error::Launch`] before anything runs; [`Error::Stopped`] for a
    /// deadlock, a trap, the instruction limit or the first finding, if asked to stop there.
    pub fn run(&self, module: &Module, memory: &Memory) -> Result<Report, Error> {
        let program =
            module.entry(&self.entry).ok_or_else(|| Error::UnknownEntry(self.entry.clone()))?;
        let cluster = self.check(program)?;
        let params = self.params(program)?;
        module.place(memory);
        let context = Context {
            program,
            module,
            params: &params,
            grid: self.grid,
            block: self.block,
            cluster,
            dynamic_shared: self.shared_bytes,
            processors: self.processors,
            seed: self.seed,
            stop_at_first_finding: self.stop_at_first_finding,
            budget: AtomicU64::new(self.instruction_limit),
            abort: AtomicBool::new(false),
            buffers: memory.snapshot().into(),
        };
        let blocks: u64 = self.grid.iter().map(|&n| u64::from(n)).product();
        let units = blocks / cluster.iter().map(|&n| u64::from(n)).product::<u64>();
        // Units start in order, so a block may wait for one with a lower index.
        let next = AtomicU64::new(0);
        let workers = rayon::current_num_threads().min(units.try_into().unwrap_or(usize::MAX));
        let outcomes: Vec<(Tally, Option<(u64, Stop)>)> = (0..workers)
            .into_par_iter()
            .map(|_| {
                let mut tally = Tally::for_program(program);
                loop {
                    let unit = next.fetch_add(1, Relaxed);
                    if unit >= units || context.abort.load(Relaxed) {
                        return (tally, None);
                    }
                    let result;
                    (tally, result) = run_unit(&context, unit, tally);
                    if let Err(stop) = result {
                        context.abort.store(true, Relaxed);
                        return (tally, Some((unit, stop)));
                    }
                }
            })
            .collect();
        let stop = outcomes.iter().filter_map(|(_, s)| s.clone()).min_by_key(|(unit, _)| *unit);
        let report = merge(program, outcomes.into_iter().map(|(tally, _)| tally));
        match stop {
            None => Ok(report),
            Some((_, cause)) => Err(Error::Stopped { cause, report: Box::new(report) }),
        }
    }

    /// Checks the shape; returns the cluster's.
    fn check(&self, program: &Program) -> Result<[u32; 3], Error> {
        let fail = |message: String| Err(Error::Launch(message));
        let volume = |shape: [u32; 3]| shape.iter().map(|&n| u128::from(n)).product::<u128>();
        let threads = volume(self.block);
        let [_, y, z] = self.grid;
        let grid = volume(self.grid) != 0 && y.max(z) < 1 << 16;
        if threads == 0 || threads > 1024 || !grid {
            return fail(format!("grid {:?}, block {:?}", self.grid, self.block));
        }
        if let Some(max) = program.max_threads {
            let exact = program.exact_threads && max != self.block;
            if exact || threads > volume(max) {
                return fail(format!("block {:?}, the entry is made for {max:?}", self.block));
            }
        }
        let cluster = match (program.cluster, self.cluster) {
            (Some(required), Some(given)) if required != given => {
                return fail(format!("cluster {given:?}, the entry is made for {required:?}"));
            }
            (Some(required), _) => required,
            (None, Some(given)) => given,
            (None, None) if program.explicit_cluster => {
                return fail("the entry demands a cluster".into());
            }
            (None, None) => [1; 3],
        };
        let divides = self.grid.iter().zip(cluster).all(|(&g, c)| c > 0 && g % c == 0);
        if volume(cluster) > 16 || !divides {
            return fail(format!("cluster {cluster:?} of grid {:?}", self.grid));
        }
        let shared = program.shared_bytes.saturating_add(self.shared_bytes);
        if shared > MAX_SHARED {
            return fail(format!("{shared} bytes of shared memory, there are {MAX_SHARED}"));
        }
        Ok(cluster)
    }

    fn params(&self, program: &Program) -> Result<Vec<u8>, Error> {
        if self.args.len() != program.params.len() {
            let (given, wanted) = (self.args.len(), program.params.len());
            return Err(Error::Launch(format!("{given} arguments for {wanted} parameters")));
        }
        let mut params = Vec::new();
        for (index, (arg, (at, bytes))) in self.args.iter().zip(&program.params).enumerate() {
            if arg.len() != *bytes {
                let given = arg.len();
                return Err(Error::Launch(format!(
                    "argument {index} has {given} bytes, its parameter {bytes}"
                )));
            }
            params.resize(*at, 0);
            params.extend_from_slice(arg);
        }
        Ok(params)
    }
}

/// One report of what the workers have counted.
fn merge(program: &Program, tallies: impl Iterator<Item = Tally>) -> Report {
    let mut total = Tally::for_program(program);
    for tally in tallies {
        total.add(tally);
    }
    let mut counters = total.totals;
    for ((_, row), count) in family::table().enumerate().zip(&total.opcodes) {
        if *count > 0 {
            *counters.families.entry(row.family).or_default() += count;
            counters.instructions += count;
        }
    }
    for (instruction, (shared, global)) in
        program.code.iter().zip(total.shared_sites.iter().zip(&total.global_sites))
    {
        if shared.requests > 0 {
            let site = counters.shared_sites.entry(instruction.line).or_default();
            site.requests += shared.requests;
            site.ideal += shared.ideal;
            site.wavefronts += shared.wavefronts;
        }
        if global.requests > 0 {
            let site = counters.global_sites.entry(instruction.line).or_default();
            site.requests += global.requests;
            site.sectors += global.sectors;
            site.bytes += global.bytes;
        }
    }
    let mut findings: Vec<_> =
        total.findings.into_iter().map(|((_, pc), (unit, finding))| (unit, pc, finding)).collect();
    findings.sort_by_key(|(unit, pc, finding)| (*unit, *pc, finding.kind));
    Report { counters, findings: findings.into_iter().map(|(_, _, f)| f).collect() }
}
