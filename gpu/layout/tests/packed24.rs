//! Packed24 against brute force: the pruning rule, legality, and the two position maps.

use layout::packed24::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// The pruning rule by sorting, independent of `select`.
fn by_sorting(group: [u16; 4], infinity: u16) -> (usize, usize) {
    let size = |i: usize| (group[i] & 0x7FFF).min(infinity + 1);
    let nonzero: Vec<usize> = (0..4).filter(|&i| size(i) != 0).collect();
    match nonzero.as_slice() {
        [] => (0, 1),
        [3] => (0, 3),
        [i] => (*i, 3),
        many => {
            let mut order = many.to_vec();
            order.sort_by_key(|&i| (std::cmp::Reverse(size(i)), i));
            (order[0].min(order[1]), order[0].max(order[1]))
        }
    }
}

fn check<T: Float16>(group: [u16; 4]) {
    let (i, j) = by_sorting(group, T::INFINITY);
    let canonical = |b: u16| if b & 0x7FFF == 0 { 0 } else { b };
    let (nibble, values) = select::<T>(group);
    assert!(is_legal(nibble));
    assert_eq!(positions(nibble), (i, j), "{group:04x?}");
    assert_eq!(values, [canonical(group[i]), canonical(group[j])], "{group:04x?}");
}

#[test]
fn legal_nibbles_are_the_six() {
    let legal: Vec<u8> = (0..=255).filter(|&n| is_legal(n)).collect();
    let mut expected = LEGAL_NIBBLES.to_vec();
    expected.sort();
    assert_eq!(legal, expected);
    for n in legal {
        let (i, j) = positions(n);
        assert_eq!(nibble(i as u32, j as u32), n);
    }
}

#[test]
fn special_values_in_every_position() {
    // Both zeros, the smallest and largest subnormal, 1, -1, 2, the largest finite number and its
    // negative, both infinities, the smallest NaN, two quiet ones and the largest.
    let f16 = [
        0, 0x8000, 1, 0x83FF, 0x3C00, 0xBC00, 0x4000, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7C01,
        0x7E00, 0xFE00, 0xFFFF,
    ];
    let bf16 = [
        0, 0x8000, 1, 0x807F, 0x3F80, 0xBF80, 0x4000, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81,
        0x7FC0, 0xFFC0, 0xFFFF,
    ];
    for n in 0..15usize.pow(4) {
        let pick = |s: &[u16; 15]| [s[n % 15], s[n / 15 % 15], s[n / 225 % 15], s[n / 3375]];
        check::<F16>(pick(&f16));
        check::<Bf16>(pick(&bf16));
    }
}

#[test]
fn extents_reject_overflow() {
    assert_eq!(Extents::new(usize::MAX, 1), None);
    assert_eq!(Extents::new(1 << 33, 1 << 33), None);
    let e = Extents::new(17, 65).unwrap();
    assert_eq!((e.n_padded, e.k_padded, e.values(), e.words()), (32, 128, 32 * 64, 2 * 2 * 32));
    assert_eq!(Extents::new(0, 5).unwrap().values(), 0);
}

#[test]
fn every_nibble_has_its_own_place() {
    let e = Extents::new(48, 192).unwrap();
    let mut places = HashSet::new();
    let mut values = HashSet::new();
    for row in 0..e.n_padded {
        for q in 0..e.k_padded / GROUP {
            let (word, shift) = e.nibble_position(row, q);
            assert!(word < e.words() && shift % 4 == 0 && shift < 32);
            assert!(places.insert((word, shift)));
            assert!(values.insert(e.value_index(row, q)));
        }
    }
    assert_eq!(places.len(), e.words() * 8);
    assert_eq!(values.len() * 2, e.values());
    // By hand from the format: row 16 + 8 + 3, columns 64 + 16*2 + 4*1 -> block (1, 1), lane 4*3 + 2,
    // high half, second nibble.
    assert_eq!(e.nibble_position(27, 16 + 9), ((3 + 1) * 32 + 14, 20));
}

proptest! {
    #[test]
    fn any_group(group in any::<[u16; 4]>()) {
        check::<F16>(group);
        check::<Bf16>(group);
    }
}
