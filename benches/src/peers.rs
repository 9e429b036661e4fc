//! The vendor's libraries on the operands of a row. Whatever keeps one of them from taking part is a line,
//! never an error of the run.

use crate::cli::Cli;
use crate::kernel::output_name;
use crate::problem::{Number, Problem};
use anyhow::Result;
use layout::activation::Activation;
use layout::params::Output;
use sparseflow::epilogue::Fused;
use sparseflow::peers::cusparselt::{self, Compressed};
use sparseflow::peers::{CublasLt, CusparseLt, Search, cublaslt, fused_form};
use sparseflow::{Device, Error, Matrix};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// cuBLASLt, the fastest of its heuristic's first 16 algorithms.
pub const CUBLASLT: &str = "cublaslt";
/// cuSPARSELt as it plans by default.
pub const CUSPARSELT: &str = "cusparselt";
/// cuSPARSELt after its search.
pub const SEARCHED: &str = "cusparselt-searched";

/// Rows of X in the product that shows whether a compression is right.
pub const PROBE_ROWS: usize = 16;

/// What a peer made of a row over NaN; `Err`: why it does not take part.
pub type Outcome<T> = (&'static str, Result<Vec<T>, String>);

/// The libraries that could be opened.
#[derive(Clone, Default)]
pub struct Peers {
    cublaslt: Option<Rc<CublasLt>>,
    cusparselt: Option<Rc<CusparseLt>>,
}

impl Peers {
    /// Those that the command line asks for, on `device`. Says on stderr what is missing.
    pub fn open(cli: &Cli, device: Option<&Arc<dyn Device>>) -> Option<Self> {
        if !cli.peers {
            return None;
        }
        let Some(device) = device else {
            eprintln!("bench: --peers: peers need a GPU, none is measured");
            return None;
        };
        let search = Search::new(cli.peer_libs.clone());
        Some(Self {
            cublaslt: told(CublasLt::open(&search, device)),
            cusparselt: told(CusparseLt::open(&search, device)),
        })
    }

    /// The version of each library, `None` of one that could not be opened.
    pub fn versions(&self) -> BTreeMap<&'static str, Option<String>> {
        let cublaslt = self.cublaslt.as_ref().map(|library| library.version().to_owned());
        let cusparselt = self.cusparselt.as_ref().map(|library| library.version().to_owned());
        [(CUBLASLT, cublaslt), (CUSPARSELT, cusparselt)].into()
    }

    /// The peers of a product.
    fn of_product(&self, sparse: bool) -> Vec<(&'static str, Library)> {
        let mut peers = Vec::new();
        if let Some(library) = &self.cublaslt {
            peers.push((CUBLASLT, Library::Cublaslt(Rc::clone(library))));
        }
        if let (true, Some(library)) = (sparse, &self.cusparselt) {
            for (name, search) in [(CUSPARSELT, false), (SEARCHED, true)] {
                peers.push((name, Library::Cusparselt { library: Rc::clone(library), search }));
            }
        }
        peers
    }

    /// The peer of a compression.
    fn of_compression(&self) -> Option<&Rc<CusparseLt>> {
        self.cusparselt.as_ref()
    }
}

/// How a peer is planned.
enum Library {
    Cublaslt(Rc<CublasLt>),
    Cusparselt { library: Rc<CusparseLt>, search: bool },
}

/// What could be opened; else a line on stderr.
fn told<L>(opened: Result<L, Error>) -> Option<L> {
    opened.inspect_err(|error| eprintln!("bench: --peers: {error}")).ok()
}

/// Operands of one launch. X, and a dense W, are those of our kernels.
struct Set<T> {
    x: Matrix<T>,
    w: Matrix<T>,
    y: Matrix<T>,
}

enum Plan<T> {
    Cublaslt(cublaslt::Plan<T>),
    /// With the W of each set, compressed.
    Cusparselt(cusparselt::Plan<T>, Vec<Compressed<T>>),
}

/// A product as peers compute it.
pub struct PeerGemm<T> {
    peers: Peers,
    sparse: bool,
    sets: Vec<Set<T>>,
    bias: Matrix<T>,
    /// For the epilogue that was computed last.
    plans: Vec<(&'static str, Plan<T>)>,
}

impl<T: Number> PeerGemm<T> {
    /// Takes X and W of `operands`, and in the place of a W that is missing uploads `pruned`.
    ///
    /// # Errors
    /// Out of memory, or what the device says.
    pub fn new(
        peers: &Peers,
        operands: &[(&Matrix<T>, Option<&Matrix<T>>)],
        bias: &Matrix<T>,
        pruned: &[T],
    ) -> Result<Self, Error> {
        let set = |(x, w): &(&Matrix<T>, Option<&Matrix<T>>)| {
            let (m, n, k) = (x.rows(), bias.cols(), x.cols());
            let w = match w {
                Some(w) => w.view(0, 0, n, k)?,
                None => Matrix::from_slice(x.device(), pruned, n, k)?,
            };
            let y = Matrix::poisoned(x.device(), m, n)?;
            Ok(Set { x: x.view(0, 0, m, k)?, w, y })
        };
        Ok(Self {
            peers: peers.clone(),
            sparse: operands.iter().any(|(_, w)| w.is_none()),
            sets: operands.iter().map(set).collect::<Result<_, Error>>()?,
            bias: bias.view(0, 0, 1, bias.cols())?,
            plans: Vec::new(),
        })
    }

