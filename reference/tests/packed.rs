//! Pruning and packing: the ways there and back, and everything a loader must reject.

use half::{bf16, f16};
use layout::packed24::{Extents, GROUP, LEGAL_NIBBLES, is_legal, magnitude};
use proptest::prelude::*;
use reference::random::{Fill, matrix};
use reference::{Element, Error, MatMut, MatRef, Packed, prune};

fn view<T>(data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::contiguous(data, rows, cols).unwrap()
}

fn bits<T: Element>(x: &[T]) -> Vec<u16> {
    x.iter().map(|x| x.bits16()).collect()
}

fn pruned<T: Element>(w: &[T], n: usize, k: usize) -> Vec<T> {
    let mut w = w.to_vec();
    prune(&mut MatMut::contiguous(&mut w, n, k).unwrap());
    w
}

/// Any bits at all, half of the time zeros, so that groups of every kind occur.
fn any_matrix() -> impl Strategy<Value = (usize, usize, Vec<u16>)> {
    let element = prop_oneof![Just(0u16), Just(0x8000), any::<u16>(), 0x3C00u16..0x3C04];
    (0usize..40, 0usize..150).prop_flat_map(move |(n, k)| {
        (Just(n), Just(k), prop::collection::vec(element.clone(), n * k))
    })
}

