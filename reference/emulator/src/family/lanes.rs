//! Element-wise operations over the 32 lanes.

use crate::machine::{Action, Flow, Machine};
use crate::value::Value;
use crate::warp::{Pred, Reg};

/// `dst = f(a)`.
pub fn map<A: Value, D: Value>(
    dst: Reg,
    a: Reg,
    f: impl Fn(A) -> D + Send + Sync + 'static,
) -> Action {
    Box::new(move |m| {
        let a_lanes = m.get(a);
        let out = std::array::from_fn(|i| f(A::from_bits(a_lanes[i])).into_bits());
        m.set(dst, &out, m.poison(a));
        Ok(Flow::Next)
    })
}

/// `dst = f(a, b)`.
pub fn map2<A: Value, B: Value, D: Value>(
    dst: Reg,
    a: Reg,
    b: Reg,
    f: impl Fn(A, B) -> D + Send + Sync + 'static,
) -> Action {
    Box::new(move |m| {
        let (x, y) = (m.get(a), m.get(b));
        let out = std::array::from_fn(|i| f(A::from_bits(x[i]), B::from_bits(y[i])).into_bits());
        m.set(dst, &out, m.poison(a) | m.poison(b));
        Ok(Flow::Next)
    })
}

/// `dst = f(a, b, c)`.
pub fn map3<A: Value, B: Value, C: Value, D: Value>(
    dst: Reg,
    a: Reg,
    b: Reg,
    c: Reg,
    f: impl Fn(A, B, C) -> D + Send + Sync + 'static,
) -> Action {
    Box::new(move |m| {
        let (x, y, z) = (m.get(a), m.get(b), m.get(c));
        let out = std::array::from_fn(|i| {
            f(A::from_bits(x[i]), B::from_bits(y[i]), C::from_bits(z[i])).into_bits()
        });
        m.set(dst, &out, m.poison(a) | m.poison(b) | m.poison(c));
        Ok(Flow::Next)
    })
}

/// Predicate bits of `f(a, b)`.
#[inline(always)]
pub fn compare<A: Value>(x: &[u64; 32], y: &[u64; 32], f: impl Fn(A, A) -> bool) -> u32 {
    let mut bits = 0;
    for i in 0..32 {
        bits |= u32::from(f(A::from_bits(x[i]), A::from_bits(y[i]))) << i;
    }
    bits
}

/// The predicate as read by an operand that may be negated.
#[inline(always)]
pub fn pred_bits(m: &Machine<'_>, (pred, negated): (Pred, bool)) -> u32 {
    if negated { !m.pred(pred) } else { m.pred(pred) }
}

/// `dst = f(a, b, c)`, poison where `f` gives nothing.
pub fn map3_masked<A: Value, B: Value, C: Value, D: Value>(
    dst: Reg,
    a: Reg,
    b: Reg,
    c: Reg,
    f: impl Fn(A, B, C) -> Option<D> + Send + Sync + 'static,
) -> Action {
    Box::new(move |m| {
        let (x, y, z) = (m.get(a), m.get(b), m.get(c));
        let mut poison = m.poison(a) | m.poison(b) | m.poison(c);
        let mut out = [0; 32];
        for (i, out) in out.iter_mut().enumerate() {
            match f(A::from_bits(x[i]), B::from_bits(y[i]), C::from_bits(z[i])) {
                Some(value) => *out = value.into_bits(),
                None => poison |= 1 << i,
            }
        }
        m.set(dst, &out, poison);
        Ok(Flow::Next)
    })
}
