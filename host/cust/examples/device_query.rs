//! Says what the driver sees, or why it sees nothing. Starts on any machine.

use std::process::ExitCode;

use cust::device::{Device, DeviceAttribute};

fn query() -> cust::CudaResult<()> {
    cust::init()?;
    println!("CUDA driver up to {}", cust::CudaApiVersion::get()?);
    for ordinal in 0..Device::num_devices()? {
        let device = Device::get_device(ordinal)?;
        let (major, minor) = device.compute_capability()?;
        println!(
            "{ordinal}: {}, sm_{major}{minor}, {} multiprocessors, {:.1} GiB",
            device.name()?,
            device.get_attribute(DeviceAttribute::MultiprocessorCount)?,
            device.total_memory()? as f64 / f64::from(1 << 30),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    match query() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
