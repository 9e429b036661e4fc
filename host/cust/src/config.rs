//! The shape of a launch, and the checks made before the driver sees it.

use crate::device::{Device, DeviceAttribute};
use crate::error::{CudaError, CudaResult, invalid};

/// Blocks in a cluster that every device with clusters takes.
const PORTABLE_CLUSTER: u32 = 8;

/// Three extents, built from a number, a pair or a triple.
macro_rules! extents {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            /// Extent along x.
            pub x: u32,
            /// Extent along y.
            pub y: u32,
            /// Extent along z.
            pub z: u32,
        }

        impl $name {
            /// One dimension.
            pub fn x(x: u32) -> Self {
                Self::xyz(x, 1, 1)
            }

            /// Two dimensions.
            pub fn xy(x: u32, y: u32) -> Self {
                Self::xyz(x, y, 1)
            }

            /// Three dimensions.
            pub fn xyz(x: u32, y: u32, z: u32) -> Self {
                Self { x, y, z }
            }
        }

        impl From<u32> for $name {
            fn from(x: u32) -> Self {
                Self::x(x)
            }
        }

        impl From<(u32, u32)> for $name {
            fn from((x, y): (u32, u32)) -> Self {
                Self::xy(x, y)
            }
        }

        impl From<(u32, u32, u32)> for $name {
            fn from((x, y, z): (u32, u32, u32)) -> Self {
                Self::xyz(x, y, z)
            }
        }
    };
}

extents! {
    /// Blocks of a grid.
    GridSize
}
extents! {
    /// Threads of a block.
    BlockSize
}

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaunchConfig {
    /// Blocks along (x, y, z).
    pub grid: (u32, u32, u32),
    /// Threads of a block along (x, y, z).
    pub block: (u32, u32, u32),
    /// Dynamic shared memory of a block in bytes. Over 48 KiB (less the static part) needs
    /// [`set_max_dynamic_shared`](crate::function::Function::set_max_dynamic_shared) first.
    pub shared_bytes: u32,
    /// Blocks of a cluster along (x, y, z); the grid must be a multiple of it.
    pub cluster: Option<(u32, u32, u32)>,
}

impl LaunchConfig {
    /// A launch without dynamic shared memory and clusters.
    pub fn new(grid: impl Into<GridSize>, block: impl Into<BlockSize>) -> Self {
        let (grid, block) = (grid.into(), block.into());
        Self {
            grid: (grid.x, grid.y, grid.z),
            block: (block.x, block.y, block.z),
            shared_bytes: 0,
            cluster: None,
        }
    }

    /// With this much dynamic shared memory in bytes.
    #[must_use]
    pub fn shared_bytes(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }

    /// In clusters of so many blocks.
    #[must_use]
    pub fn cluster(self, cluster: (u32, u32, u32)) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Threads of a block.
    pub fn threads(&self) -> u64 {
        u64::from(self.block.0) * u64::from(self.block.1) * u64::from(self.block.2)
    }

    /// Checks everything but shared memory, which depends on the function.
    ///
    /// # Errors
    /// [`CudaError::InvalidArgument`] naming the value and the limit.
    pub fn validate(&self, limits: &LaunchLimits) -> CudaResult<()> {
        within("grid", "blocks", self.grid, limits.max_grid)?;
        within("block", "threads", self.block, limits.max_block)?;
        let (threads, most) = (self.threads(), u64::from(limits.max_threads_per_block));
        if threads > most {
            return Err(invalid("block size (threads)", threads, format!("at most {most}")));
        }
        self.cluster.map_or(Ok(()), |cluster| self.validate_cluster(cluster, limits))
    }

    fn validate_cluster(&self, cluster: (u32, u32, u32), limits: &LaunchLimits) -> CudaResult<()> {
        if !limits.clusters {
            return Err(invalid(
                "cluster",
                format!("{cluster:?}"),
                "absent: this device and driver have no clusters (compute capability 9.0 or newer)",
            ));
        }
        within("cluster", "blocks", cluster, [PORTABLE_CLUSTER; 3])?;
        let blocks = cluster.0 * cluster.1 * cluster.2;
        if blocks > PORTABLE_CLUSTER {
            let limit = format!("at most {PORTABLE_CLUSTER}");
            return Err(invalid("cluster size (blocks)", blocks, limit));
        }
        let axes = [
            ("x", self.grid.0, cluster.0),
            ("y", self.grid.1, cluster.1),
            ("z", self.grid.2, cluster.2),
        ];
        for (axis, grid, cluster) in axes {
            if grid % cluster != 0 {
                let limit = format!("a multiple of {cluster}, the cluster's size");
                return Err(invalid(format!("grid {axis} (blocks)"), grid, limit));
            }
        }
        Ok(())
    }
}