fn properties<T: Element>(n: usize, k: usize, data: &[u16]) -> Result<(), TestCaseError> {
    let w: Vec<T> = data.iter().map(|&b| T::from_bits16(b)).collect();
    let sparse = pruned(&w, n, k);
    prop_assert_eq!(bits(&pruned(&sparse, n, k)), bits(&sparse), "pruning twice");
    let packed = Packed::prune_and_pack(view(&w, n, k)).unwrap();
    prop_assert_eq!(bits(&packed.unpack()), bits(&sparse), "unpacking is pruning");
    let again = Packed::pack(view(&sparse, n, k)).unwrap();
    prop_assert_eq!(bits(again.values()), bits(packed.values()));
    prop_assert_eq!(again.metadata(), packed.metadata());
    let (n, k, e) = (packed.n(), packed.k(), packed.extents());
    let (values, metadata) = packed.into_parts();
    prop_assert_eq!((values.len(), metadata.len()), (e.values(), e.words()));
    prop_assert_eq!(Packed::validate(n, k, &values, &metadata), Ok(()));

    // At most two of four, each as it was; and nothing that was dropped is larger.
    for (w, s) in w.chunks(k.max(1)).zip(sparse.chunks(k.max(1))) {
        for (w, s) in w.chunks(GROUP).zip(s.chunks(GROUP)) {
            let size = |x: &T| magnitude::<T::Format>(x.bits16());
            let kept: Vec<usize> = (0..s.len()).filter(|&i| size(&s[i]) > 0).collect();
            prop_assert!(kept.len() <= 2);
            prop_assert!(kept.iter().all(|&i| s[i].bits16() == w[i].bits16()));
            let least = kept.iter().map(|&i| size(&s[i])).min().unwrap_or(0);
            let dropped = (0..w.len()).filter(|i| !kept.contains(i)).map(|i| size(&w[i])).max();
            prop_assert!(
                kept.len() < 2 && dropped.unwrap_or(0) == 0 || dropped.unwrap_or(0) <= least
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prune_pack_and_unpack_fit_together((n, k, data) in any_matrix()) {
        properties::<f16>(n, k, &data)?;
        properties::<bf16>(n, k, &data)?;
    }
}

#[test]
fn a_strided_matrix_is_pruned_in_place() {
    let mut w = vec![f16::ONE; 2 * 9 + 6];
    prune(&mut MatMut::new(&mut w, 3, 6, 9).unwrap());
    let row = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    for (i, w) in w.iter().enumerate() {
        assert_eq!(w.to_f32(), row.get(i % 9).copied().unwrap_or(1.0), "{i}");
    }
}

#[test]
fn the_first_violation_is_named() {
    let (n, k) = (200, 150);
    let mut w = pruned(&matrix::<bf16>(Fill::Normal, 5, n, k), n, k);
    let mut spoil = |row: usize, group: usize, nonzeros: usize| {
        let start = row * k + GROUP * group;
        w[start..start + nonzeros].fill(bf16::NAN);
        w[start + nonzeros..(start + GROUP).min(row * k + k)].fill(bf16::NEG_ZERO);
        Packed::pack(view(&w, n, k)).unwrap_err()
    };
    // From the last to the first: each time the new one must be found before the others.
    for (row, group, nonzeros) in [(199, 20, 4), (150, 3, 3), (17, 36, 4), (17, 1, 3), (0, 9, 3)] {
        for _ in 0..5 {
            let found = spoil(row, group, nonzeros);
            assert_eq!(found, Error::NotTwoFour { row, group, nonzeros });
        }
    }
    let text = Error::NotTwoFour { row: 7, group: 2, nonzeros: 3 }.to_string();
    assert_eq!(text, "row 7, group 2 has 3 non-zeros, and 2:4 allows 2");
}

/// `metadata` with the nibble of (row, group) replaced.
fn with_nibble(metadata: &[u32], e: Extents, row: usize, group: usize, nibble: u8) -> Vec<u32> {
    let (word, shift) = e.nibble_position(row, group);
    let mut metadata = metadata.to_vec();
    metadata[word] = metadata[word] & !(0xF << shift) | (nibble as u32) << shift;
    metadata
}

#[test]
fn every_illegal_nibble_is_rejected_everywhere() {
    let (n, k) = (18, 70);
    let packed = Packed::prune_and_pack(view(&matrix::<f16>(Fill::Normal, 1, n, k), n, k)).unwrap();
    let e = packed.extents();
    let mut tried = 0;
    for nibble in (0..16).filter(|&nibble| !is_legal(nibble)) {
        for row in 0..e.n_padded {
            for group in 0..e.k_padded / GROUP {
                let metadata = with_nibble(packed.metadata(), e, row, group, nibble);
                let found = Packed::validate(n, k, packed.values(), &metadata).unwrap_err();
                assert_eq!(found, Error::IllegalNibble { row, group, nibble });
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 10 * 32 * 32);
}

#[test]
fn legal_nibbles_are_accepted_and_padding_is_guarded() {
    let (n, k) = (18, 70);
    let packed = Packed::prune_and_pack(view(&matrix::<f16>(Fill::Normal, 1, n, k), n, k)).unwrap();
    let (e, values) = (packed.extents(), packed.values());
    for nibble in LEGAL_NIBBLES {
        let metadata = with_nibble(packed.metadata(), e, 3, 5, nibble);
        assert_eq!(Packed::validate(n, k, values, &metadata), Ok(()));
        let padded = [(3, 18), (3, 31), (18, 0), (31, 31)];
        for (row, group) in padded {
            let metadata = with_nibble(packed.metadata(), e, row, group, nibble);
            let want = if nibble == 4 { Ok(()) } else { Err(Error::Padding { row, group }) };
            assert_eq!(Packed::validate(n, k, values, &metadata), want);
            let mut values = values.to_vec();
            values[e.value_index(row, group) + 1] = f16::ONE;
            let found = Packed::validate(n, k, &values, packed.metadata());
            assert_eq!(found, Err(Error::Padding { row, group }));
        }
    }
    // Group 17 holds columns 68 and 69 only: a value at position 2 lies beyond the row.
    let metadata = with_nibble(packed.metadata(), e, 2, 17, 0x8);
    assert_eq!(
        Packed::validate(n, k, values, &metadata),
        Err(Error::Padding { row: 2, group: 17 })
    );
}

#[test]
fn wrong_lengths_are_rejected() {
    let (n, k) = (18, 70);
    let packed = Packed::prune_and_pack(view(&matrix::<f16>(Fill::Normal, 1, n, k), n, k)).unwrap();
    let (values, metadata) = packed.into_parts();
    let length = |what, len, want| Err(Error::PackedLength { what, len, want, n, k });
    let try_parts = |values: &[f16], metadata: &[u32]| {
        Packed::from_parts(n, k, values.to_vec(), metadata.to_vec()).map(|_| ())
    };
    assert_eq!(try_parts(&values, &metadata), Ok(()));
    assert_eq!(try_parts(&values[1..], &metadata), length("values", 32 * 64 - 1, 32 * 64));
    assert_eq!(
        try_parts(&values, &[&metadata[..], &[0x4444_4444]].concat()),
        length("metadata", 129, 128)
    );
    let huge = Packed::validate(usize::MAX / 2, 64, &values, &metadata);
    assert_eq!(huge, Err(Error::PackedExtent { n: usize::MAX / 2, k: 64 }));
}