    /// Plans the product for every peer and computes it once with each, over NaN. GELU is computed in the
    /// tanh form. A Y of another type than X is not asked of them.
    pub fn outcomes(&mut self, fused: Fused, output: Output) -> Vec<Outcome<T>> {
        self.plans.clear();
        let peers = self.peers.of_product(self.sparse);
        let outcome = |(name, library)| match output {
            Output::Input => (name, self.outcome(name, &library, fused)),
            other => (name, Err(format!("no Y of {}", output_name(other, T::DTYPE)))),
        };
        peers.into_iter().map(outcome).collect()
    }

    fn outcome(
        &mut self,
        name: &'static str,
        library: &Library,
        fused: Fused,
    ) -> Result<Vec<T>, String> {
        let Some(form) = fused_form(fused) else {
            return Err(format!("no epilogue {fused}"));
        };
        let mut compute = || {
            let plan = self.plan(library, form)?;
            self.sets[0].y.poison()?;
            self.plans.push((name, plan));
            self.launch(name, 0)?;
            self.sets[0].y.to_vec()
        };
        compute().map_err(|error| {
            // What the driver reports may be there to stay, and end the run.
            if let Error::Cuda(error) = &error {
                eprintln!("bench: --peers: {name}: {error}");
            }
            error.to_string()
        })
    }

    fn plan(&mut self, library: &Library, form: Fused) -> Result<Plan<T>, Error> {
        let bias = form.bias.then_some(&self.bias);
        let (library, search) = match library {
            Library::Cusparselt { library, search } => (library, *search),
            Library::Cublaslt(library) => {
                let sets = self.sets.iter_mut();
                let mut operands: Vec<_> = sets.map(|set| (&set.x, &set.w, &mut set.y)).collect();
                let plan = library.plan(&mut operands, bias, form.activation)?;
                return Ok(Plan::Cublaslt(plan));
            }
        };
        let mut plan = library.plan(&self.sets[0].x, &self.sets[0].y, bias, form.activation)?;
        let compress = |set: &Set<T>| {
            let compressed = plan.allocate()?;
            plan.compress(&set.w, &compressed)?;
            Ok(compressed)
        };
        let compressed = self.sets.iter().map(compress).collect::<Result<Vec<_>, Error>>()?;
        if search {
            let Set { x, y, .. } = &mut self.sets[0];
            plan.search(x, &compressed[0], y)?;
        }
        Ok(Plan::Cusparselt(plan, compressed))
    }

    /// Queues the product of a peer that [`Self::outcomes`] last had a result of, on operands that rotate by
    /// `i`.
    ///
    /// # Errors
    /// What the library says.
    pub fn launch(&mut self, name: &'static str, i: usize) -> Result<(), Error> {
        let i = i % self.sets.len();
        let Set { x, w, y } = &mut self.sets[i];
        match self.plans.iter().find(|(planned, _)| *planned == name) {
            Some((_, Plan::Cublaslt(plan))) => plan.launch(x, w, y),
            Some((_, Plan::Cusparselt(plan, compressed))) => plan.launch(x, &compressed[i], y),
            None => Ok(()),
        }
    }
}

/// The compression of a W that is pruned already, which is all that cuSPARSELt's does.
pub struct PeerCompress<T> {
    plan: cusparselt::Plan<T>,
    sets: Vec<(Matrix<T>, Compressed<T>)>,
    x: Matrix<T>,
    y: Matrix<T>,
}

impl<T: Number> PeerCompress<T> {
    /// Uploads the pruned W as often as operands rotate, and X of a small product.
    ///
    /// # Errors
    /// Out of memory, or what library or device say.
    fn new(
        library: &Rc<CusparseLt>,
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        sets: usize,
    ) -> Result<Self> {
        let (n, k) = (problem.shape.n, problem.shape.k);
        let x = Matrix::from_slice(device, &problem.rows_of_x(PROBE_ROWS), PROBE_ROWS, k)?;
        let y = Matrix::poisoned(device, PROBE_ROWS, n)?;
        let plan = library.plan(&x, &y, None, Activation::None)?;
        let pruned = problem.pruned()?;
        let set = |_| Ok((Matrix::from_slice(device, &pruned, n, k)?, plan.allocate()?));
        let sets = (0..sets).map(set).collect::<Result<_, Error>>()?;
        Ok(Self { plan, sets, x, y })
    }

    /// The peer's compression, or why it takes no part; `None` where the library is not there.
    pub fn open(
        peers: &Peers,
        device: &Arc<dyn Device>,
        problem: &Problem<T>,
        sets: usize,
    ) -> Option<Result<Self, String>> {
        let library = peers.of_compression()?;
        Some(Self::new(library, device, problem, sets).map_err(|error| error.to_string()))
    }

    /// Compresses W once, over memory of all ones, and multiplies with it: `[PROBE_ROWS, N]`.
    ///
    /// # Errors
    /// What library or device say.
    pub fn product(&mut self) -> Result<Vec<T>, Error> {
        let (w, compressed) = &self.sets[0];
        compressed.poison()?;
        self.plan.compress(w, compressed)?;
        self.plan.launch(&self.x, compressed, &mut self.y)?;
        self.y.to_vec()
    }

    /// Queues the compression, on operands that rotate by `i`.
    ///
    /// # Errors
    /// What the library says.
    pub fn launch(&self, i: usize) -> Result<(), Error> {
        let (w, compressed) = &self.sets[i % self.sets.len()];
        self.plan.compress(w, compressed)
    }
}
