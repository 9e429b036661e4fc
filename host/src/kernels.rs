//! The registry: which kernels there are, and which of them a device can run.

use crate::autotune::Problem;
use crate::device::DeviceInfo;
use crate::error::{Error, Result};
use crate::hopper;
use layout::instance::{Accumulator, Dtype, INSTANCES, Instance};

/// Every GEMM kernel.
pub fn all() -> impl Iterator<Item = &'static Instance> {
    INSTANCES.into_iter().flatten()
}

/// The GEMM kernel called `name`.
///
/// # Errors
/// [`Error::UnknownKernel`].
pub fn find(name: &str) -> Result<&'static Instance> {
    all().find(|i| i.name == name).ok_or_else(|| Error::UnknownKernel { name: name.to_owned() })
}

/// Why `device` cannot run `kernel`, or `None` where it can.
pub fn obstacle(kernel: &Instance, device: &DeviceInfo) -> Option<String> {
    if kernel.family.is_hopper() && device.sm != (9, 0) {
        let (major, minor) = device.sm;
        return Some(format!(
            "{} is for sm_90 alone, the device is sm_{major}{minor}",
            kernel.name
        ));
    }
    (kernel.shared_bytes() > device.shared_bytes).then(|| {
        format!(
            "{} needs {} bytes of shared memory a block, the device allows {}",
            kernel.name,
            kernel.shared_bytes(),
            device.shared_bytes
        )
    })
}

/// Whether `kernel` takes the operands of `problem`. The Hopper kernels want them aligned.
pub fn takes(kernel: &Instance, problem: &Problem) -> bool {
    let extents = [problem.m, problem.n, problem.k];
    kernel.hopper().is_none_or(|shape| hopper::takes(shape, problem.aligned, extents))
}

/// The kernels for dense or sparse W of type `dtype` that `device` can run, to choose from without being
/// asked: those that sum in f16 lose accuracy and are only taken by name.
///
/// # Errors
/// [`Error::NoKernel`] where there is none.
pub fn eligible(sparse: bool, dtype: Dtype, device: &DeviceInfo) -> Result<Vec<&'static Instance>> {
    let kind: Vec<_> = all()
        .filter(|i| i.family.is_sparse() == sparse && i.dtype == dtype)
        .filter(|i| i.accumulator == Accumulator::F32)
        .collect();
    let fit: Vec<_> = kind.iter().copied().filter(|i| obstacle(i, device).is_none()).collect();
    if fit.is_empty() {
        return Err(Error::NoKernel {
            op: if sparse { "sparse" } else { "dense" },
            dtype,
            device: device.name.clone(),
            reason: kind.iter().filter_map(|i| obstacle(i, device)).collect::<Vec<_>>().join("; "),
        });
    }
    Ok(fit)
}

/// Entry name of the compression kernel.
pub const fn compress_entry(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "compress24_f16",
        Dtype::Bf16 => "compress24_bf16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(shared_bytes: u32) -> DeviceInfo {
        DeviceInfo {
            name: "test".to_owned(),
            sm: (8, 6),
            multiprocessors: 1,
            l2_bytes: 0,
            shared_bytes,
            memory_bytes: 0,
            driver: String::new(),
        }
    }

    #[test]
    fn a_kernel_that_does_not_fit_or_sums_in_f16_is_never_eligible() {
        for sparse in [false, true] {
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let fit = eligible(sparse, dtype, &device(99 * 1024)).unwrap();
                assert!(fit.iter().all(|i| i.shared_bytes() <= 99 * 1024));
                assert!(fit.iter().all(|i| i.accumulator == Accumulator::F32));
                assert!(fit.len() < eligible(sparse, dtype, &device(227 * 1024)).unwrap().len());
            }
        }
        let error = eligible(true, Dtype::F16, &device(1000)).unwrap_err().to_string();
        assert!(error.contains("allows 1000"), "{error}");
    }

    #[test]
    fn names_are_found() {
        assert!(all().all(|i| find(i.name).unwrap() == i));
        assert!(find("sm80_dense").unwrap_err().to_string().contains("`sm80_dense`"));
    }
}
