//! `.npy` files, for `--dump`.

use crate::output;
use anyhow::{Context, Result};
use half::{bf16, f16};
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use std::path::Path;

/// A type whose matrices can be written: all but bf16, which NumPy lacks, as they are.
pub trait Dumped: Copy {
    /// The type in the file.
    type InFile: AutoSerialize;
    /// The same value, as it is written.
    fn in_file(self) -> Self::InFile;
}

impl Dumped for f16 {
    type InFile = f16;
    fn in_file(self) -> f16 {
        self
    }
}

impl Dumped for bf16 {
    type InFile = f32;
    fn in_file(self) -> f32 {
        self.to_f32()
    }
}

impl Dumped for f32 {
    type InFile = f32;
    fn in_file(self) -> f32 {
        self
    }
}

impl Dumped for i8 {
    type InFile = i8;
    fn in_file(self) -> i8 {
        self
    }
}

/// The content of a file with `data` of `shape`, row-major.
fn file<T: Dumped>(data: &[T], shape: &[usize]) -> std::io::Result<Vec<u8>> {
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let mut out = Vec::new();
    let options = WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut out).begin_nd()?;
    writer.extend(data.iter().map(|value| value.in_file()))?;
    writer.finish()?;
    Ok(out)
}

/// Writes operand `name` of row `row` to `directory`.
///
/// # Errors
/// What the file system says.
pub fn dump<T: Dumped>(
    directory: &Path,
    row: usize,
    name: &str,
    data: &[T],
    shape: &[usize],
) -> Result<()> {
    let path = directory.join(format!("{row}_{name}.npy"));
    let content = file(data, shape).with_context(|| format!("writing {}", path.display()))?;
    output::write(&path, &content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::NpyFile;

    #[test]
    fn what_is_written_is_read_back() {
        let data = [1.0, -2.5, 0.0, 65504.0, f32::NAN, -0.0].map(f16::from_f32);
        let bytes = file(&data, &[2, 3]).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        let npy = NpyFile::new(&bytes[..]).unwrap();
        assert_eq!((npy.shape(), npy.dtype().descr()), (&[2, 3][..], "'<f2'".to_owned()));
        let back: Vec<f16> = npy.into_vec().unwrap();
        assert!(back.iter().zip(&data).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn outputs_of_other_types_keep_theirs() {
        let descriptor = |bytes: &[u8]| NpyFile::new(bytes).unwrap().dtype().descr();
        let bytes = file(&[1.5f32, -0.0], &[1, 2]).unwrap();
        assert_eq!(descriptor(&bytes), "'<f4'");
        let bytes = file(&[-128i8, 127], &[2, 1]).unwrap();
        assert_eq!(descriptor(&bytes), "'|i1'");
        assert_eq!(NpyFile::new(&bytes[..]).unwrap().into_vec::<i8>().unwrap(), [-128, 127]);
    }

    #[test]
    fn bf16_is_widened() {
        let bytes = file(&[bf16::from_f32(1.0e38), bf16::NEG_ONE], &[2]).unwrap();
        let npy = NpyFile::new(&bytes[..]).unwrap();
        assert_eq!((npy.shape(), npy.dtype().descr()), (&[2][..], "'<f4'".to_owned()));
        assert_eq!(npy.into_vec::<f32>().unwrap(), [bf16::from_f32(1.0e38).to_f32(), -1.0]);
    }
}