/// Each of three extents is at least 1 and at most its limit.
fn within(what: &str, unit: &str, extent: (u32, u32, u32), most: [u32; 3]) -> CudaResult<()> {
    for (axis, value, most) in
        [("x", extent.0, most[0]), ("y", extent.1, most[1]), ("z", extent.2, most[2])]
    {
        if value == 0 || value > most {
            let limit = format!("at least 1 and at most {most}");
            return Err(invalid(format!("{what} {axis} ({unit})"), value, limit));
        }
    }
    Ok(())
}

/// What a launch on a device may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchLimits {
    /// Blocks along x, y, z of a grid.
    pub max_grid: [u32; 3],
    /// Threads along x, y, z of a block.
    pub max_block: [u32; 3],
    /// Threads of a block.
    pub max_threads_per_block: u32,
    /// Static and dynamic shared memory of a block after opting in, in bytes.
    pub max_shared_per_block: u32,
    /// Whether device and driver have clusters.
    pub clusters: bool,
}

impl LaunchLimits {
    /// Asks the device.
    ///
    /// # Errors
    /// What the driver says.
    pub fn of(device: Device) -> CudaResult<Self> {
        use DeviceAttribute as A;
        let get = |attribute| Ok(device.get_attribute(attribute)?.max(0) as u32);
        // A driver older than clusters does not know the attribute: no clusters then.
        let clusters = match device.get_attribute(A::ClusterLaunch) {
            Ok(value) => value != 0,
            Err(CudaError::Driver { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Self {
            max_grid: [get(A::MaxGridDimX)?, get(A::MaxGridDimY)?, get(A::MaxGridDimZ)?],
            max_block: [get(A::MaxBlockDimX)?, get(A::MaxBlockDimY)?, get(A::MaxBlockDimZ)?],
            max_threads_per_block: get(A::MaxThreadsPerBlock)?,
            max_shared_per_block: get(A::MaxSharedMemoryPerBlockOptin)?,
            clusters,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn extents_come_from_numbers_pairs_and_triples() {
        assert_eq!(GridSize::from(3), GridSize::xyz(3, 1, 1));
        assert_eq!(GridSize::from((3, 2)), GridSize::xyz(3, 2, 1));
        assert_eq!(BlockSize::from((3, 2, 4)), BlockSize { x: 3, y: 2, z: 4 });
    }

    pub(crate) fn hopper() -> LaunchLimits {
        LaunchLimits {
            max_grid: [i32::MAX as u32, 65535, 65535],
            max_block: [1024, 1024, 64],
            max_threads_per_block: 1024,
            max_shared_per_block: 232_448,
            clusters: true,
        }
    }

    fn message(config: LaunchConfig) -> String {
        config.validate(&hopper()).unwrap_err().to_string()
    }

    #[test]
    fn good_launches_pass() {
        for config in [
            LaunchConfig::new(1, 1),
            LaunchConfig::new((i32::MAX as u32, 65535, 65535), (16, 16, 4)),
            LaunchConfig::new(4, 1024).shared_bytes(200_000).cluster((4, 1, 1)),
            LaunchConfig::new((2, 4), 128).cluster((2, 4, 1)),
        ] {
            config.validate(&hopper()).unwrap();
        }
    }

    #[test]
    fn bad_launches_name_value_and_limit() {
        let cases = [
            (LaunchConfig::new(0, 1), "grid x (blocks) is 0, must be at least 1"),
            (
                LaunchConfig::new((1, 65536), 1),
                "grid y (blocks) is 65536, must be at least 1 and at most 65535",
            ),
            (LaunchConfig::new((1, 1, 70000), 1), "grid z (blocks) is 70000"),
            (
                LaunchConfig::new(1, (1, 1, 65)),
                "block z (threads) is 65, must be at least 1 and at most 64",
            ),
            (LaunchConfig::new(1, (1, 0)), "block y (threads) is 0"),
            (LaunchConfig::new(1, (64, 32)), "block size (threads) is 2048, must be at most 1024"),
            (
                LaunchConfig::new(3, 1).cluster((2, 1, 1)),
                "grid x (blocks) is 3, must be a multiple of 2",
            ),
            (LaunchConfig::new(16, 1).cluster((16, 1, 1)), "cluster x (blocks) is 16"),
            (
                LaunchConfig::new((4, 4), 1).cluster((4, 4, 1)),
                "cluster size (blocks) is 16, must be at most 8",
            ),
            (LaunchConfig::new(4, 1).cluster((0, 1, 1)), "cluster x (blocks) is 0"),
        ];
        for (config, expected) in cases {
            let text = message(config);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn clusters_need_a_device_that_has_them() {
        let ampere = LaunchLimits { clusters: false, ..hopper() };
        let config = LaunchConfig::new(4, 1).cluster((2, 1, 1));
        let text = config.validate(&ampere).unwrap_err().to_string();
        assert!(text.contains("cluster is (2, 1, 1)") && text.contains("9.0"), "{text}");
    }
}
