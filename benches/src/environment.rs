//! On what, and with what, the rows were measured.

use crate::backend::Backend;
use crate::peers::Peers;
use serde::Serialize;
use sparseflow::ptx;
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

/// On what, and with what, the rows were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Name of the GPU, where one is measured.
    pub gpu: Option<String>,
    /// Its architecture, such as `sm_90`.
    pub sm: Option<String>,
    /// Newest CUDA version that its driver supports.
    pub driver: Option<String>,
    /// Name of the CPU.
    pub cpu: String,
    /// CPU cores that this process may use.
    pub cores: usize,
    /// The compiler that made the PTX.
    pub rustc_device: &'static str,
    /// The commit that the binary was built from, where it was built from one.
    pub commit: Option<&'static str>,
    /// Hash of the PTX.
    pub ptx_blake3: &'static str,
    /// Versions of the vendor's libraries that were asked for, null of those that are not there.
    pub peers: BTreeMap<&'static str, Option<String>>,
    /// When the program started, RFC 3339, UTC.
    pub started_at: String,
}

impl Environment {
    /// The environment of a measurement on `backend` and beside `peers` that starts now.
    pub fn now(backend: &Backend, peers: Option<&Peers>) -> Self {
        let info = backend.gpu().map(|device| device.info());
        Self {
            gpu: info.map(|info| info.name.clone()),
            sm: info.map(|info| format!("sm_{}{}", info.sm.0, info.sm.1)),
            driver: info.map(|info| info.driver.clone()),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            rustc_device: ptx::DEVICE_RUSTC,
            commit: option_env!("SPARSEFLOW_COMMIT"),
            ptx_blake3: ptx::BLAKE3,
            peers: peers.map(Peers::versions).unwrap_or_default(),
            started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}

/// The CPU's name, as Linux has it; elsewhere its architecture.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(gpu), Some(sm), Some(driver)) = (&self.gpu, &self.sm, &self.driver) {
            write!(f, "{gpu} ({sm}, driver for CUDA {driver}); ")?;
        }
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        write!(f, "{}, {} cores; ", self.cpu, self.cores)?;
        write!(f, "PTX {} by {}; ", short(self.ptx_blake3), self.rustc_device)?;
        if let Some(commit) = self.commit {
            write!(f, "commit {}; ", short(commit))?;
        }
        for (name, version) in &self.peers {
            write!(f, "{name} {}; ", version.as_deref().unwrap_or("absent"))?;
        }
        write!(f, "{}", self.started_at)
    }
}
