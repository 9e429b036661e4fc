//! `.npy` files, for `--dump`.

use crate::output;
use anyhow::{Context, Result};
use half::f16;
use layout::instance::Dtype;
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use reference::Element;
use std::path::Path;

/// The content of a file with `data` of `shape`, row-major; f16 as it is, bf16 as f32.
fn file<T: Element>(data: &[T], shape: &[usize]) -> std::io::Result<Vec<u8>> {
    match T::DTYPE {
        Dtype::F16 => of(data.iter().map(|x| f16::from_bits(x.bits16())), shape),
        Dtype::Bf16 => of(data.iter().map(|x| x.to_f32()), shape),
    }
}

fn of<T: AutoSerialize>(
    data: impl Iterator<Item = T>,
    shape: &[usize],
) -> std::io::Result<Vec<u8>> {
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let mut out = Vec::new();
    let options = WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut out).begin_nd()?;
    writer.extend(data)?;
    writer.finish()?;
    Ok(out)
}

/// Writes operand `name` of row `row` to `directory`.
///
/// # Errors
/// What the file system says.
pub fn dump<T: Element>(
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
    use half::bf16;
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
    fn bf16_is_widened() {
        let bytes = file(&[bf16::from_f32(1.0e38), bf16::NEG_ONE], &[2]).unwrap();
        let npy = NpyFile::new(&bytes[..]).unwrap();
        assert_eq!((npy.shape(), npy.dtype().descr()), (&[2][..], "'<f4'".to_owned()));
        assert_eq!(npy.into_vec::<f32>().unwrap(), [bf16::from_f32(1.0e38).to_f32(), -1.0]);
    }
}
